"""The switch and the way back on real databases, every daemon stepped by hand."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.authority import Authority, Migration
from schemas.errors import Code, Failed, Superseded, TailraceError, Transient
from tests.cutover_rig import FILLED, Rig, application, begun


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(Rig(tmp_path, database_url), FILLED) as made:
        yield made


def test_there_and_back_and_there_again(rig: Rig) -> None:
    app = application(rig)
    for turn in range(2):
        before = rig.row.read()
        assert Authority.SOURCE == before.authority
        outcome = rig.switch().run(before)
        assert rig.row.read().token == outcome.token
        for name, side in rig.sides.items():
            with pytest.raises(Failed, match="tailrace-fenced"):
                side.app.run("INSERT INTO t(v) VALUES ('late')")
            app.run(f"INSERT INTO {name}.t VALUES ({10 + turn}, 'there', 'n{turn}')")
            with app.transaction():  # two rows swap a unique value
                for statement in ("u = 'x' WHERE u = 'a'", "u = 'a' WHERE u = 'b'", "u = 'b' WHERE u = 'x'"):
                    app.run(f"UPDATE {name}.t SET {statement}")
            app.run(f"DELETE FROM {name}.t WHERE id = {9 + turn}")
        rig.settle_back()
        for name in rig.sides:
            assert rig.target_rows(name) == rig.source_rows(name)
        returned = rig.rollback().run(reason="test")
        assert {"auth", "cases"} == set(returned.lifted)
        with pytest.raises(Failed, match="has not switched"):
            app.run("INSERT INTO cases.t VALUES (99, 'late', 'z')")
        for name, side in rig.sides.items():
            side.app.run("UPDATE t SET v = v || '!' WHERE id = 1")
            assert rig.source_rows(name) != rig.target_rows(name)
        rig.settle()
        for name in rig.sides:
            assert rig.source_rows(name) == rig.target_rows(name)
        assert [] == rig.said


def test_writer_in_flight_across_the_fence(rig: Rig) -> None:
    """A transaction that began before the fence: it commits before (and is carried), or it never does."""
    writer = rig.sqlite(rig.sides["cases"].path)
    writer.run("BEGIN IMMEDIATE")
    writer.run("INSERT INTO t VALUES (50, 'in flight', NULL)")
    looked = []

    def finish() -> None:
        looked.append(1)
        if len(looked) == 3:
            writer.run("COMMIT")

    rig.between = finish
    rig.switch(fence_budget_s=5.0).run(rig.row.read())
    assert (50, "in flight", None) in rig.target_rows("cases")
    with pytest.raises(Failed, match="tailrace-fenced"):
        writer.run("INSERT INTO t VALUES (51, 'late', NULL)")


def test_a_prepared_write_meets_the_fence(rig: Rig) -> None:
    """A deferred transaction that read before the fence and writes after it, and every conflict clause."""
    writer = rig.sqlite(rig.sides["auth"].path)
    writer.run("BEGIN DEFERRED")
    writer.rows("SELECT count(*) FROM t")
    rig.switch().run(rig.row.read())
    with pytest.raises(TailraceError):
        writer.run("INSERT INTO t VALUES (60, 'old view', NULL)")
    writer.run("ROLLBACK")
    for clause in ("", " OR IGNORE", " OR REPLACE", " OR FAIL", " OR ROLLBACK"):
        with pytest.raises(Failed, match="tailrace-fenced"):
            writer.run(f"INSERT{clause} INTO t VALUES (1, 'x', 'a')")
        with pytest.raises(Failed, match="tailrace-fenced"):
            writer.run(f"UPDATE{clause} t SET v = 'x' WHERE id = 1")
    with pytest.raises(Failed, match="tailrace-fenced"):
        writer.run("INSERT INTO t VALUES (1, 'x', 'a') ON CONFLICT (id) DO UPDATE SET v = 'y'")
    with pytest.raises(Failed, match="tailrace-fenced"):
        writer.run("DELETE FROM t")
    assert rig.source_rows("auth") == rig.target_rows("auth")


def test_long_writer_makes_the_fence_time_out_and_lift(rig: Rig) -> None:
    """One of two files cannot be fenced: neither is, and both can be written again."""
    writer = rig.sqlite(rig.sides["cases"].path)
    writer.run("BEGIN IMMEDIATE")
    writer.run("INSERT INTO t VALUES (70, 'long', NULL)")
    with pytest.raises(Transient, match="source-busy"):
        rig.switch(fence_budget_s=0.1).run(rig.row.read())
    writer.run("COMMIT")
    assert Authority.SOURCE == rig.row.read().authority
    assert "holds the lock" not in rig.row.read().failed
    for side in rig.sides.values():
        side.app.run("INSERT INTO t VALUES (71, 'open again', NULL)")
    rig.settle()
    rig.switch().run(rig.row.read())
    assert (70, "long", None) in rig.target_rows("cases")


def test_old_snapshot_writes_after_the_fence(rig: Rig) -> None:
    """A REPEATABLE READ transaction on the target that is older than the fence cannot write, a prepared one neither."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    for _ in range(6):
        app.run("UPDATE cases.t SET v = %s WHERE id = %s", ("prepared", 1))
    old = application(rig)
    old.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    old.rows("SELECT count(*) FROM auth.t")
    rig.rollback().run(reason="test")
    with pytest.raises(Failed, match="has not switched"):
        old.run("INSERT INTO cases.t VALUES (80, 'old', NULL)")
    with pytest.raises(Failed, match="has not switched"):
        app.run("UPDATE cases.t SET v = %s WHERE id = %s", ("prepared", 2))
    rig.settle()
    assert rig.source_rows("cases") == rig.target_rows("cases")


