"""What comes behind the open: what was written there came back as it is, by values; and whatever fails says that writes moved."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.sqlite_apsw import QuietSqlite
from capture.sqlite_source import SqliteSource
from cli import after_open as behind
from cli.cutover_wiring import BackLook, authority_of
from cli.wiring import telemetry
from cutover.drain import Reached
from cutover.objects import OpenedObjects
from cutover.tail import Tail, TailCompare
from ops.config import load
from schemas.authority import Authority
from schemas.change import Position
from schemas.errors import Code, Failed, Refusal, Transient, Unknown
from tests.cutover_rig import FILLED, Rig, application, begun, configure


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    configure(tmp_path, database_url)
    with begun(Rig(tmp_path, database_url), FILLED) as made:
        yield made


def _compared(rig: Rig, *, budget_s: float = 10.0) -> Tail:
    opened = rig.row.read()
    sources = {name: (one := SqliteSource(rig.sqlite(side.path), name), one) for name, side in rig.sides.items()}
    compare = TailCompare(rig.postgres(), sources, rig.look_back, rig.clock)
    return compare.run(Position(opened.reverse_label, opened.reverse_start), budget_s=budget_s)


def _written(rig: Rig) -> None:
    app = application(rig)
    for name in rig.sides:
        app.run(f"INSERT INTO {name}.t VALUES (10, 'there', NULL), (11, 'there, and gone', NULL)")
        app.run(f"UPDATE {name}.t SET v = 'changed' WHERE id = 1")
        app.run(f"DELETE FROM {name}.t WHERE id IN (2, 11)")


def _damage(rig: Rig, sql: str) -> None:
    """As a codec at fault would have left it."""
    quiet: QuietSqlite = rig.quiet(rig.sides["cases"].path)
    quiet.run(sql)


def test_what_came_back_is_compared_by_its_values(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    assert (0, 0) == (_compared(rig).equal_rows, _compared(rig).moving_rows)
    _written(rig)
    found = _compared(rig)
    assert found.arrived_s is not None
    assert (8, 0, {}) == (found.equal_rows, found.moving_rows, found.differing)


def test_the_first_rows_of_a_busy_application_are_waited_for(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    app = application(rig)

    def write() -> None:
        rig.between = lambda: None
        app.run("INSERT INTO cases.t VALUES (10, 'a moment later', NULL)")

    rig.between = write
    assert 1 == _compared(rig).equal_rows


@pytest.mark.parametrize(
    ("sql", "word"),
    [
        ("UPDATE t SET v = 'THERE' WHERE id = 10", "t (10,): differing"),
        ("UPDATE t SET v = CAST(v AS BLOB) WHERE id = 10", "t (10,): differing"),
        ("DELETE FROM t WHERE id = 10", "t (10,): missing"),
        ("INSERT INTO t VALUES (11, 'again', NULL)", "t (11,): extra"),
    ],
)
def test_a_row_that_came_back_wrong_is_found(rig: Rig, sql: str, word: str) -> None:
    rig.switch().run(rig.row.read())
    _written(rig)
    rig.settle_back()
    _damage(rig, sql)
    found = _compared(rig)
    assert (7, 0, {"cases": [word]}) == (found.equal_rows, found.moving_rows, found.differing)


def test_rows_that_are_written_all_the_time_are_no_difference(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    _written(rig)
    app = application(rig)
    count = 0

    def write() -> None:
        nonlocal count
        count += 1
        app.run("UPDATE cases.t SET v = %s WHERE id = 10", (f"number {count}",))

    rig.between = write
    found = _compared(rig, budget_s=3.0)
    assert {} == found.differing
    assert 8 == found.equal_rows + found.moving_rows


def test_a_row_that_came_back_wrong_is_no_way_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    class Stepping(BackLook):
        """Whatever the server does beside us raises what must have arrived."""

        def __call__(self) -> Mapping[str, Reached | None]:
            rig.settle_back()
            return super().__call__()

    monkeypatch.setattr(behind, "BackLook", Stepping)
    token = rig.switch().run(rig.row.read()).token
    _written(rig)
    rig.settle_back()
    _damage(rig, "UPDATE t SET v = 'THERE' WHERE id = 10")
    config = load(rig.folder / "tailrace.toml")
    with authority_of(config) as (session, row):
        found = behind.after_open(config, session, row, token, telemetry(config, "test", terminal=False))
    assert 4 == found.exit_code
    assert any("NO WAY BACK" in line and "t (10,): differing" in line for line in found.lines())
    assert any("reset cases --way-back" in line for line in found.lines())
    with pytest.raises(Refusal, match="came back wrong") as refused:
        rig.rollback().run(reason="test")
    assert Code.NO_ROLLBACK is refused.value.code
    assert Authority.TARGET is rig.row.read().authority


def test_what_fails_behind_the_open_says_that_writes_moved(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """A validation that could not be done ended the verb with exit 1, as if the switch had failed."""
    token = rig.switch().run(rig.row.read()).token

    def away(_: OpenedObjects) -> dict[str, str]:
        raise Failed(Code.TARGET_REFUSED, "no space in pg_wal")

    monkeypatch.setattr(OpenedObjects, "validate", away)
    monkeypatch.setattr(behind, "TAIL_S", 0.2)
    config = load(rig.folder / "tailrace.toml")
    with authority_of(config) as (session, row):
        found = behind.after_open(config, session, row, token, telemetry(config, "test", terminal=False))
    text = "\n".join(found.lines())
    assert 1 == found.exit_code
    assert "writes moved, and go on on PostgreSQL" in text
    assert "validate foreign keys and CHECKs: [target-refused] no space in pg_wal" in text
    assert "next: tailrace status" in text
    log = (rig.folder / "migration.log").read_text()
    assert "writes belong to PostgreSQL; failed behind the switch" in log


def test_a_target_that_goes_away_in_the_open_says_that_nobody_knows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    switch = rig.switch(open_budget_s=0.0)
    before, move = rig.row.read(), switch._row.move

    def lost(*_: object, **__: object) -> int:
        switch._maybe_open = True  # as behind a lost reply to its commit
        raise Transient(Code.TARGET_UNREACHABLE, "connection reset")

    monkeypatch.setattr(switch._guard, "open", lost)
    monkeypatch.setattr(
        switch._row, "move", lambda at, after, **more: lost() if after is Authority.SOURCE else move(at, after, **more)
    )
    with pytest.raises(Unknown, match="whether writes moved is in its row alone") as raised:
        switch.run(before)
    assert "tailrace status" in str(raised.value)
    assert all(one.fence is not None for one in rig.fence().carried().values())
