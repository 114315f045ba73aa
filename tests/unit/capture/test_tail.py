"""CaptureTail on a real file: what the stream holds after restarts, failures and drift."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install, request_resync, touch
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from schemas.avro import plan_of, unframe
from schemas.change import Message, Notice, Stored, TopicPartition, Watermark
from schemas.errors import Code, Refusal, TailraceError, Transient
from schemas.introspect import introspect
from schemas.model import LOG, KeyKind, Row
from schemas.names import notice_topic, topic_of, watermark_topic
from schemas.rows import RowCodec
from schemas.wire import notice_of, seq_of, watermark_of
from tests.fakes.transport import FakeTransport


def fine(messages: Sequence[Message]) -> None:
    """Nothing is in the way."""


class StillClock:
    """Time moves only when a test says so."""

    def __init__(self) -> None:
        self.ms = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return int(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class BreakingTransport(FakeTransport):
    """`before_send` may raise; nothing is appended then."""

    def __init__(self) -> None:
        super().__init__()
        self.before_send: Callable[[Sequence[Message]], None] = fine

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        self.before_send(messages)
        return super().send(messages)


class World:
    """One file, one stream, one capture; `app` is the application's own connection."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "cases.db"
        self.app = SqliteDatabase(self.path, create=True)
        self.app.run("CREATE TABLE cases(id INTEGER PRIMARY KEY, title TEXT)")
        self.app.run("CREATE TABLE tags(name TEXT PRIMARY KEY, weight)")
        self.transport = BreakingTransport()
        self.clock = StillClock()
        self.own: list[SqliteDatabase] = []
        self.said: list[tuple[str, str]] = []

    def install(self) -> None:
        install(self.app, "one", wal=True)

    def capture(self, **settings: object) -> CaptureTail:
        db = SqliteDatabase(self.path)
        self.own.append(db)
        return CaptureTail(
            SqliteSource(db, "main"),
            self.transport,
            TopicRegistry(self.transport, "tr.schemas"),
            self.clock,
            CaptureSettings("tr", "main", **settings),  # type: ignore[arg-type]
            say=lambda action, text: self.said.append((action, text)),
        )

    def stored(self, topic: str) -> list[Stored]:
        if topic not in self.transport.topics(topic):
            return []
        return self.transport.fetch({TopicPartition(topic, 0): (0, None)}).messages

    def watermarks(self) -> list[Watermark]:
        return [watermark_of(one) for one in self.stored(watermark_topic("tr", "main"))]

    def notices(self) -> list[Notice]:
        return [notice_of(one) for one in self.stored(notice_topic("tr", "main"))]

    def records(self, table: str) -> list[Stored]:
        return self.stored(topic_of("tr", "main", table))

    def rows(self, table: str) -> list[Row | None]:
        """Values of the records of one table, decoded; None is a tombstone."""
        registry = TopicRegistry(self.transport, "tr.schemas")
        result: list[Row | None] = []
        for one in self.records(table):
            if one.value is None:
                result.append(None)
                continue
            schema_id, payload = unframe(one.value)
            result += RowCodec(plan_of(registry.schema(schema_id))).decode_rows([payload])
        return result

    def head(self) -> int:
        return int(self.app.rows(f"SELECT max(seq) FROM {LOG}")[0][0])


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    one = World(tmp_path)
    yield one
    for db in [one.app, *one.own]:
        db.close()


def settle(capture: CaptureTail) -> None:
    for _ in range(200):
        if not capture.step():
            return
    raise AssertionError("capture does not come to rest")


def busy(messages: Sequence[Message]) -> None:
    raise Transient(Code.STREAM_BUSY, "not now")


def test_label_below_the_state(world: World) -> None:
    """A row read late carries the head of its view as label, not the seq of its own entry."""
    world.install()
    capture = world.capture(batch_rows=1)
    settle(capture)
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    first = world.head()
    world.app.run("UPDATE cases SET title = 'b' WHERE id = 1")
    head = world.head()
    capture.step()
    assert [head] == [seq_of(one) for one in world.records("cases")]
    assert first < head
    settle(capture)
    assert head == world.watermarks()[-1].seq
    assert [(1, "b"), (1, "b")] == world.rows("cases")


