"""Nothing of a schema vanishes without a line."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from schemas.advice import of_virtual_after_return, seen
from schemas.errors import TailraceError
from schemas.introspect import introspect
from schemas.model import Database
from schemas.objects import ObjectVerdict, Verdict, When, verdicts
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
        "CREATE TABLE t(id INTEGER PRIMARY KEY, p INT REFERENCES p, n INT CHECK (n > 0), g INT AS (n + 1))",
        "CREATE TABLE rowless(rowid, oid, _rowid_)",
        "CREATE TABLE other(a)",
        "CREATE TABLE strange(k TEXT PRIMARY KEY ON CONFLICT REPLACE, c TEXT COLLATE NOCASE NOT NULL, "
        "g TEXT AS (json(c)) STORED, CHECK (json_valid(c))) WITHOUT ROWID, STRICT",
        "CREATE TABLE nulls(k TEXT PRIMARY KEY)",
        "INSERT INTO nulls VALUES (NULL)",
        "CREATE INDEX odd ON t(hex(n))",
        "CREATE VIEW v AS SELECT 1",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE docs USING fts5(body)",
    ):
        db.run(statement)
    found = verdicts(*planned(db, "rowless", "other"))
    assert all(isinstance(one, ObjectVerdict) for one in found)
    assert len(found) == len({(one.table, one.name, one.kind) for one in found})
    assert {
        ("p", "id", "key", "carried"),
        ("p", "p_name_key", "index", "carried"),
        ("p", "name", "default", "translated"),
        ("p", "made", "default", "reported"),
        ("p", "id", "sequence", "translated"),
        ("t", "id", "key", "carried"),
        ("t", "id", "sequence", "translated"),
        ("t", "odd", "index", "reported"),
        ("t", "t_p_1_fkey", "foreign key", "carried"),
        ("t", "n > 0", "check", "translated"),
        ("t", "g", "generated column", "translated"),
        ("strange", "k", "key", "carried"),
        ("strange", "c", "not null", "carried"),
        ("strange", "c", "collation", "reported"),
        ("strange", "g", "generated column", "reported"),
        ("strange", "json_valid ( c )", "check", "reported"),
        ("strange", "STRICT", "option", "carried"),
        ("strange", "WITHOUT ROWID", "option", "carried"),
        ("strange", "ON CONFLICT REPLACE", "conflict clause", "reported"),
        ("nulls", "nulls", "key", "translated"),
        ("nulls", "nulls_k_key", "index", "carried"),
        ("nulls", "_tailrace_rowid", "sequence", "translated"),
        ("rowless", "rowless", "table", "refused"),
        ("other", "other", "table", "reported"),
        ("v", "v", "view", "reported"),
        ("t", "g", "trigger", "reported"),
        ("docs", "docs", "virtual", "reported"),
        *(("docs", f"docs_{word}", "shadow", "reported") for word in ("data", "idx", "content", "docsize", "config")),
    } == {(one.table, one.name, one.kind, str(one.verdict)) for one in found}
    assert {"odd -> t_odd_idx", "p_name_key", "nulls_k_key"} == {one.label for one in found if one.kind == "index"}
    assert all(one.reason for one in found if one.verdict is not Verdict.CARRIED)
    there = (Verdict.CARRIED, Verdict.TRANSLATED)
    assert all((one.when is When.NEVER) == (one.verdict not in there) for one in found)


@pytest.mark.parametrize(
    ("virtual", "words"),
    [
        ("fts5(title, body, tokenize = 'porter')", "coalesce(\"title\", '') || ' ' || coalesce(\"body\", '')"),
        ("fts5(body, content='notes', content_rowid='id')", 'ALTER TABLE "notes" ADD COLUMN search tsvector'),
        ("rtree(id, x0, x1)", "USING gist"),
    ],
)
def test_virtual_tables_are_reported_with_what_to_do(db: SqliteDatabase, virtual: str, words: str) -> None:
    db.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
    db.run(f"CREATE VIRTUAL TABLE search USING {virtual}")
    (found,) = [one for one in verdicts(*planned(db)) if one.kind == "virtual"]
    assert words in found.reason


def test_a_full_text_index_is_told_to_be_rebuilt_after_a_rollback(db: SqliteDatabase) -> None:
    """The way back writes rows beside the triggers that keep the index: they are not found, and to remove one that the
    index does not know breaks it. The statement that is told mends both."""
    db.run("CREATE TABLE notes(id INTEGER PRIMARY KEY, body TEXT)")
    db.run("CREATE VIRTUAL TABLE search USING fts5(body, content='notes', content_rowid='id')")
    db.run("CREATE VIRTUAL TABLE own USING fts5(body)")
    db.run("INSERT INTO notes VALUES (1, 'written on the target')")
    (search, own) = [one for one in introspect(db).objects if one.kind == "virtual"]
    assert "fill it again" in of_virtual_after_return(own)
    with pytest.raises(TailraceError, match="malformed"):
        db.run("INSERT INTO search(search, rowid, body) VALUES ('delete', 1, 'written on the target')")
    told = of_virtual_after_return(search)
    db.run(told[told.index("INSERT INTO") : told.index(" before rows")])
    assert [(1,)] == db.rows("SELECT rowid FROM search WHERE search MATCH 'target'")
    db.run("INSERT INTO search(search, rowid, body) VALUES ('delete', 1, 'written on the target')")


def test_two_checks_that_begin_alike_have_two_lines(db: SqliteDatabase) -> None:
    long = " AND ".join(f"n <> {number}" for number in range(20))
    db.run(f"CREATE TABLE t(n INT CHECK ({long}), CHECK ({long} AND n > 0))")
    checks = [one.name for one in verdicts(*planned(db)) if one.kind == "check"]
    assert 2 == len(set(checks))


def test_what_an_applications_code_sees(db: SqliteDatabase) -> None:
    db.run(
        "CREATE TABLE t(id INTEGER PRIMARY KEY, active BOOLEAN, at DATETIME, doc JSON, price DECIMAL, "
        "c TEXT COLLATE NOCASE, x)"
    )
    db.run("INSERT INTO t VALUES (1, 1, '2024-01-01 00:00:00', '{}', 1.5, 'a', 1), (2, 0, NULL, NULL, 1, 'b', 'x')")
    database, plans = planned(db)
    found = dict(seen(database.tables["t"], plans["t"]))
    assert ["active", "at", "c", "doc", "price", "x"] == sorted(found)
    assert 'WHERE "active" = 1 fails there' in found["active"]


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
