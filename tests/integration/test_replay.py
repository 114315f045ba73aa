"""Checkpoints and replay on real databases, every daemon stepped by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from capture.install import request_resync
from schemas.authority import Authority
from schemas.change import TopicPartition
from schemas.errors import Code, Refusal, Superseded, TailraceError
from schemas.ports import Transport
from sink.collect import candidates
from sink.progress import read_progress
from tests.cutover_rig import Rig, application
from tests.fix_kafka import fresh_topics

MakeRig = Callable[..., Rig]


@pytest.fixture
def make_rig(tmp_path: Path, database_url: str) -> Iterator[MakeRig]:
    made: list[Rig] = []

    def make(stream: Transport | None = None) -> Rig:
        rig = Rig(tmp_path, database_url, stream=stream)
        made.append(rig)
        for name, side in rig.sides.items():
            side.app.run("INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b'), (3, 'three', 'c')", (name,))
        rig.settle()
        rig.install_back()
        return rig

    yield make
    for one in made:
        one.close()


@pytest.fixture
def rig(make_rig: MakeRig) -> Rig:
    return make_rig()


def work_there_and_come_back(rig: Rig, app: Postgres, first: int = 10) -> None:
    """Writes on both sides of a switch and its return, unique values that move included."""
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'before' WHERE id = 1")
        side.app.run("UPDATE t SET u = NULL WHERE id = 2")
        side.app.run("UPDATE t SET u = 'b' WHERE id = 3")
    rig.switch().run(rig.row.read())
    for name in rig.sides:
        app.run(f"INSERT INTO {name}.t VALUES ({first}, 'there', 'n{first}')")
        app.run(f"INSERT INTO {name}.t VALUES ({first + 1}, 'there', 'm{first}')")
        app.run(f"DELETE FROM {name}.t WHERE id = 2")
    rig.rollback().run(reason="test")
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'after' WHERE id = ?", (first,))
    rig.settle()


def equal(rig: Rig) -> None:
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)


def lose(rig: Rig, name: str, key: int) -> None:
    """A row of the source goes away as nothing of ours can see: no trigger fires, no key is logged."""
    quiet = rig.quiet(rig.sides[name].path)
    with quiet.write():
        quiet.run("DELETE FROM t WHERE id = ?", (key,))


def there_and_back(rig: Rig) -> None:
    app = application(rig)
    rig.checkpoint("before")
    applied = {name: found.applied for name, found in rig.checkpoints().now().items()}
    work_there_and_come_back(rig, app)
    equal(rig)
    for name in rig.sides:
        lose(rig, name, 11)
        # What the target shows is damaged where the topics know better.
        rig.target.run(f"UPDATE {name}.t SET v = 'damaged' WHERE id = 1")
        assert rig.source_rows(name) != rig.target_rows(name)
    rig.said.clear()
    begun = rig.replay().run(rig.checkpoints().find("before"))
    for name, found in rig.checkpoints().now().items():
        assert (applied[name], False) == (found.applied, found.consistent)
        assert begun.upto[name] > found.applied
        assert begun.touched[name] >= 3
    rig.settle()
    equal(rig)
    assert [] == [row for name in rig.sides for row in rig.target_rows(name) if row[0] == 11]
    assert all(found.applied >= begun.upto[name] for name, found in rig.checkpoints().now().items())
    # The sinks lose their compare-and-set once each, and begin anew.
    assert {"[progress-lost]"} == {text.split(": ")[1].split(" ")[0] for text in rig.said}
    # And the migration goes on: a second switch, and back.
    work_there_and_come_back(rig, app, first=20)
    equal(rig)


def test_a_replay_after_a_rollback_removes_what_only_the_target_has(rig: Rig) -> None:
    there_and_back(rig)


def test_a_replay_over_the_local_log(make_rig: MakeRig, tmp_path: Path) -> None:
    there_and_back(make_rig(LocalLog(tmp_path / "stream.db")))


def test_a_replay_over_a_broker(make_rig: MakeRig, kafka_address: str) -> None:
    there_and_back(make_rig(fresh_topics(kafka_address)))


def test_a_replay_steps_over_older_states(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A unique value moved from row to row: a cut in the middle would meet it at a row that nobody touched. The sink takes
    the nearest watermark here, which may close a cut as well as the furthest."""
    monkeypatch.setattr("sink.tail.candidates", lambda *given: list(reversed(candidates(*given))))
    app = rig.sides["cases"].app
    rig.checkpoint("before")
    seen = set()
    for turn in range(6):
        giver, taker = 1 + turn % 3, 1 + (turn + 1) % 3
        app.run("UPDATE t SET u = NULL WHERE id = ?", (taker,))
        app.run("UPDATE t SET u = ? WHERE id = ?", (f"free {turn}", giver))
        app.run("UPDATE t SET u = 'moving' WHERE id = ?", (taker,))
        rig.settle()
    last = rig.target_rows("cases")
    rig.replay().run(rig.checkpoints().find("before"))
    side = rig.sides["cases"]
    real = side.sink._target.apply

    def apply(*arguments: object, **named: object) -> None:
        real(*arguments, **named)  # type: ignore[arg-type]
        seen.add(tuple(rig.target_rows("cases")))

    side.sink._target.apply = apply  # type: ignore[method-assign]
    rig.settle()
    assert {tuple(last)} == seen
    assert 0 == rig.target.rows("SELECT count(*) FROM tailrace.quarantine")[0][0]


