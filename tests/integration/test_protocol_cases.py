"""Each case that breaks a naive version of the protocol, by name, on a real target."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import sink.tail
from adapters.postgres import Postgres
from capture.install import request_resync, touch
from schemas.change import Message, Stored, TableState, TopicPartition
from schemas.errors import Code, Superseded, TailraceError, Transient, Unknown
from tests.fakes.transport import FakeTransport
from tests.small import Small

T = "CREATE TABLE t(id INTEGER PRIMARY KEY, v)"


@pytest.fixture
def small(tmp_path: Path, database_url: str) -> Iterator[Callable[..., Small]]:
    made: list[Small] = []

    def make(*ddl: str, batch_rows: int = 100) -> Small:
        made.append(Small(tmp_path, database_url, *(ddl or (T,)), batch_rows=batch_rows))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_zombie_sink_moves_applied_back(small: Callable[..., Small]) -> None:
    """A sink lost its session, another took over and went on; the first wakes up with an old cut in its hands."""
    world = small()
    world.run("INSERT INTO t VALUES (1, 'old')")
    world.settle()
    zombie, session = world.sink, world.session
    world.run("UPDATE t SET v = 'older'")
    while world.capture.step():
        pass
    session.close()
    world.sink = world.new_sink("two")
    world.run("UPDATE t SET v = 'new'")
    world.settle()
    before = world.progress()
    with pytest.raises(TailraceError) as lost:
        for _ in range(5):
            zombie.step()
    assert lost.value.code in (Code.PROGRESS_LOST, Code.SINK_OWNED)
    assert before == world.progress()
    assert [("new",)] == world.rows("SELECT v FROM s.t")


def test_zombie_apply_itself_loses_its_compare_and_set(small: Callable[..., Small]) -> None:
    """Not the look before the apply protects, but the first statement of the apply."""
    world = small()
    world.run("INSERT INTO t VALUES (1, 1)")
    world.settle()
    stale = world.progress()
    world.run("UPDATE t SET v = 2")
    world.settle()
    (watermark,) = world.sink._watermarks[-1:]
    with pytest.raises(Superseded):
        world.sink._target.apply(stale, watermark, offsets={}, tables={}, notices=[], now_ms=0)
    assert [(2,)] == world.rows("SELECT v FROM s.t")


def test_held_table_loses_a_change(small: Callable[..., Small]) -> None:
    """While t is copied, z moves `applied` on; t's own changes in between must still be applied: floors are per table."""
    world = small(T, "CREATE TABLE z(id INTEGER PRIMARY KEY, v)")
    world.run(*(f"INSERT INTO t VALUES ({number}, 0)" for number in range(30)))
    world.settle()
    request_resync(world.app, "t")
    while world.capture.step():
        pass
    world.sink.step()
    world.sink.step()
    assert world.progress().tables["t"].state.held
    for number in range(30):
        world.run(f"UPDATE t SET v = {number + 1} WHERE id = {number}", f"INSERT INTO z VALUES ({number}, 1)")
        world.capture.step()
        world.sink.step()
    assert world.progress().applied > world.progress().tables["t"].floor
    assert not world.progress().consistent
    world.settle()
    assert [(number + 1,) for number in range(30)] == world.rows("SELECT v FROM s.t ORDER BY id")
    assert world.verification.run().clean


def test_hold_too_late(small: Callable[..., Small]) -> None:
    """The floor is read before the first chunk's view: a change between the two is applied again, never lost."""
    world = small()
    world.run("INSERT INTO t VALUES (1, 1), (2, 2)")
    while world.capture.step():
        pass
    for _ in range(5):
        world.sink.step()
    while world.progress().tables.get("t") is None or world.progress().tables["t"].state is not TableState.COPYING:
        world.copy.step()
        world.sink.step()
    floor = world.progress().tables["t"].floor
    world.run("UPDATE t SET v = 10 WHERE id = 1", "DELETE FROM t WHERE id = 2", "INSERT INTO t VALUES (3, 3)")
    world.settle()
    assert world.progress().tables["t"].last_head > floor
    assert [(1, 10), (3, 3)] == world.rows("SELECT id, v FROM s.t ORDER BY id")


