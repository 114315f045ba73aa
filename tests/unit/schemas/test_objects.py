"""Nothing of a schema vanishes without a line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from schemas.introspect import introspect
from schemas.model import Database
from schemas.objects import ObjectVerdict, Verdict, verdicts
from schemas.plan import TablePlan, build_table_plan
from schemas.profile import profile_table


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    yield one
    one.close()


def planned(db: SqliteDatabase, *left_out: str) -> tuple[Database, dict[str, TablePlan]]:
    database = introspect(db)
    return database, {
        name: build_table_plan(table, profile_table(db, table), source="s", prefix="p", target_schema="public")
        for name, table in database.tables.items()
        if name not in left_out
    }


def test_everything_has_a_verdict(db: SqliteDatabase) -> None:
    for statement in (
        "CREATE TABLE p(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE DEFAULT 'x', made DEFAULT (random()))",
        "CREATE TABLE t(id INTEGER PRIMARY KEY, p INT REFERENCES p, n INT CHECK (n > 0), g AS (n + 1))",
        "CREATE TABLE rowless(rowid, oid, _rowid_)",
        "CREATE TABLE other(a)",
        "CREATE INDEX odd ON t(abs(n))",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE docs USING fts5(body)",
    ):
        db.run(statement)
    found = verdicts(*planned(db, "rowless", "other"))
    assert all(isinstance(one, ObjectVerdict) for one in found)
    assert len(found) == len({(one.table, one.name, one.kind) for one in found})
    assert {
        ("p", "p_name_key", "index", "carried"),
        ("p", "name", "default", "translated"),
        ("p", "made", "default", "reported"),
        ("p", "p", "autoincrement", "reported"),
        ("t", "t_odd_idx", "index", "reported"),
        ("t", "t_p_1_fkey", "foreign key", "carried"),
        ("t", "n > 0", "check", "reported"),
        ("t", "g", "generated column", "translated"),
        ("rowless", "rowless", "table", "refused"),
        ("other", "other", "table", "reported"),
        ("v", "v", "view", "reported"),
        ("t", "g", "trigger", "reported"),
        ("docs", "docs", "virtual", "reported"),
        *(("docs", f"docs_{word}", "shadow", "reported") for word in ("data", "idx", "content", "docsize", "config")),
    } == {(one.table, one.name, one.kind, str(one.verdict)) for one in found}
    assert all(one.reason for one in found if one.verdict is not Verdict.CARRIED)


def test_proj_db_has_no_refused_object() -> None:
    datadir = importlib.import_module("pyproj.datadir")
    one = SqliteDatabase(Path(datadir.get_data_dir()) / "proj.db", read_only=True)
    try:
        database, plans = planned(one)
        found = verdicts(database, plans)
    finally:
        one.close()
    assert [] == [one for one in found if one.verdict is Verdict.REFUSED]
    assert {one.name for one in database.objects} <= {one.name for one in found}
    assert sum(len(table.checks) for table in database.tables.values()) == sum(one.kind == "check" for one in found)