def test_nothing_passes_while_a_replay_is_under_way(rig: Rig) -> None:
    """No switch, no second replay, no checkpoint; and whoever asks is told how far it is."""
    rig.checkpoint("before")
    rig.sides["cases"].app.run("UPDATE t SET v = 'x'")
    rig.settle()
    rig.replay().run(rig.checkpoints().find("before"))
    name, upto = rig.replay().running() or ("", {})
    assert ("before", {"auth", "cases"}) == (name, set(upto))
    rig.stopped |= {"sink"}
    with pytest.raises(Refusal, match="a replay is under way") as refused:
        rig.replay().run(rig.checkpoints().find("before"))
    assert Code.REPLAY_RUNNING is refused.value.code
    with pytest.raises(Refusal, match="a replay is under way"):
        rig.checkpoint()
    with pytest.raises(TailraceError, match="did not arrive"):
        rig.switch(drain_budget_s=0.2).run(rig.row.read())
    assert Authority.SOURCE is rig.row.read().authority
    rig.stopped.clear()
    rig.settle()
    equal(rig)
    assert rig.replay().running() is None


def test_a_sink_of_before_writes_nothing_after_the_rewind(rig: Rig) -> None:
    """It read its cut at the very seq that the checkpoint has, sleeps through the rewind, and wakes."""
    side = rig.sides["cases"]
    rig.checkpoint("before")
    side.app.run("UPDATE t SET v = 'x' WHERE id = 1")
    side.capture.step()
    real = side.sink._target.apply

    def sleeps(*arguments: object, **named: object) -> None:
        side.sink._target.apply = real  # type: ignore[method-assign]
        rig.replay().run(rig.checkpoints().find("before"))
        real(*arguments, **named)  # type: ignore[arg-type]

    side.sink._target.apply = sleeps  # type: ignore[method-assign]
    with pytest.raises(Superseded):
        for _ in range(20):
            side.capture.step()
            side.sink.step()
    rig.settle()
    equal(rig)


def test_a_replay_that_slept_through_a_switch_changes_nothing(rig: Rig) -> None:
    app = application(rig)
    rig.checkpoint("before")
    replay = rig.replay()
    real = replay._touch

    def sleeps(*arguments: object) -> object:
        replay._touch = real  # type: ignore[method-assign]
        touched = real(*arguments)  # type: ignore[arg-type]
        work_there_and_come_back(rig, app)
        return touched

    replay._touch = sleeps  # type: ignore[method-assign, assignment]
    before = {}
    with pytest.raises(Superseded):
        replay.run(rig.checkpoints().find("before"))
    before = {name: found.applied for name, found in rig.checkpoints().now().items()}
    assert all(found.consistent for found in rig.checkpoints().now().values())
    rig.settle()
    assert all(found.applied >= before[name] for name, found in rig.checkpoints().now().items())
    equal(rig)