def test_no_watermark_before_the_head_is_reached(world: World) -> None:
    world.install()
    capture = world.capture(batch_rows=2)
    settle(capture)
    before = len(world.watermarks())
    with world.app.write():
        for number in range(5):
            world.app.run("INSERT INTO cases VALUES (?, 'x')", (number,))
    assert capture.step()
    assert capture.step()
    assert before == len(world.watermarks())
    settle(capture)
    assert [world.head()] == [one.seq for one in world.watermarks()[before:]]


def test_a_failed_send_is_tried_again_without_a_new_commit(world: World) -> None:
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    world.transport.before_send = busy
    with pytest.raises(Transient):
        capture.step()
    world.transport.before_send = fine
    settle(capture)
    assert [(1, "a")] == world.rows("cases")
    assert world.head() == world.watermarks()[-1].seq


def test_a_failed_watermark_is_written_by_the_next_step(world: World) -> None:
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    topic = watermark_topic("tr", "main")

    def refuse(messages: Sequence[Message]) -> None:
        if messages[0].topic == topic:
            busy(messages)

    world.transport.before_send = refuse
    with pytest.raises(Transient):
        capture.step()
    world.transport.before_send = fine
    settle(capture)
    last = world.watermarks()[-1]
    assert (world.head(), False) == (last.seq, last.heartbeat)


def test_a_resync_asked_for_survives_a_failing_registry(world: World) -> None:
    """Adopting a new plan fails half-way: the COPY notice is still owed."""
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("ALTER TABLE cases ADD COLUMN opened TEXT")
    request_resync(world.app, "tags")
    world.transport.before_send = busy
    for _ in range(3):
        with pytest.raises(Transient):
            capture.step()
    world.transport.before_send = fine
    settle(capture)
    assert ("tags", 2) in [(one.table, one.generation) for one in world.notices()]


def test_a_restart_inside_the_process_forgets_the_entry_it_read_last(world: World) -> None:
    """A capture that stood still while another went on and pruned must not put its old digest on a new watermark."""
    world.install()
    stale = world.capture()
    settle(stale)
    fresh = world.capture(prune_every_ms=0)
    for number in range(20):
        world.app.run("INSERT INTO cases VALUES (?, 'x')", (number,))
        settle(fresh)
    with pytest.raises(TailraceError) as gap:
        settle(stale)
    assert Code.LOG_GAP == gap.value.code
    world.clock.ms += 10_000
    settle(stale)
    world.clock.ms += 10_000
    settle(stale)
    settle(world.capture())
    assert world.head() == world.watermarks()[-1].seq


def test_watermark_ends_are_not_listed_at_watermark_time(world: World) -> None:
    """Records that a stale process appends lie beyond our watermark's ends."""
    world.install()
    capture = world.capture()
    settle(capture)
    topic = topic_of("tr", "main", "cases")
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    settle(capture)
    world.transport.send([Message(topic, b"stale", None, (("seq", b"999"),), partition=0)])
    world.clock.ms += 10_000
    settle(capture)
    assert 1 == world.watermarks()[-1].ends[topic][0]


def test_start_goes_on_from_the_last_watermark(world: World) -> None:
    world.install()
    first = world.capture()
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    settle(first)
    sent = len(world.records("cases"))
    world.app.run("INSERT INTO cases VALUES (2, 'b')")
    settle(world.capture())
    assert [(2, "b")] == world.rows("cases")[sent:]


def test_heartbeats_move_only_time(world: World) -> None:
    world.install()
    capture = world.capture()
    settle(capture)
    before = world.watermarks()[-1]
    world.clock.ms += 5_000
    settle(capture)
    beat = world.watermarks()[-1]
    assert (before.seq, before.digest, True) == (beat.seq, beat.digest, beat.heartbeat)
    assert before.captured_at_ms + 5_000 == beat.captured_at_ms


