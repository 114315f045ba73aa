"""Topics that are deleted and made again, or lose what they acknowledged: noticed by whoever would rely on them, refused,
and after a reset everything is equal again; never a row under the schema of another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.registry import TopicRegistry
from capture.install import request_resync
from capture.tail import CaptureTail
from cli.anew import begin_anew
from schemas.change import Message, TableState, TopicPartition
from schemas.errors import Code, Failed, Refusal, TailraceError
from schemas.ports import TopicSettings
from schemas.wire import record_headers
from sink.tail import SinkTail
from snapshot.tail import SnapshotTail
from tests.small import Small

T, NOTICES, WATERMARKS, SCHEMAS = "p.s.t-t", "p.s.notices", "p.s.watermarks", "p.schemas"
DDL = ("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "CREATE TABLE u(id INTEGER PRIMARY KEY, w TEXT)")


@pytest.fixture
def world(tmp_path: Path, database_url: str) -> Iterator[Small]:
    made = Small(tmp_path, database_url, *DDL)
    made.run("INSERT INTO t VALUES (1, 1), (2, 2)", "INSERT INTO u VALUES (1, 'one')")
    made.settle()
    made.run("UPDATE t SET v = 10 WHERE id = 1", "UPDATE u SET w = 'uno'")
    made.settle()
    yield made
    made.close()


def _made_again(world: Small, topic: str, *, filled: int = 0) -> None:
    settings = world.transport._settings[topic]
    world.transport.delete(topic)
    world.transport.create_topics({topic: settings})
    if topic == SCHEMAS:
        other = TopicRegistry(world.transport, SCHEMAS)
        for number in range(filled):
            other.register("another", f"schema {number}")
        return
    junk = [Message(topic, b"k%d" % at, None, record_headers("d", 1, "x"), partition=0) for at in range(filled)]
    world.transport.send(junk)


def _refused(part: CaptureTail | SinkTail | SnapshotTail) -> TailraceError:
    with pytest.raises(TailraceError) as refused:
        for _ in range(60):
            part.step()
    return refused.value


def _begin_again(world: Small) -> None:
    """As daemons that are started again: nothing of what they had in memory is there."""
    world.session.close()
    world.registry = TopicRegistry(world.transport, SCHEMAS)
    world.capture = world.new_capture()
    world.sink = world.new_sink("again")
    reader = world.source()
    world.copier.close()
    world.copier = world.postgres()
    world.copy = SnapshotTail(reader, reader, world.copier, world.registry, world.clock)


def _reset(world: Small) -> None:
    begin_anew(world.transport, world.target, world.app, prefix="p", source="s")


def _equal(world: Small) -> None:
    assert world.app.rows("SELECT * FROM t ORDER BY id") == world.rows("SELECT id, v FROM s.t ORDER BY id")
    assert world.app.rows("SELECT * FROM u ORDER BY id") == world.rows("SELECT id, w FROM s.u ORDER BY id")


@pytest.mark.parametrize(("topic", "filled"), [(T, 0), (T, 40), (NOTICES, 0), (SCHEMAS, 0), (SCHEMAS, 40)])
def test_a_topic_made_again_that_outgrew_the_old_offset_is_refused(world: Small, topic: str, filled: int) -> None:
    """By every daemon, in whatever order they look; a start does not forget it, a reset mends it."""
    _made_again(world, topic, filled=filled)
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    for part in (world.sink, world.capture):
        error = _refused(part)
        assert (Code.STREAM_REWOUND, Refusal) == (error.code, type(error))
        assert "tailrace reset" in error.hint
    _begin_again(world)
    assert Code.STREAM_REWOUND == _refused(world.capture).code
    assert Code.STREAM_REWOUND == _refused(world.sink).code
    _reset(world)
    assert not world.progress().consistent
    _begin_again(world)
    world.settle()
    _equal(world)
    world.run("INSERT INTO t VALUES (3, 30)", "DELETE FROM u")
    world.settle()
    _equal(world)


def test_watermarks_made_again_are_written_again(world: Small) -> None:
    """They speak of other topics: nothing is lost with them. Also under a running sink that has read far into them."""
    _made_again(world, WATERMARKS)
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    world.settle()
    _equal(world)
    world.session.close()
    world.capture, world.sink = world.new_capture(), world.new_sink("two")
    world.run("UPDATE t SET v = 12 WHERE id = 1")
    world.settle()
    _equal(world)


def test_pruned_source_goes_on_when_the_watermarks_are_gone(world: Small) -> None:
    """The position is what was pruned: nothing above it was ever given up."""
    world.capture = world.new_capture(prune_every_ms=50)
    for number in range(30):
        world.run(f"UPDATE t SET v = {number} WHERE id = 2")
        world.settle()
    assert 10 < int(world.app.rows("SELECT value FROM _tailrace_meta WHERE key = 'pruned_to'")[0][0])
    _made_again(world, WATERMARKS)
    world.run("UPDATE t SET v = 77 WHERE id = 1")
    _begin_again(world)
    world.settle()
    _equal(world)


def test_everything_deleted_is_refused_and_a_reset_mends_it(world: Small) -> None:
    """The broker lost its disk: capture finds nothing to hold the stream against, the sink does."""
    for topic in list(world.transport._settings):
        world.transport.delete(topic)
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    _begin_again(world)
    for _ in range(20):
        world.capture.step()
    assert Code.STREAM_REWOUND == _refused(world.sink).code
    _reset(world)
    _begin_again(world)
    world.settle()
    _equal(world)


def test_a_topic_that_is_only_gone_is_made_again_and_then_refused(world: Small) -> None:
    world.transport.delete(T)
    error = _refused(world.capture)
    assert (Code.TOPIC_MISSING, Failed) == (error.code, type(error))
    assert Code.STREAM_REWOUND == _refused(world.capture).code
    assert Code.STREAM_REWOUND == _refused(world.sink).code
    _reset(world)
    _begin_again(world)
    world.settle()
    _equal(world)


def test_a_stream_that_lost_what_was_acknowledged_is_refused(world: Small) -> None:
    """An unclean election: the same topic, a lower end, and the sink had not read what is gone. Only the last watermark
    knows: a capture that went on from the lower end would hand the sink a cut without those records."""
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    while world.capture.step():
        pass
    world.transport._messages[TopicPartition(T, 0)].pop()
    assert Code.STREAM_REWOUND == _refused(world.new_capture()).code
    assert Code.STREAM_REWOUND == _refused(world.capture).code
    _reset(world)
    _begin_again(world)
    world.settle()
    _equal(world)


def test_a_watermark_of_topics_that_are_gone_closes_no_cut(world: Small) -> None:
    """A sink that starts after a reset meets the watermarks of before: they name topics that nobody can read any more."""
    before = world.progress().applied
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    while world.capture.step():
        pass
    _made_again(world, T, filled=40)
    _reset(world)
    world.session.close()
    world.registry = TopicRegistry(world.transport, SCHEMAS)
    world.sink = world.new_sink("again")
    for _ in range(40):
        world.sink.step()
    assert before == world.progress().applied
    assert {TableState.AWAITED} == {one.state for one in world.progress().tables.values()}
    _begin_again(world)
    world.settle()
    _equal(world)


def test_a_reset_under_running_daemons_needs_no_restart(world: Small) -> None:
    _reset(world)
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    assert Code.PROGRESS_LOST == _refused(world.sink).code
    world.settle()
    _equal(world)
    assert all(one.generation == 2 for one in world.progress().tables.values())


def test_a_table_dropped_while_its_notices_are_lost_is_gone(world: Small) -> None:
    world.run("DROP TABLE u")
    while world.capture.step():
        pass
    _made_again(world, NOTICES)
    _reset(world)
    _begin_again(world)
    world.settle()
    assert TableState.GONE == world.progress().tables["u"].state
    assert [(1, "uno")] == world.rows("SELECT id, w FROM s.u")


def test_a_reset_that_was_cut_off_is_run_again(world: Small) -> None:
    """Killed after the source and before the target: the sink still refuses, and a second reset mends it."""
    _made_again(world, T, filled=40)
    request_resync(world.app, "t")
    _begin_again(world)
    assert Code.STREAM_REWOUND == _refused(world.sink).code
    _reset(world)
    _begin_again(world)
    world.settle()
    _equal(world)


def test_progress_without_topic_ids_takes_them_over(world: Small) -> None:
    """Written by a version that knew nothing of them; its column may not even be there."""
    world.session.close()
    world.target.run("ALTER TABLE tailrace.progress DROP COLUMN topics")
    assert {} == world.progress().topics
    world.sink = world.new_sink("two")
    world.run("UPDATE t SET v = 11 WHERE id = 1")
    world.settle()
    assert {T, NOTICES, SCHEMAS} < set(world.progress().topics)
    _equal(world)


def test_ids_of_a_topic_that_was_made_again_are_refused(world: Small) -> None:
    """A registry that knows the ids of the former topic neither gives new ones nor reads on in the other one."""
    world.transport.delete(SCHEMAS)
    with pytest.raises(Failed) as missing:
        world.registry._is_there()
    assert Code.TOPIC_MISSING == missing.value.code
    world.transport.create_topics({SCHEMAS: TopicSettings(compacted=False)})
    other = TopicRegistry(world.transport, SCHEMAS)
    for number in range(20):
        other.register("s", f"schema {number}")
    for call in (lambda: world.registry.register("s", "new"), world.registry.known, lambda: world.registry.schema(19)):
        with pytest.raises(Refusal) as refused:
            call()
        assert Code.STREAM_REWOUND == refused.value.code
    assert {SCHEMAS: world.transport.topic_ids([SCHEMAS])[SCHEMAS]} == other.identity()


def test_the_copy_refuses_ids_of_another_schemas_topic(world: Small) -> None:
    """Its process kept the former topic in memory while everything else began anew."""
    _made_again(world, SCHEMAS)
    _reset(world)
    world.copier.close()
    stale = world.registry
    _begin_again(world)
    reader, session = world.source(), world.postgres()
    world.copier.close()
    copy = SnapshotTail(reader, reader, session, stale, world.clock)
    with pytest.raises(Refusal) as refused:
        for _ in range(60):
            world.capture.step()
            world.sink.step()
            copy.step()
    assert Code.STREAM_REWOUND == refused.value.code
    session.close()
    world.settle()
    _equal(world)