@pytest.mark.parametrize("point", ["replay.touched", "replay.mid_rewind"])
def test_a_replay_that_died_before_its_commit_changed_nothing(
    rig: Rig, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All sources or none: killed in between, the next one does it whole."""

    def dies(name: str) -> None:
        if name == point:
            raise KeyboardInterrupt

    rig.checkpoint("before")
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'x'")
    rig.settle()
    before = {name: found.applied for name, found in rig.checkpoints().now().items()}
    monkeypatch.setattr("cutover.replay.reach", dies)
    with pytest.raises(KeyboardInterrupt):
        rig.replay().run(rig.checkpoints().find("before"))
    assert before == {name: found.applied for name, found in rig.checkpoints().now().items()}
    monkeypatch.undo()
    rig.replay().run(rig.checkpoints().find("before"))
    assert all(found.applied < before[name] for name, found in rig.checkpoints().now().items())
    rig.settle()
    equal(rig)


def test_a_replay_that_died_after_its_commit_is_finished_by_the_sinks(rig: Rig) -> None:
    rig.checkpoint("before")
    rig.sides["auth"].app.run("UPDATE t SET v = 'x'")
    rig.settle()
    rig.replay().run(rig.checkpoints().find("before"))
    rig.settle()
    equal(rig)


def _ended(rig: Rig, told: str, **settings: int) -> None:
    before = {name: found.applied for name, found in rig.checkpoints().now().items()}
    with pytest.raises(Refusal, match=told) as refused:
        rig.replay(**settings).run(rig.checkpoints().find("before"))
    assert Code.CHECKPOINT_ENDED is refused.value.code
    assert "tailrace reset cases --yes cases" in refused.value.hint
    assert before == {name: found.applied for name, found in rig.checkpoints().now().items()}


def test_a_copy_ends_older_checkpoints(rig: Rig) -> None:
    rig.checkpoint("before")
    request_resync(rig.sides["cases"].app, "t")
    rig.settle()
    _ended(rig, "cases: table t was copied after it")
    rig.checkpoint("newer")
    rig.replay().run(rig.checkpoints().find("newer"))
    rig.settle()
    equal(rig)


def test_a_checkpoint_older_than_the_window_is_refused(rig: Rig) -> None:
    rig.checkpoint("before")
    rig.target.run("UPDATE tailrace.checkpoints SET at = at - interval '2 days'")
    _ended(rig, "the topics keep every change for", window_ms=24 * 3600 * 1000)


def test_a_topic_that_was_made_again_ends_a_checkpoint(rig: Rig) -> None:
    rig.checkpoint("before")
    found = read_progress(rig.target, "cases")
    assert found is not None
    assert TopicPartition("p.cases.t-t", 0) in found.offsets or found.offsets == {}
    rig.transport.delete("p.cases.notices")  # type: ignore[attr-defined]
    _ended(rig, "topic p.cases.notices was deleted or made again")


def test_a_row_in_quarantine_keeps_a_replay_off(rig: Rig) -> None:
    rig.checkpoint("before")
    rig.target.run("INSERT INTO tailrace.quarantine VALUES ('cases', 't', '\\x00', '(1,)', 'test', 1, now(), 'known')")
    _ended(rig, "cases: 1 rows are in quarantine")


def test_a_way_back_that_lost_something_ends_a_checkpoint(rig: Rig) -> None:
    rig.checkpoint("before")
    rig.row.note(1, "target", "target", verb="no-rollback", detail={"cases.t": "DDL"})
    _ended(rig, "the way back lost something since")


def test_no_replay_while_writes_belong_to_the_target(rig: Rig) -> None:
    rig.checkpoint("before")
    rig.switch().run(rig.row.read())
    with pytest.raises(Refusal, match="writes belong to target") as refused:
        rig.replay().run(rig.checkpoints().find("before"))
    assert Code.VERB_ILLEGAL is refused.value.code
    assert "rollback" in refused.value.hint


def test_names_of_checkpoints(rig: Rig) -> None:
    made = rig.checkpoint()
    assert made.name.startswith("checkpoint_20")
    again = rig.checkpoint()
    assert made.name != again.name
    rig.checkpoint("before-friday")
    with pytest.raises(Refusal, match="already"):
        rig.checkpoint("before-friday")
    with pytest.raises(Refusal, match="is no name"):
        rig.checkpoint("a/b")
    with pytest.raises(Refusal) as refused:
        rig.checkpoints().find("before-frday")
    assert (Code.CHECKPOINT_UNKNOWN, "did you mean before-friday?") == (refused.value.code, refused.value.hint)
    assert [made.name, again.name, "before-friday"] == [one.name for one in rig.checkpoints().all()]
    rig.checkpoints().drop("before-friday")
    assert [made.name, again.name] == [one.name for one in rig.checkpoints().all()]
    assert made.sources == rig.checkpoints().find(made.name).sources