def test_every_generation_is_announced_once(world: World) -> None:
    world.install()
    settle(world.capture())
    settle(world.capture())
    request_resync(world.app, "tags")
    settle(world.capture())
    assert [("cases", 1), ("tags", 1), ("tags", 2)] == [(one.table, one.generation) for one in world.notices()]


def test_a_dropped_table_is_said_to_be_gone_once(world: World) -> None:
    world.install()
    settle(world.capture())
    world.app.run("DROP TABLE tags")
    settle(world.capture())
    settle(world.capture())
    assert [("tags", "gone")] == [(one.table, one.kind) for one in world.notices()[2:]]


def test_added_column_flows_on_without_a_copy(world: World) -> None:
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("ALTER TABLE cases ADD COLUMN opened")
    world.app.run("INSERT INTO cases VALUES (1, 'a', 7)")
    settle(capture)
    assert [(1, "a", 7)] == world.rows("cases")
    assert ["copy", "copy", "shape"] == [notice.kind for notice in world.notices()]


def test_a_null_that_arrives_in_a_declared_key_resyncs_the_table(world: World) -> None:
    """`name TEXT PRIMARY KEY` without NOT NULL may come to hold NULLs, which no equality finds."""
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO tags VALUES ('red', 1)")
    world.app.run("INSERT INTO tags VALUES (NULL, 2)")
    settle(capture)
    assert ("tags", 2) in [(one.table, one.generation) for one in world.notices()]
    key = introspect(world.app).tables["tags"].key
    assert KeyKind.ROWID == key.kind
    # From now on the rowid names the row.
    world.app.run("UPDATE tags SET weight = 3 WHERE name IS NULL")
    settle(capture)
    assert (2, None, 3) == world.rows("tags")[-1]


def test_entries_logged_under_the_former_key_are_not_read_as_rowids(world: World) -> None:
    """The copy owed covers them; read as rowids they would be tombstones of keys that never were."""
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO tags VALUES ('red', 1)")
    world.app.run("INSERT INTO tags VALUES (NULL, 2)")
    settle(capture)
    assert [] == [row for row in world.rows("tags") if row is None]


def test_a_null_key_that_came_and_went_does_not_stop_capture(world: World) -> None:
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO tags VALUES (NULL, 2)")
    world.app.run("DELETE FROM tags")
    settle(capture)
    assert world.head() == world.watermarks()[-1].seq
    assert 2 == len(world.notices())


def test_a_null_key_that_arrives_while_capture_is_down(world: World) -> None:
    """The file says another key than the triggers: what they logged must not be read as rowids."""
    world.install()
    settle(world.capture())
    world.app.run("INSERT INTO tags VALUES ('red', 1)")
    world.app.run("INSERT INTO tags VALUES (NULL, 2)")
    capture = world.capture()
    settle(capture)
    assert ("tags", 2) in [(one.table, one.generation) for one in world.notices()]
    assert [] == world.rows("tags")
    world.app.run("UPDATE tags SET weight = 3")
    settle(capture)
    assert [(1, "red", 3), (2, None, 3)] == world.rows("tags")


def test_a_null_key_that_leaves_while_capture_is_down(world: World) -> None:
    """Triggers logged rowids; read as names they would be tombstones, and the rows would be lost."""
    world.app.run("INSERT INTO tags VALUES (NULL, 2)")
    world.install()
    settle(world.capture())
    world.app.run("UPDATE tags SET name = 'blue', weight = 7")
    capture = world.capture()
    settle(capture)
    assert ("tags", 2) in [(one.table, one.generation) for one in world.notices()]
    assert [] == world.rows("tags")
    world.app.run("UPDATE tags SET weight = 8")
    settle(capture)
    assert [("blue", 8)] == world.rows("tags")


def test_a_rebuild_leaves_out_tables_that_only_the_whole_row_names(world: World) -> None:
    world.app.run("CREATE TABLE odd(rowid, oid, _rowid_)")
    install(world.app, "one", wanted=["cases", "tags"], wal=True)
    capture = world.capture()
    settle(capture)
    world.app.run("CREATE TABLE more(x)")
    settle(capture)
    assert {"cases", "tags", "more"} == {one.table for one in world.notices()}


