"""Schema changes on the target inside the window: carried no further, said, and no rollback that would lose them; and on a
source while it is fenced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.postgres_shapes import Changes
from cutover import target_guard
from schemas.authority import Authority
from schemas.errors import Code, Failed, Refusal
from tests.cutover_rig import TABLE, Rig, begun

DDL = {
    "add": ("ADD COLUMN w text[]", "column w (text[]) was added: SQLite has no arrays"),
    "away": ("RENAME TO other", "the table was dropped, renamed or moved"),
    "disabled": ("DISABLE TRIGGER tailrace_log_update", "its log triggers were disabled or dropped"),
    "names": ('RENAME COLUMN v TO "w%\'"', "column v was dropped or renamed; column w%' was added"),
    "narrow": ("DROP COLUMN v", "column v was dropped or renamed"),
    "type": ("ALTER COLUMN v TYPE varchar(400)", "column v has another type"),
}


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    made = Rig(
        tmp_path, database_url, TABLE, *(f"CREATE TABLE t_{kind}(id INTEGER PRIMARY KEY, v TEXT)" for kind in DDL)
    )
    for side in made.sides.values():
        side.app.run("INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b')")
    made.settle()
    made.install_back()
    made.switch().run(made.row.read())
    made.settle_back()
    yield made
    made.close()


def refused(rig: Rig) -> str:
    with pytest.raises(Refusal) as why:
        rig.rollback().run(reason="test")
    assert (Code.NO_ROLLBACK, Authority.TARGET) == (why.value.code, rig.row.read().authority)
    return why.value.message


def test_ddl_on_the_target_ends_the_way_back_of_its_table(rig: Rig) -> None:
    """The rollback looks at the catalogue itself, capture at every cut: neither waits for the other."""
    for kind, (change, why) in DDL.items():
        rig.target.run(f"ALTER TABLE auth.t_{kind} {change}")
        assert why in refused(rig) or kind != min(DDL)
    rig.target.run("DROP TRIGGER tailrace_log_delete ON cases.t_away")
    rig.target.run("DROP TABLE cases.t_add")
    for name in rig.sides:
        rig.target.run(f"INSERT INTO {name}.t VALUES (4, 'four', 'd')")
    rig.settle_back()
    # The other tables go on as if nothing had been.
    for name in rig.sides:
        assert rig.target_rows(name) == rig.source_rows(name)
    expected = {f"auth.t_{kind}": why for kind, (_, why) in DDL.items()}
    expected |= {"cases.t_away": DDL["disabled"][1], "cases.t_add": DDL["away"][1]}
    assert expected == rig.row.read().no_rollback
    assert [] == rig.said
    rig.target.run("INSERT INTO auth.t VALUES (5, 'five', 'e')")
    rig.settle_back()
    kept = rig.target.rows("SELECT count(*) FROM tailrace.journal WHERE verb = 'no-rollback'")
    assert [(2,)] == kept  # one a source
    assert "does not carry 8 things" in refused(rig)


def test_a_change_while_capture_was_away_is_seen(rig: Rig) -> None:
    """A column goes and another takes its name: whoever looked at the table only now would find nothing strange."""
    for side in rig.sides.values():
        side.back_capture._started = None  # as a process that begins anew
    rig.target.run("ALTER TABLE auth.t RENAME COLUMN v TO x")
    rig.target.run("ALTER TABLE auth.t ADD COLUMN v text")
    rig.settle_back()
    assert {"auth.t": "column x was added; column v is another one"} == rig.row.read().no_rollback


def test_ddl_that_commits_while_the_target_closes_is_seen(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look of the rollback and its locks."""
    other = rig.postgres()
    look = target_guard.changed
    looked: list[Changes] = []

    def late(*arguments: object) -> object:
        looked.append(look(*arguments))  # type: ignore[arg-type]
        if len(looked) == 1:
            other.run("ALTER TABLE auth.t ALTER COLUMN v TYPE varchar(400)")
        return looked[-1]

    monkeypatch.setattr(target_guard, "changed", late)
    assert DDL["type"][1] in refused(rig)
    assert [0, 1] == [len(one.lost) for one in looked]


def test_what_is_no_change_of_a_shape_is_none(rig: Rig) -> None:
    for statement in (
        "CREATE INDEX ON auth.t(v)",
        "ALTER TABLE auth.t ALTER COLUMN v SET DEFAULT 'x'",
        "ALTER TABLE auth.t ADD CHECK (v <> 'y')",
        "COMMENT ON TABLE auth.t IS 'mine'",
    ):
        rig.target.run(statement)
    rig.target.run("INSERT INTO auth.t(id) VALUES (9)")
    rig.settle_back()
    rig.rollback().run(reason="test")
    assert rig.target_rows("auth") == rig.source_rows("auth")


@pytest.fixture
def fenced(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    """Ready for a switch."""
    with begun(Rig(tmp_path, database_url), "INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b')") as made:
        yield made


@pytest.mark.parametrize("change", ["ALTER TABLE t RENAME TO t_old", "CREATE TABLE fresh(id INTEGER PRIMARY KEY)"])
@pytest.mark.parametrize("point", ["cutover.draining", "cutover.drained", "cutover.before_open", "cutover.mid_open"])
def test_ddl_on_a_source_before_the_open(fenced: Rig, monkeypatch: pytest.MonkeyPatch, point: str, change: str) -> None:
    """DDL passes the triggers of a fence, and nothing is fenced in what it makes: the switch is taken back, at whatever
    moment it comes, and what was written into the new table is a write on the side that stays in force."""
    auth = fenced.sides["auth"].app

    def late(name: str) -> None:
        if name == point:
            auth.run(change)
            if "fresh" in change:
                auth.run("INSERT INTO fresh VALUES (7)")

    monkeypatch.setattr("cutover.switch.reach", late)
    monkeypatch.setattr("cutover.target_guard.reach", late)
    with pytest.raises(Failed, match="schema was changed while it was fenced") as why:
        fenced.switch().run(fenced.row.read())
    assert (Code.FENCE_LOST, Authority.SOURCE) == (why.value.code, fenced.row.read().authority)
    for side in fenced.sides.values():
        table = "t_old" if (side.name, change[:5]) == ("auth", "ALTER") else "t"
        side.app.run(f"INSERT INTO {table}(v) VALUES ('goes on')")
    assert 0 == fenced.target.rows("SELECT count(*) FROM tailrace.journal WHERE verb = 'open'")[0][0]