def test_swapped_unique_values(small: Callable[..., Small]) -> None:
    world = small("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)")
    world.run("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')")
    world.settle()
    world.run("BEGIN", "UPDATE t SET u = 'x' WHERE id = 1", "UPDATE t SET u = 'a' WHERE id = 2")
    world.run("UPDATE t SET u = 'b' WHERE id = 1", "COMMIT", "INSERT OR REPLACE INTO t VALUES (9, 'c')")
    world.settle()
    assert [(1, "b"), (2, "a"), (9, "c")] == world.rows("SELECT id, u FROM s.t ORDER BY id")
    assert 0 == world.progress().tables["t"].quarantined


def test_unique_violation_against_an_untouched_key_is_divergence(small: Callable[..., Small]) -> None:
    """Somebody wrote to the target: the row goes to quarantine and shows; repair through the stream mends it."""
    world = small("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)")
    world.run("INSERT INTO t VALUES (1, 'a')")
    world.settle()
    world.target.run("INSERT INTO s.t VALUES (77, 'taken')")
    world.run("INSERT INTO t VALUES (2, 'taken')", "INSERT INTO t VALUES (3, 'free')")
    for _ in range(10):
        world.capture.step()
        world.sink.step()
    assert 1 == world.progress().tables["t"].quarantined
    assert not world.progress().consistent
    assert [(1,), (3,), (77,)] == world.rows("SELECT id FROM s.t ORDER BY id")
    report = world.verification.run()
    assert not report.clean
    table = world.source().database().tables["t"]
    touch(world.app, table, 1, [(77,), (2,)])
    world.settle()
    assert 0 == world.progress().tables["t"].quarantined
    assert [(1,), (2,), (3,)] == world.rows("SELECT id FROM s.t ORDER BY id")


def test_heartbeat_only_moves_offsets_and_time(small: Callable[..., Small]) -> None:
    world = small()
    world.run("INSERT INTO t VALUES (1, 1)")
    world.settle()
    before = world.progress()
    for _ in range(200):
        world.capture.step()
        world.sink.step()
    after = world.progress()
    assert before.applied == after.applied
    assert after.captured_at_ms > before.captured_at_ms
    assert after.consistent


def test_watermark_ends_are_not_listed_at_watermark_time(small: Callable[..., Small]) -> None:
    """A stale capture appends after our read and before our watermark: its record must not lie under it."""
    world = small()
    world.run("INSERT INTO t VALUES (1, 'one')")
    world.settle()
    stale = world.new_capture()
    stale.step()
    world.run("UPDATE t SET v = 'two'")
    stale.step()
    ends = world.capture._publisher.ends["p.s.t-t"][0]
    assert ends < world.transport.ends(["p.s.t-t"])["p.s.t-t"][0]
    world.run("UPDATE t SET v = 'three'")
    world.settle()
    assert [("three",)] == world.rows("SELECT v FROM s.t")


def test_rewind_is_not_consistent(small: Callable[..., Small]) -> None:
    """After the sink was set back, nothing below the highest seq it ever applied is called consistent."""
    world = small(batch_rows=1)
    world.run("INSERT INTO t VALUES (1, 1)")
    world.settle()
    first = world.progress()
    for number in range(5):
        world.run(f"UPDATE t SET v = {number}")
        world.settle()
    highest = world.progress().applied
    world.target.run(
        "UPDATE tailrace.progress SET applied = %s, consistent = false WHERE source = 's'", (first.applied,)
    )
    world.sink._watermarks = [one for one in world.sink._watermarks if one.seq < highest]
    world.sink._next_watermark = 1 << 40
    world.sink.step()
    middle = world.progress()
    assert middle.applied < highest
    assert not middle.consistent
    world.sink._next_watermark = 0
    world.settle()
    assert highest <= world.progress().applied


