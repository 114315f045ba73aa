"""A server that lost the last moves of the authority row (an asynchronous standby was promoted, a backup restored): named,
nothing is moved by it, no second side stays open, and a person can go on. And a clock that is set back stops nobody."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.migration import migration_line, with_lost_moves
from cli.way_back import TIMELINE
from cutover.behind import believed, lost_moves
from schemas.authority import Authority, Phase
from schemas.errors import Code, Failed, Refusal, Transient
from tests.cutover_rig import FILLED, Rig, application, begun

HOUR_MS = 3_600_000
KEPT = "authority, token, drained, owner, lease_until, reverse_start, reverse_label, cutoff, read_share, no_rollback"


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(Rig(tmp_path, database_url), FILLED) as made:
        yield made


def _keep(rig: Rig) -> None:
    rig.target.run("DROP TABLE IF EXISTS kept")
    rig.target.run(f"CREATE TABLE kept AS SELECT {KEPT} FROM tailrace.migration")


def _lose(rig: Rig) -> None:
    """The row as it was when it was kept; the sources have seen more."""
    columns = ", ".join(f"{name.strip()} = kept.{name.strip()}" for name in KEPT.split(","))
    rig.target.run(f"UPDATE tailrace.migration SET {columns} FROM kept")


def test_a_healthy_migration_is_never_called_behind(rig: Rig) -> None:
    fence = rig.fence()
    for _ in range(2):
        assert Authority.SOURCE == believed(rig.row.read, fence.carried).authority
        rig.switch().run(rig.row.read())
        fence.witness(rig.row.read().token)
        assert Authority.TARGET == believed(rig.row.read, fence.carried).authority
        rig.rollback().run(reason="test")
    assert None is lost_moves(rig.row.read(), fence.carried())


@pytest.mark.parametrize("lost", ["the open", "the whole switch", "the return"])
def test_a_server_that_lost_its_last_moves_is_named_and_moves_nothing(rig: Rig, lost: str) -> None:
    fence = rig.fence()
    if lost == "the whole switch":
        _keep(rig)
    switch = rig.switch(lease_s=1.0)
    if lost == "the open":
        switch._before_open = [("keep", lambda _: _keep(rig))]
    switch.run(rig.row.read())
    application(rig).run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    fence.witness(rig.row.read().token)
    if lost == "the return":
        _keep(rig)
        rig.rollback().run(reason="test")
        rig.sides["cases"].app.run("INSERT INTO t VALUES (11, 'here', NULL)")
    rig.clock.ms += 60_000
    _lose(rig)
    before = rig.row.read()
    for attempt in (lambda: rig.rollback().run(reason="again"), lambda: believed(rig.row.read, fence.carried)):
        with pytest.raises(Refusal) as refused:
            attempt()
        assert Code.AUTHORITY_BEHIND is refused.value.code
        assert "--accept-lost" in refused.value.hint
    assert (before.authority, before.token) == (rig.row.read().authority, rig.row.read().token)
    document = with_lost_moves(
        {"phase": "following", "blocking_reasons": [], "failed": "", "authority": "source"}, before, fence.carried()
    )
    assert Phase.FAILED == document["phase"]
    assert "lost the last moves" in migration_line(document)


def test_what_a_lost_return_left_open_is_shut_and_a_person_goes_on(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    _keep(rig)
    rig.rollback().run(reason="test")
    rig.sides["cases"].app.run("INSERT INTO t VALUES (11, 'here', NULL)")
    _lose(rig)
    for plan in rig.plans():  # as that server had its tables
        rig.target.run(
            f'ALTER TABLE "{plan.target_schema}"."{plan.target_table}" DISABLE TRIGGER tailrace_guard, '
            "DISABLE TRIGGER tailrace_guard_truncate"
        )
    app.run("INSERT INTO cases.t VALUES (12, 'beside', NULL)")
    found = lost_moves(rig.row.read(), rig.fence().carried())
    assert found is not None
    assert found.open_beside
    rig.guard().shut()
    with pytest.raises(Failed, match="has not switched"):
        app.run("INSERT INTO cases.t VALUES (13, 'beside', NULL)")
    returned = rig.rollback().accept_lost(reason="the standby was promoted")
    assert returned.token > found.token
    assert Authority.SOURCE == rig.row.read().authority
    assert None is lost_moves(rig.row.read(), rig.fence().carried())
    with pytest.raises(Refusal, match="nothing is lost"):
        rig.rollback().accept_lost(reason="twice")
    rig.settle()
    # The next switch works; what was written beside is seen by verify, which the gates ask for anew.
    assert [] == rig.target.rows("SELECT 1 FROM tailrace.verdicts")
    rig.switch().run(rig.row.read())
    application(rig).run("INSERT INTO cases.t VALUES (14, 'there again', NULL)")
    rig.rollback().run(reason="test")
    assert [1, 2, 10, 11, 14] == [row[0] for row in rig.source_rows("cases")]


def test_a_fenced_source_is_lifted_when_a_lost_switch_is_accepted(rig: Rig) -> None:
    _keep(rig)
    rig.switch().run(rig.row.read())
    rig.fence().witness(rig.row.read().token)
    _lose(rig)
    assert {"auth", "cases"} == set(rig.rollback().accept_lost(reason="gone").lifted)
    rig.sides["cases"].app.run("INSERT INTO t VALUES (20, 'open', NULL)")
    with pytest.raises(Failed, match="has not switched"):
        application(rig).run("INSERT INTO cases.t VALUES (21, 'late', NULL)")


@pytest.mark.parametrize("half", ["back_capture", "back_sink"])
def test_a_way_back_that_stands_still_closes_nothing(rig: Rig, half: str) -> None:
    """Both sides would be closed for as long as its daemon is away."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    rig.stopped = {half}
    app.run("INSERT INTO cases.t VALUES (40, 'there', NULL)")
    with pytest.raises(Transient, match="nothing was closed"):
        rig.rollback().run(reason="test")
    assert Authority.TARGET == rig.row.read().authority
    app.run("INSERT INTO cases.t VALUES (41, 'still there', NULL)")
    rig.stopped = set()
    rig.rollback().run(reason="test")
    assert [1, 2, 40, 41] == [row[0] for row in rig.source_rows("cases")]


