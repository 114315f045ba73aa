"""The change log grows in the application's own file: what is said, what is done, and the way back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import accept_history, install
from capture.limits import ENTRY_BYTES, Growth, LogLimits, growth
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from ops.clock import SystemClock
from schemas.change import NoticeKind, TopicPartition
from schemas.errors import Code, Refusal, Transient
from schemas.ports import TopicSettings
from schemas.wire import notice_of
from tests.fakes.transport import FakeTransport

PLENTY = 1 << 40
OWN = "SELECT count(*) FROM sqlite_master WHERE type = 'trigger' AND name LIKE '\\_tailrace\\_%' ESCAPE '\\'"


@pytest.mark.parametrize(
    ("entries", "free_bytes", "expected"),
    [
        (49, PLENTY, Growth.FINE),
        (50, PLENTY, Growth.HALF),
        (99, PLENTY, Growth.HALF),
        (100, PLENTY, Growth.OVER),
        (2, 2000, Growth.FINE),
        (2, 1999, Growth.HALF),
        (2, 1000, Growth.HALF),
        (2, 999, Growth.OVER),
        (1, 999, Growth.HALF),
    ],
)
def test_half_is_said_and_the_limit_is_reached_at_its_value(entries: int, free_bytes: int, expected: Growth) -> None:
    limits = LogLimits(max_log_bytes=100 * ENTRY_BYTES, min_free_bytes=1000)
    assert expected == growth(limits, log_bytes=entries * ENTRY_BYTES, free_bytes=free_bytes)


def test_a_disk_that_others_fill_does_not_cost_a_small_log() -> None:
    assert Growth.HALF == growth(LogLimits(), log_bytes=40_000, free_bytes=0)
    assert Growth.OVER == growth(LogLimits(), log_bytes=20_000_000, free_bytes=0)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    one.run("CREATE TABLE cases(id INTEGER PRIMARY KEY)")
    install(one, "one", wal=True)
    yield one
    one.close()


class Captures:
    """Captures of one file over one stream, one after the other."""

    def __init__(self, db: SqliteDatabase) -> None:
        self._db = db
        self.transport = FakeTransport()
        self.said: list[str] = []

    def run(self, limits: LogLimits) -> None:
        capture = CaptureTail(
            SqliteSource(self._db, "main"),
            self.transport,
            TopicRegistry(self.transport, "tr.schemas"),
            SystemClock(),
            CaptureSettings("tr", "main", limits=limits),
            say=lambda *told: self.said.append(told[0]),
        )
        for _ in range(100):
            if not capture.step():
                return
        raise AssertionError("capture does not come to rest")

    def copies(self) -> int:
        found = self.transport.fetch({TopicPartition("tr.main.notices", 0): (0, None)}).messages
        return len([one for one in found if notice_of(one).kind is NoticeKind.COPY])


def write(db: SqliteDatabase, first: int, count: int) -> None:
    with db.write():
        for number in range(first, first + count):
            db.run("INSERT INTO cases VALUES (?)", (number,))


def test_at_the_limit_the_application_lives_and_the_hint_leads_back(db: SqliteDatabase) -> None:
    limits = LogLimits(max_log_bytes=20 * ENTRY_BYTES, min_free_bytes=0)
    captures = Captures(db)
    captures.run(limits)
    write(db, 0, 50)
    with pytest.raises(Refusal) as refused:
        captures.run(limits)
    assert Code.LOG_LIMIT == refused.value.code
    assert [(0,)] == db.rows(OWN)
    write(db, 100, 50)
    # Starting again does not help: the log is as full as it was, and what it lacks can only come by a copy.
    with pytest.raises(Refusal):
        captures.run(limits)
    assert [(0,)] == db.rows(OWN)
    assert "tailrace reset main --accept-history" in refused.value.hint
    # What that command does: the log begins anew above everything known, and every table is copied again.
    accept_history(db, 1000)
    captures.run(limits)
    assert db.rows(OWN) > [(0,)]
    assert 2 == captures.copies()


def test_keep_says_so_and_goes_on(db: SqliteDatabase) -> None:
    limits = LogLimits(max_log_bytes=20 * ENTRY_BYTES, min_free_bytes=0, detach=False)
    captures = Captures(db)
    captures.run(limits)
    write(db, 0, 50)
    captures.run(limits)
    assert "capture.log_growth" in captures.said
    assert db.rows(OWN) > [(0,)]


def test_long_keys_weigh_what_they_are(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE names(name TEXT PRIMARY KEY NOT NULL)")
    install(db, "one", wal=True)
    source = SqliteSource(db, "main")
    db.run("INSERT INTO names VALUES (?)", ("n" * 5000,))
    with source.view() as view:
        assert 5000 // view.head() <= view.log_bytes() // view.head() - ENTRY_BYTES
        assert 5000 <= view.log_bytes()


class Away(FakeTransport):
    """A stream that cannot be reached."""

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        raise Transient(Code.STREAM_BUSY, "away", hint="later")


def test_the_log_is_watched_while_the_stream_is_away(db: SqliteDatabase) -> None:
    limits = LogLimits(max_log_bytes=20 * ENTRY_BYTES, min_free_bytes=0)
    transport = Away()
    capture = CaptureTail(
        SqliteSource(db, "main"),
        transport,
        TopicRegistry(FakeTransport(), "tr.schemas"),
        SystemClock(),
        CaptureSettings("tr", "main", limits=limits),
    )
    with pytest.raises(Transient):
        capture.step()
    write(db, 0, 50)
    capture._watch._looked_at_ms = 0
    with pytest.raises(Refusal) as refused:
        capture.step()
    assert Code.LOG_LIMIT == refused.value.code
    assert [(0,)] == db.rows(OWN)