def test_lost_commit_reply(small: Callable[..., Small]) -> None:
    """The connection dies during COMMIT: done or not done is read from the target, not guessed; nothing twice."""
    world = small()
    world.run("INSERT INTO t VALUES (1, 1)")
    world.settle()
    writer = world.sink._target
    real = writer.apply

    def apply_and_lose_the_reply(*arguments: object, **named: object) -> None:
        writer.apply = real  # type: ignore[method-assign]
        real(*arguments, **named)  # type: ignore[arg-type]
        world.session.close()
        raise Unknown(Code.TARGET_UNREACHABLE, "the connection was lost during COMMIT", hint="progress is read")

    writer.apply = apply_and_lose_the_reply  # type: ignore[method-assign]
    world.run("UPDATE t SET v = v + 1")
    while world.capture.step():
        pass
    with pytest.raises(Unknown):
        for _ in range(5):
            world.sink.step()
    world.settle()
    assert [(2,)] == world.rows("SELECT v FROM s.t")


def test_connection_lost_at_commit_is_unknown(database_url: str) -> None:
    session, admin = Postgres(database_url, application_name="victim"), Postgres(database_url, application_name="admin")
    try:
        session.run("CREATE TABLE x(a int)")
        with pytest.raises((Unknown, Transient)) as lost, session.transaction():
            session.run("INSERT INTO x VALUES (1)")
            admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'victim'")
        assert isinstance(lost.value, Unknown)
        assert [(0,)] == session.rows("SELECT count(*) FROM x")
    finally:
        session.close()
        admin.close()


def test_stream_that_lost_its_end_is_refused(small: Callable[..., Small]) -> None:
    world = small()
    world.run("INSERT INTO t VALUES (1, 1)")
    world.settle()
    world.run("UPDATE t SET v = 2")
    world.settle()
    world.transport._messages[TopicPartition("p.s.t-t", 0)].clear()
    world.session.close()
    world.sink = world.new_sink("two")
    with pytest.raises(TailraceError) as refused:
        world.sink.step()
    assert Code.STREAM_REWOUND == refused.value.code


def test_readers_never_see_an_empty_table(small: Callable[..., Small]) -> None:
    """A snapshot opened before the resync's merge and read after it sees the rows as they were."""
    world = small()
    world.run(*(f"INSERT INTO t VALUES ({number}, 0)" for number in range(20)))
    world.settle()
    reader = world.postgres()
    request_resync(world.app, "t")
    world.run("UPDATE t SET v = 'text now'")
    with reader.snapshot():
        reader.rows("SELECT 1 FROM tailrace.progress")
        world.settle()
        assert [(20,)] == reader.rows("SELECT count(*) FROM s.t")
    assert [(20,)] == reader.rows("SELECT count(*) FROM s.t WHERE v::text LIKE '%text now%'")


class _Held:
    """A transport whose appends arrive much later: a sender that was stopped between its read and its send."""

    def __init__(self, real: FakeTransport) -> None:
        self._real = real
        self.held: list[Message] = []

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        self.held += messages
        raise Transient(Code.STREAM_BUSY, "on its way", hint="later")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _old_record_after_a_new_one(world: Small) -> list[tuple[object, ...]]:
    """A stale capture's record of key 1 arrives behind the newer one, within one cut; returns what the target shows."""
    world.run("INSERT INTO t VALUES (1, 'first'), (2, 'other')")
    world.settle()
    stale = world.new_capture()
    while stale.step():
        pass
    world.run("UPDATE t SET v = 'old' WHERE id = 1")
    held = _Held(world.transport)
    stale._publisher._transport = held  # type: ignore[assignment]
    with pytest.raises(Transient):
        stale.step()
    world.run("UPDATE t SET v = 'new' WHERE id = 1")
    while world.capture.step():
        pass
    world.transport.send([one for one in held.held if one.topic == "p.s.t-t"])
    world.run("UPDATE t SET v = 'another' WHERE id = 2")
    world.settle()
    return world.rows("SELECT v FROM s.t ORDER BY id")


def test_a_lower_label_never_wins(small: Callable[..., Small]) -> None:
    assert [("new",), ("another",)] == _old_record_after_a_new_one(small())


def test_without_labels_the_last_to_arrive_would_win(
    small: Callable[..., Small], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rule taken out: the case above really shows the old row then."""
    real = sink.tail.collapse

    def by_arrival(records: Sequence[Stored], **named: Any) -> Any:
        return real({one.key: one for one in records}.values(), **named)

    monkeypatch.setattr(sink.tail, "collapse", by_arrival)
    assert [("old",), ("another",)] == _old_record_after_a_new_one(small())