def test_an_open_read_does_not_hold_the_switch(rig: Rig) -> None:
    """A report that reads the target for long, opened before: the switch does not wait for it, and neither does a return."""
    reader = rig.postgres()
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.rows("SELECT count(*) FROM cases.t")
    rig.switch(open_budget_s=0.5).run(rig.row.read())
    rig.rollback().run(reason="test")
    assert [(2,)] == reader.rows("SELECT count(*) FROM cases.t")


def test_a_writer_in_flight_on_the_target_is_carried_back(rig: Rig) -> None:
    """It holds its tables, so the target cannot be closed before it ends; what it committed is at the source."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("BEGIN")
    app.run("INSERT INTO cases.t VALUES (90, 'in flight', NULL)")
    looked = []

    def finish() -> None:
        looked.append(1)
        if len(looked) == 2:
            app.run("COMMIT")

    rig.between = finish
    rig.rollback().run(reason="test")
    assert (90, "in flight", None) in rig.source_rows("cases")


@pytest.mark.parametrize("point", ["claim", "fence", "drained"])
def test_recovery_takes_an_abandoned_switch_back(rig: Rig, point: str) -> None:
    """The process of the switch is gone before the open: whoever comes after its lease opens the sources again, and the
    dead one, should it wake, opens nothing."""
    gone = rig.switch(actor="gone", lease_s=0.0)
    token = gone._row.move(rig.row.read(), Authority.TO_TARGET, verb="cutover", lease_s=0.0)
    fences = gone._fence.fence(token, rig.tables()) if point != "claim" else {}
    if point == "drained":
        gone._drain(token, {source: one.head for source, one in fences.items()})
    time.sleep(0.01)
    returned = rig.rollback().recover(rig.row.read())
    assert returned is not None
    assert (Authority.SOURCE, token + 1) == (rig.row.read().authority, rig.row.read().token)
    for side in rig.sides.values():
        side.app.run("INSERT INTO t VALUES (100, 'open', NULL)")
    with pytest.raises(Superseded):
        gone._guard.open(Migration(Authority.TO_TARGET, token), verb="open", detail={}, window="1 day")
    with pytest.raises(Superseded):
        gone._fence.fence(token, rig.tables())
    for side in rig.sides.values():
        side.app.run("INSERT INTO t VALUES (101, 'still open', NULL)")
    rig.settle()
    rig.switch().run(rig.row.read())
    assert rig.source_rows("cases") == rig.target_rows("cases")


@pytest.mark.parametrize("reason", ["50 % of 'these' rows", "100%s", "%"])
def test_a_reason_with_a_percent_sign(rig: Rig, reason: str) -> None:
    """The driver read it as a place for a parameter: the row could not be taken back, and the fences stayed."""
    gone = rig.switch(actor="gone", lease_s=0.0)
    for back in (lambda token: rig.rollback().run(reason=reason), lambda token: gone._take_back(token, 0.0, reason)):
        token = gone._row.move(rig.row.read(), Authority.TO_TARGET, verb="cutover", lease_s=0.0)
        gone._fence.fence(token, rig.tables())
        back(token)
        assert (Authority.SOURCE, reason) == (rig.row.read().authority, rig.row.read().failed)
        for side in rig.sides.values():
            side.app.run("UPDATE t SET v = 'open'")


def test_recovery_never_just_lifts(rig: Rig) -> None:
    """A rollback died after it had closed the target: what the target had acknowledged is carried back first."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    rig.stopped = {"back_sink"}
    app.run("INSERT INTO cases.t VALUES (110, 'only there', NULL)")
    gone = rig.rollback(actor="gone")
    gone._guard.close(rig.row.read(), verb="rollback", lease_s=0.0, detail={})
    rig.stopped = set()
    time.sleep(0.01)
    assert Authority.TO_SOURCE == rig.row.read().authority
    steward = rig.rollback()
    assert steward.recover(rig.row.read()) is None
    rig.settle_back()
    assert steward.recover(rig.row.read()) is not None
    assert Authority.SOURCE == rig.row.read().authority
    assert (110, "only there", None) in rig.source_rows("cases")
    rig.sides["cases"].app.run("INSERT INTO t VALUES (111, 'open', NULL)")


