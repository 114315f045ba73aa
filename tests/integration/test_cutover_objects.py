"""CHECKs, foreign keys, defaults, generated columns, views and sequences over a switch and a return."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover import target_guard
from schemas.errors import Code, Failed, TailraceError
from tests.cutover_rig import Rig, begun

DDL = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT DEFAULT 'none', n INTEGER CHECK (n > 0), "
    "p INTEGER REFERENCES t(id), double INTEGER AS (n * 2) STORED)",
    "CREATE VIEW large AS SELECT id, double FROM t WHERE n >= 10",
)


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(
        Rig(tmp_path, database_url, *DDL),
        "INSERT INTO t(id, n) VALUES (1, 1), (5, 10), (9, 3)",
        "DELETE FROM t WHERE id = 9",
    ) as made:
        yield made


def objects(rig: Rig) -> set[str]:
    found = rig.target.rows(
        "SELECT conname::text FROM pg_constraint WHERE contype IN ('c', 'f') AND connamespace = 'auth'::regnamespace UNION "
        "SELECT tgname::text FROM pg_trigger WHERE tgname = 'tailrace_generated' UNION SELECT viewname::text FROM pg_views "
        "WHERE schemaname = 'auth'"
    )
    return {str(name) for (name,) in found}


def test_objects_come_with_the_open_and_go_with_the_return(rig: Rig) -> None:
    there = {"t_1_check", "t_p_1_fkey", "tailrace_generated", "large"}
    for turn in range(2):
        assert set() == objects(rig)
        rig.switch().run(rig.row.read())
        assert there == objects(rig)
        # The second time the row without a parent is there: named, and new ones are refused all the same.
        assert turn == len(rig.objects(rig.target).validate())
        ((key, value, double),) = rig.target.rows("INSERT INTO auth.t(n) VALUES (20) RETURNING id, v, double")
        assert (10 + turn * 3, "none", 40) == (key, value, double)
        with pytest.raises(Failed, match="t_1_check"):
            rig.target.run("INSERT INTO auth.t(n) VALUES (0)")
        with pytest.raises(Failed, match="t_p_1_fkey"):
            rig.target.run("INSERT INTO auth.t(p) VALUES (77)")
        rig.settle_back()
        rig.rollback().run(reason="test")
        assert set() == objects(rig)
        side = rig.sides["auth"]
        side.app.run("PRAGMA foreign_keys = 0")
        side.app.run("INSERT INTO t(id, n, p) VALUES (?, 4, 500)", (11 + turn * 3,))
        rig.settle()
        for name in rig.sides:
            assert rig.target_rows(name) == rig.source_rows(name)


def test_an_attempt_that_is_taken_back_leaves_no_objects(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> list[str]:
        raise Failed(Code.TARGET_REFUSED, "the log triggers cannot fire")

    monkeypatch.setattr(target_guard, "firing", broken)
    with pytest.raises(TailraceError, match="cannot fire"):
        rig.switch().run(rig.row.read())
    assert set() == objects(rig)
    side = rig.sides["auth"]
    side.app.run("INSERT INTO t(n, p) VALUES (4, 500)")
    rig.settle()
    assert rig.target_rows("auth") == rig.source_rows("auth")
