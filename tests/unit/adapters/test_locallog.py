"""The local log beyond the port: compaction, errors by name, and the races of two processes on one file."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from schemas.change import Message, TopicPartition
from schemas.errors import Code, Failed, Transient
from schemas.ports import TopicSettings

T0 = TopicPartition("t", 0)
LATER_MS = 1 << 45
"""Far above any time stamp that a test writes."""


@pytest.fixture
def log(tmp_path: Path) -> Iterator[LocalLog]:
    made = LocalLog(tmp_path / "stream.db")
    made.create_topics({"t": TopicSettings(min_compaction_lag_ms=1000), "whole": TopicSettings(compacted=False)})
    yield made
    made.close()


def _send(log: LocalLog, *pairs: tuple[bytes | None, bytes | None], topic: str = "t") -> None:
    log.send([Message(topic, key, value) for key, value in pairs])


def _offsets(log: LocalLog, topic: str = "t") -> list[int]:
    return [one.offset for one in log.fetch({TopicPartition(topic, 0): (0, None)}).messages]


def test_compaction_keeps_the_last_of_every_key_and_what_has_no_key(log: LocalLog) -> None:
    _send(log, (b"a", b"1"), (b"b", b"1"), (None, b"x"), (None, b"y"), (b"a", b"2"), (b"a", b"3"))
    assert log.compact(LATER_MS, batch_rows=1) == 2
    assert _offsets(log) == [1, 2, 3, 5]
    assert log.compact(LATER_MS) == 0


def test_compaction_spares_the_young(log: LocalLog) -> None:
    _send(log, (b"a", b"1"), (b"a", b"2"))
    written_ms = log.fetch({T0: (0, None)}).messages[0].timestamp_ms
    assert log.compact(written_ms + 999) == 0
    assert _offsets(log) == [0, 1]


def test_a_tombstone_outlives_its_key_by_the_retention(log: LocalLog) -> None:
    _send(log, (b"a", b"1"), (b"a", None), (b"b", b"1"))
    assert log.compact(LATER_MS, delete_retention_ms=LATER_MS) == 1
    assert _offsets(log) == [1, 2]
    assert log.compact(LATER_MS) == 1
    assert _offsets(log) == [2]


def test_an_unbounded_fetch_passes_a_compacted_tail_and_names_a_wrong_partition(log: LocalLog) -> None:
    _send(log, (b"b", b"1"), (b"a", None))
    log.compact(LATER_MS)
    assert _offsets(log) == [0]
    assert log.fetch({T0: (0, None)}).next == {T0: 2}
    with pytest.raises(Failed):
        log.fetch({TopicPartition("t", 9): (0, None)})


def test_a_topic_that_is_not_compacted_keeps_all(log: LocalLog) -> None:
    _send(log, (b"a", b"1"), (b"a", b"2"), topic="whole")
    assert log.compact(LATER_MS) == 0
    assert _offsets(log, "whole") == [0, 1]


def test_a_compacted_tail_of_a_bounded_range_is_passed(log: LocalLog) -> None:
    _send(log, (b"a", b"1"), (b"b", b"1"), (b"b", b"2"))
    log.compact(LATER_MS)
    fetched = log.fetch({T0: (0, 2)})
    assert [one.offset for one in fetched.messages] == [0]
    assert fetched.next == {T0: 2}
    assert log.ends(["t"]) == {"t": {0: 3}}


def test_append_between_messages_and_end(log: LocalLog, tmp_path: Path) -> None:
    """A writer commits between the range scan and the reading of the end: nothing of it may be stepped over."""
    other = LocalLog(tmp_path / "stream.db")
    _send(other, (b"a", b"1"))
    appended: list[str] = []

    def append_before_the_end_is_read(sql: str) -> None:
        if sql.startswith("SELECT next FROM ends") and not appended:
            appended.append(sql)
            _send(other, (b"b", b"1"))

    log._db.set_trace_callback(append_before_the_end_is_read)
    fetched = log.fetch({T0: (0, 9)})
    log._db.set_trace_callback(None)
    other.close()
    assert len(appended) == 1
    assert [one.offset for one in fetched.messages] == [0]
    assert fetched.next == {T0: 1}


def test_a_busy_writer_is_transient_and_a_wrong_partition_is_named(tmp_path: Path) -> None:
    log = LocalLog(tmp_path / "busy.db", timeout_s=0.01)
    log.create_topics({"t": TopicSettings()})
    blocker = sqlite3.connect(tmp_path / "busy.db", isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    with pytest.raises(Transient) as busy:
        _send(log, (b"a", b"1"))
    blocker.close()
    with pytest.raises(Failed) as wrong:
        log.send([Message("t", b"a", b"1", partition=5)])
    log.close()
    assert (busy.value.code, wrong.value.code) == (Code.STREAM_BUSY, Code.TOPIC_MISMATCH)


def test_a_full_disk_fails_whole(log: LocalLog) -> None:
    pages = log._db.execute("PRAGMA page_count").fetchone()[0]
    log._db.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(Failed) as caught:
        _send(log, *[(b"k", b"x" * 3000)] * 50)
    assert caught.value.code == Code.STREAM_FULL
    assert log.ends(["t"]) == {"t": {0: 0}}
    assert _offsets(log) == []


def test_a_file_that_is_no_database_fails(tmp_path: Path) -> None:
    (tmp_path / "bad.db").write_bytes(b"not a database at all" * 100)
    with pytest.raises(Failed):
        LocalLog(tmp_path / "bad.db")


def test_a_waiting_reader_wakes_for_another_connection(log: LocalLog, tmp_path: Path) -> None:
    def write() -> None:
        other = LocalLog(tmp_path / "stream.db")
        _send(other, (b"a", b"1"))
        other.close()

    writer = threading.Timer(0.05, write)
    writer.start()
    fetched = log.fetch({T0: (0, None)}, timeout_s=5.0)
    writer.join()
    assert [one.offset for one in fetched.messages] == [0]


def test_two_writers_share_one_partition_without_gaps(tmp_path: Path, log: LocalLog) -> None:
    placed: list[int] = []

    def write() -> None:
        other = LocalLog(tmp_path / "stream.db")
        for _ in range(20):
            placed.extend(offset for _, offset in other.send([Message("t", b"k", b"v")] * 5))
        other.close()

    writers = [threading.Thread(target=write) for _ in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert sorted(placed) == list(range(200))
    assert _offsets(log) == list(range(200))
    assert log.size_bytes() > 0