def test_a_schema_that_moves_under_the_fence_takes_the_switch_back(rig: Rig) -> None:
    """DDL passes the triggers of a fence."""
    rig.between = lambda: None
    switch = rig.switch()
    switch._before_open = [("ddl", lambda cutoff: rig.sides["auth"].app.run("ALTER TABLE t ADD COLUMN w"))]
    with pytest.raises(Failed, match="fence-lost"):
        switch.run(rig.row.read())
    rig.sides["auth"].app.run("INSERT INTO t VALUES (120, 'open', NULL, 'w')")
    rig.settle()
    assert "w" in [
        name
        for (name,) in rig.target.rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = 'auth.t'::regclass AND attnum > 0"
        )
    ]


def test_truncate_is_refused_while_there_is_a_way_back(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    app = application(rig)
    with pytest.raises(Failed, match="it names no rows"):
        app.run("TRUNCATE cases.t")


def test_xmin_ties(rig: Rig) -> None:
    """With one transaction open two cuts have one xmin and different states: both are carried."""
    rig.switch().run(rig.row.read())
    holder, app = application(rig), application(rig)
    holder.run("BEGIN")
    holder.run("INSERT INTO cases.t VALUES (130, 'held', NULL)")
    for number in (131, 132):
        app.run(f"INSERT INTO cases.t VALUES ({number}, 'meanwhile', NULL)")
        for _ in range(6):
            rig.step()
        assert number in [row[0] for row in rig.source_rows("cases")]
    assert 130 not in [row[0] for row in rig.source_rows("cases")]
    holder.run("COMMIT")
    rig.settle_back()
    assert rig.target_rows("cases") == rig.source_rows("cases")


def test_a_value_that_sqlite_cannot_hold_is_named(rig: Rig) -> None:
    """NaN is NULL in SQLite: the row does not come back as something else, and is named."""
    rig.sides["cases"].app.run("CREATE TABLE r(id INTEGER PRIMARY KEY, x REAL)")
    rig.sides["cases"].app.run("INSERT INTO r VALUES (1, 1.5)")
    rig.settle()
    rig.install_back()
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("UPDATE cases.r SET x = 'NaN'")
    rig.settle_back()
    assert [(1, 1.5)] == rig.source_rows("cases", "SELECT * FROM r")
    assert [("r", "SQLite would hold x as something else")] == rig.source_rows(
        "cases", "SELECT tab, reason FROM _tailrace_quarantine"
    )


def test_a_target_that_goes_away_in_the_middle_leaves_the_sources_open(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The row cannot be moved, and nobody else can open under this token: the application goes on at once."""
    switch = rig.switch(lease_s=0.0)

    def away(*_: object, **__: object) -> None:
        raise Transient(Code.TARGET_UNREACHABLE, "away")

    monkeypatch.setattr(switch._row, "set", away)
    real = switch._row.move

    def move(before: Migration, after: Authority, **named: object) -> int:
        return real(before, after, **named) if after is Authority.TO_TARGET else away()  # type: ignore[arg-type, return-value]

    monkeypatch.setattr(switch._row, "move", move)
    with pytest.raises(Transient):
        switch.run(rig.row.read())
    assert Authority.TO_TARGET == rig.row.read().authority
    for side in rig.sides.values():
        side.app.run("INSERT INTO t VALUES (140, 'open', NULL)")
    time.sleep(0.01)
    rig.rollback().recover(rig.row.read())
    assert Authority.SOURCE == rig.row.read().authority
    rig.settle()
    rig.switch().run(rig.row.read())
    assert rig.source_rows("cases") == rig.target_rows("cases")


def test_pruning_for_one_source_leaves_the_entries_of_another(rig: Rig) -> None:
    """One log on the target serves all sources: the quick one pruned what the slow one had not captured yet, and 16 of
    1,441 writes were lost in 8 flips under load."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    rig.step()
    app.run("INSERT INTO cases.t VALUES (150, 'slow', NULL)")
    app.run("INSERT INTO auth.t VALUES (150, 'quick', NULL)")
    quick = rig.sides["auth"].back_capture
    for _ in range(200):
        quick.step()
        rig.clock.ms += 500
    assert 0 == rig.target.rows("SELECT count(*) FROM tailrace.log WHERE source = 'auth'")[0][0]
    rig.settle_back()
    assert rig.target_rows("cases") == rig.source_rows("cases")


def test_a_fence_that_waits_for_a_writer_keeps_its_lease(rig: Rig) -> None:
    """The writer may outlive the lease: it is renewed before each attempt, or the steward would take the switch back."""
    writer = rig.sqlite(rig.sides["cases"].path)
    writer.run("BEGIN IMMEDIATE")
    writer.run("INSERT INTO t VALUES (50, 'long', NULL)")
    leases: set[object] = set()
    looked = []

    def finish() -> None:
        looked.append(1)
        leases.update(rig.target.rows("SELECT lease_until FROM tailrace.migration WHERE authority = 'to_target'"))
        if len(looked) == 8:
            writer.run("COMMIT")

    rig.between = finish
    rig.switch(fence_budget_s=1e6).run(rig.row.read())
    assert len(leases) >= 4
    assert (50, "long", None) in rig.target_rows("cases")
