"""The switch and the way back on real databases, every daemon stepped by hand."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from schemas.authority import Authority
from schemas.errors import Failed
from tests.cutover_rig import Rig


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    made = Rig(tmp_path, database_url)
    for name, side in made.sides.items():
        side.app.run("INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b')", (name,))
    made.settle()
    made.install_back()
    yield made
    made.close()


def application(rig: Rig) -> Postgres:
    """A session of the application's own role: the guard binds it."""
    rig.target.run(
        "DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'app'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    rig.target.run("GRANT USAGE ON SCHEMA auth, cases TO application")
    rig.target.run("GRANT ALL ON ALL TABLES IN SCHEMA auth, cases TO application")
    url = rig.url.split("@")[1]
    made = Postgres(f"postgresql://application:app@{url}", application_name="application")
    rig.opened.append(made)
    return made


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
