"""Defaults: SQLite's own value of a default against PostgreSQL's, through the column's codec."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from schemas.ddl import column_ddl
from schemas.expressions import default_sql
from schemas.introspect import introspect
from schemas.literals import literal_sql
from schemas.plan import ColumnPlan, TablePlan
from schemas.rows import RowCodec
from schemas.typemap import codec


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    yield one
    one.close()


@pytest.fixture
def target(database_url: str) -> Iterator[Postgres]:
    one = Postgres(database_url, application_name="tests")
    yield one
    one.close()


def planned(name: str, codec_name: str, affinity: str) -> ColumnPlan:
    return ColumnPlan(name, name, "", codec(codec_name).pg_type, codec_name, False, "", affinity)


CONSTANT = (
    ("TEXT DEFAULT 'it''s'", "text", "TEXT"),
    ('TEXT DEFAULT "quoted"', "text", "TEXT"),
    ("TEXT DEFAULT 7", "text", "TEXT"),
    ("TEXT DEFAULT ''", "text", "TEXT"),
    ("INTEGER DEFAULT -5", "long", "INTEGER"),
    ("INTEGER DEFAULT '12'", "long", "INTEGER"),
    ("INTEGER DEFAULT 3.0", "long", "INTEGER"),
    ("INTEGER DEFAULT (+8)", "long", "INTEGER"),
    ("INTEGER DEFAULT 9223372036854775807", "long", "INTEGER"),
    ("REAL DEFAULT 1", "double", "REAL"),
    ("REAL DEFAULT -1.5e-7", "double", "REAL"),
    ("BOOLEAN DEFAULT 1", "boolean", "NUMERIC"),
    ("BOOLEAN DEFAULT FALSE", "boolean", "NUMERIC"),
    ("BLOB DEFAULT x'00ff'", "blob", "BLOB"),
    ("NUMERIC DEFAULT 'many'", "affinity-text:NUMERIC", "NUMERIC"),
    ("NUMERIC DEFAULT 1.5", "affinity-text:NUMERIC", "NUMERIC"),
    ("DEFAULT 1", "jsonb", "BLOB"),
    ("DEFAULT 'a\"b'", "jsonb", "BLOB"),
    ("DEFAULT x'01'", "jsonb", "BLOB"),
    ("DEFAULT NULL", "text", "BLOB"),
    ("TEXT DEFAULT (1 + 1)", "text", "TEXT"),
    ("TEXT DEFAULT (abs(-1))", "text", "TEXT"),
    ("TEXT DEFAULT 0xff", "text", "TEXT"),
    ("TEXT DEFAULT ('a' || 'b' || 1)", "text", "TEXT"),
    ("INTEGER DEFAULT (1 = 1)", "long", "INTEGER"),
    ("REAL DEFAULT (1.5 * 2)", "double", "REAL"),
    ("TEXT DEFAULT '2024-02-29'", "date", "TEXT"),
    ("TEXT DEFAULT '2024-02-29 01:02:03'", "timestamp:_0", "TEXT"),
)


@pytest.mark.parametrize(("declared", "codec_name", "affinity"), CONSTANT)
def test_a_literal_takes_the_columns_form(
    db: SqliteDatabase, target: Postgres, declared: str, codec_name: str, affinity: str
) -> None:
    db.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    db.run("INSERT INTO t(id) VALUES (1)")
    plan = planned("v", codec_name, affinity)
    sql = default_sql(introspect(db).tables["t"].column("v"), plan)
    assert sql is not None
    target.run(f"CREATE TABLE t(id int, {column_ddl(plan)} DEFAULT {sql})")
    target.run("INSERT INTO t(id) VALUES (1)")
    rows = RowCodec(TablePlan("s", "t", "public", "t", "x", (plan,), ("v",)))
    back = rows.rows_from_pg(target.rows("SELECT v FROM t"))
    assert [repr(row) for row in db.rows("SELECT v FROM t")] == [repr(tuple(row)) for row in back]


CLOCKS = (
    ("TEXT DEFAULT CURRENT_TIMESTAMP", "text", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    ("TEXT DEFAULT (datetime('now'))", "text", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    ("TEXT DEFAULT CURRENT_DATE", "text", r"\d{4}-\d\d-\d\d"),
    ("TEXT DEFAULT CURRENT_TIME", "text", r"\d\d:\d\d:\d\d"),
    ("TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))", "text", r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"),
    ("TEXT DEFAULT (strftime('day %j of %Y', 'now'))", "text", r"day \d{3} of \d{4}"),
    ("INTEGER DEFAULT (strftime('%s', 'now'))", "long", r"\d{10}"),
    ("DATETIME DEFAULT CURRENT_TIMESTAMP", "timestamp:_0", r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"),
    ("DATE DEFAULT (date('now'))", "date", r"\d{4}-\d\d-\d\d"),
    ("TEXT DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ','now'))", "timestamp:T3Z", r"\d{4}-.*T\d\d:\d\d:\d\d\.\d{3}Z"),
)


@pytest.mark.parametrize(("declared", "codec_name", "pattern"), CLOCKS)
def test_time_defaults_are_taken_at_each_insert(
    db: SqliteDatabase, target: Postgres, declared: str, codec_name: str, pattern: str
) -> None:
    db.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    db.run("INSERT INTO t(id) VALUES (1)")
    column = introspect(db).tables["t"].column("v")
    plan = planned("v", codec_name, column.affinity)
    sql = default_sql(column, plan)
    assert sql is not None
    assert "'now'" not in sql
    target.run("SET timezone = 'America/New_York'")
    target.run(f"CREATE TABLE t(id int, {column_ddl(plan)} DEFAULT {sql})")
    target.run("INSERT INTO t(id) VALUES (1)")
    rows = RowCodec(TablePlan("s", "t", "public", "t", "x", (plan,), ("v",)))
    ((there,),) = rows.rows_from_pg(target.rows("SELECT v FROM t"))
    ((here,),) = db.rows("SELECT v FROM t")
    assert type(here) is type(there)
    assert re.fullmatch(pattern, str(here))
    assert re.fullmatch(pattern, str(there))
    # The same hour of the same day in UTC, whatever the session's zone is (unless the test runs over the hour).
    assert str(here)[:8] == str(there)[:8]


@pytest.mark.parametrize(
    "default",
    [
        "(lower(hex(randomblob(4))))",
        "(datetime('now', 'localtime'))",
        "(strftime('%w', 'now'))",
        "(date('2024-01-01'))",
        "(random())",
        "(1.5 + 1)",
        "(x'00' || 'a')",
    ],
)
def test_what_is_not_known_is_left_out(db: SqliteDatabase, default: str) -> None:
    db.run(f"CREATE TABLE t(v TEXT DEFAULT {default})")
    assert None is default_sql(introspect(db).tables["t"].column("v"), planned("v", "text", "TEXT"))


def test_a_literal_that_the_codec_cannot_carry_is_left_out() -> None:
    assert None is literal_sql("many", planned("v", "long", "INTEGER"))
    assert None is literal_sql(2, planned("v", "boolean", "NUMERIC"))
    assert None is literal_sql(1.5, planned("v", "text", "TEXT"))
    assert None is literal_sql("30 February", planned("v", "date", "TEXT"))