def test_a_chunk_is_bounded_by_bytes(world: World) -> None:
    world.install()
    capture = world.capture(batch_bytes=100_000)
    settle(capture)
    with world.app.write():
        for number in range(1000):
            world.app.run("INSERT INTO cases VALUES (?, ?)", (number, "x" * 1000))
    assert capture.step()
    first = len(world.records("cases"))
    assert 100 <= first < 400
    settle(capture)
    assert list(range(1000)) == [row[0] for row in world.rows("cases") if row is not None]


def test_a_row_above_the_limit_is_quarantined_by_key(world: World) -> None:
    world.install()
    capture = world.capture(max_row_bytes=500)
    settle(capture)
    world.app.run("INSERT INTO cases VALUES (1, ?), (2, 'small')", ("x" * 1000,))
    settle(capture)
    assert [(2, "small")] == world.rows("cases")
    (kept,) = [one for one in world.notices() if one.kind == "quarantine"]
    assert ("main", "cases", world.head()) == (kept.source, kept.table, kept.seq)


def test_key_that_became_its_equal(world: World) -> None:
    """1 was logged and the row is 1.0 now: the tombstone of 1 is followed by the row that SQLite calls equal."""
    world.app.run("CREATE TABLE loose(k PRIMARY KEY, v) WITHOUT ROWID")
    world.app.run("INSERT INTO loose VALUES ('t', 0)")
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO loose VALUES (1, 'a')")
    world.app.run("UPDATE loose SET k = 1.0 WHERE k = 1")
    settle(capture)
    rows = world.rows("loose")
    assert (1.0, "a") == rows[-1]
    assert float is type(rows[-1][0])  # type: ignore[index]
    assert None in rows[:-1]


def test_a_value_that_does_not_fit_widens_and_goes_on(world: World) -> None:
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    world.app.run("CREATE TABLE sums(id INTEGER PRIMARY KEY, cents INTEGER)")
    world.app.run("INSERT INTO sums VALUES (1, 5)")
    world.install()
    capture = world.capture()
    settle(capture)
    world.app.run("INSERT INTO sums VALUES (2, 'about ten'), (3, x'00ff'), (4, 1.5)")
    settle(capture)
    assert [(2, "about ten"), (3, b"\x00\xff"), (4, 1.5)] == world.rows("sums")


def test_touch_sends_the_row_again(world: World) -> None:
    world.install()
    capture = world.capture()
    world.app.run("INSERT INTO cases VALUES (1, 'a')")
    settle(capture)
    before = len(world.records("cases"))
    touch(world.app, introspect(world.app).tables["cases"], 1, [(1,), (9,)])
    settle(capture)
    assert sorted([(1, "a"), None], key=str) == sorted(world.rows("cases")[before:], key=str)


def test_an_older_copy_is_refused(world: World, tmp_path: Path) -> None:
    world.install()
    older = tmp_path / "older.db"
    world.app.backup(older)
    for number in range(5):
        world.app.run("INSERT INTO cases VALUES (?, 'x')", (number,))
    settle(world.capture())
    world.path = older
    with pytest.raises(Refusal) as refused:
        settle(world.capture())
    assert Code.SOURCE_REPLACED == refused.value.code
    assert "tailrace reset main" in refused.value.hint


def test_an_older_copy_that_was_written_past_the_position_is_refused(world: World, tmp_path: Path) -> None:
    world.install()
    older = tmp_path / "older.db"
    world.app.backup(older)
    world.app.run("INSERT INTO cases VALUES (1, 'x')")
    settle(world.capture())
    world.path = older
    fork = SqliteDatabase(older)
    world.own.append(fork)
    fork.run("INSERT INTO cases VALUES (2, 'y')")
    fork.run("INSERT INTO cases VALUES (3, 'y')")
    with pytest.raises(Refusal) as refused:
        settle(world.capture())
    assert Code.SOURCE_FORKED == refused.value.code