def test_a_promoted_standby_is_no_way_back(rig: Rig) -> None:
    """It may lack transactions that came back already, and gives their numbers out again: named, daemons and writes go on."""
    assert [("00000001",)] == rig.target.rows(TIMELINE)
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (50, 'there', NULL)")
    rig.settle_back()
    rig.timeline = "00000002"
    for _ in range(4):
        rig.step()
    assert any("timeline 00000001, now 00000002" in why for why in rig.row.read().no_rollback.values())
    app.run("INSERT INTO cases.t VALUES (51, 'still there', NULL)")
    with pytest.raises(Refusal, match="does not carry"):
        rig.rollback().run(reason="test")
    assert Authority.TARGET == rig.row.read().authority


def test_a_server_behind_what_came_back_is_no_way_back(rig: Rig) -> None:
    """Its labels lie below what the sources hold: a drain to them would be over before anything was carried."""
    rig.switch().run(rig.row.read())
    application(rig).run("INSERT INTO cases.t VALUES (60, 'there', NULL)")
    rig.settle_back()
    rig.sides["cases"].app.run("UPDATE _tailrace_progress SET applied = applied + 1000000")
    with pytest.raises(Refusal, match="this server lost transactions"):
        rig.rollback().run(reason="test")
    assert Authority.TARGET == rig.row.read().authority


def test_a_clock_that_is_set_back_an_hour_stops_neither_stream(rig: Rig) -> None:
    """Every "now and then" was measured by the wall clock: no heartbeat, no look and no prune for an hour, and a rollback in
    it would have stood between two closed sides."""
    app = rig.sides["cases"].app
    rig.clock.set_back_ms = HOUR_MS
    app.run("INSERT INTO t VALUES (30, 'forward', NULL)")
    rig.settle()
    rig.switch().run(rig.row.read())
    session: Postgres = application(rig)
    session.run("INSERT INTO cases.t VALUES (31, 'back', NULL)")
    rig.clock.set_back_ms = 2 * HOUR_MS
    session.run("INSERT INTO cases.t VALUES (32, 'back', NULL)")
    rig.rollback().run(reason="test")
    assert [1, 2, 30, 31, 32] == [row[0] for row in rig.source_rows("cases")]
    rig.settle()
    rig.clock.set_back_ms = 3 * HOUR_MS
    sent = rig.transport.ends(["p.cases.watermarks"])
    for _ in range(40):
        rig.step()
    assert sent != rig.transport.ends(["p.cases.watermarks"])
