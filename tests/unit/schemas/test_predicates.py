"""Predicates and index terms: the same rows selected by SQLite and by PostgreSQL, over awkward values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from schemas.ddl import create_table
from schemas.introspect import introspect
from schemas.model import Column, Table
from schemas.plan import ColumnPlan, TablePlan, build_table_plan
from schemas.predicates import predicate_sql, term_sql
from schemas.profile import profile_table
from schemas.rows import RowCodec

SQL = """CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, r REAL, s TEXT, b BOOLEAN, x, c TEXT COLLATE NOCASE,
"Order" TEXT, u NUMERIC)"""
ROWS = (
    (1, 0, 0.0, "", 0, 1, "a", "x", 1),
    (2, 1, -0.5, "a", 1, "1", "A", None, "many"),
    (3, -5, 1.0, "B", None, b"1", None, "X", 1.5),
    (4, None, None, None, 1, 1.0, "b", "ä", None),
    (5, 2**60, 1e300, "Ä", 0, None, "B", "x", "1x"),
    (6, 1, 2.0, "1", 1, "a", "", "y", 7),
)
Columns = Mapping[str, tuple[Column, ColumnPlan]]


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    one.run(SQL)
    for row in ROWS:
        one.run("INSERT INTO t VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
    yield one
    one.close()


def planned(db: SqliteDatabase) -> tuple[Table, TablePlan, Columns]:
    table = introspect(db).tables["t"]
    plan = build_table_plan(table, profile_table(db, table), source="s", prefix="p", target_schema="public")
    return table, plan, {one.name.lower(): (table.column(one.name), one) for one in plan.columns}


@pytest.fixture
def target(db: SqliteDatabase, database_url: str) -> Iterator[Postgres]:
    _, plan, _ = planned(db)
    one = Postgres(database_url, application_name="tests")
    one.run(create_table(plan, sink_role="s", name="t")[0])
    rows = RowCodec(plan)
    one.copy_in("COPY t FROM STDIN (FORMAT BINARY)", rows.pg_types, rows.rows_to_pg(db.rows("SELECT * FROM t")))
    yield one
    one.close()


SAME = (
    "n > 0",
    "n >= -5 AND n <> 1",
    "N = '1'",
    "n IS NULL OR r < 1",
    "NOT (n = 1 OR s = 'a')",
    "NOT n = 1 AND r IS NOT NULL",
    "s IN ('a', 'B', '')",
    "s NOT IN ('a', 1)",
    "s > 'a'",
    "s = 1",
    "s IS NOT 'a'",
    "s IS 'Ä'",
    "s NOTNULL AND n ISNULL",
    "s NOT NULL",
    "b",
    "b = 1",
    "b = TRUE AND n",
    "n",
    "x = 1",
    "x = '1'",
    "x = x'31'",
    "c IS NULL",
    "\"Order\" = 'x'",
    "[Order] <> 'x' OR `Order` IS NULL",
    "u = 1",
    "u = 'many'",
    "u IN (1.5, '7')",
    "r = 1",
    "r > -1 AND (n < 5 OR (s = 'Ä' AND b = 0))",
    "s LIKE 'a%'",
    "lower(s) = 'a'",
    "c = 'a'",
    "c IN ('a')",
    "s COLLATE NOCASE = 'a'",
    "n BETWEEN 1 AND 2",
    "n IS TRUE",
    "typeof(n) = 'integer'",
)


@pytest.mark.parametrize("where", SAME)
def test_a_predicate_selects_the_same_rows_on_both_sides(db: SqliteDatabase, target: Postgres, where: str) -> None:
    sql = predicate_sql(where, planned(db)[2])
    assert sql is not None
    assert db.rows(f"SELECT id FROM t WHERE {where} ORDER BY id") == target.rows(
        f"SELECT id FROM t WHERE {sql} ORDER BY id"
    )
    target.run(f"CREATE INDEX ON t(id) WHERE {sql}")


@pytest.mark.parametrize(
    "where",
    [
        "n = s",
        "n > 'many'",
        "x > 1",
        "u > 1",
        "s",
        '"nosuch" = 1',
        "n = 1;",
        "n = 1 + n",
        "n = 1) OR (1",
        "CURRENT_DATE > s",
        "",
    ],
)
def test_what_is_not_known_is_left_out_of_a_predicate(db: SqliteDatabase, where: str) -> None:
    assert None is predicate_sql(where, planned(db)[2])


@pytest.mark.parametrize(
    "term",
    [
        "lower(s)",
        "upper(s)",
        "length(s)",
        "ifnull(s, 'none')",
        "coalesce(n, -1)",
        "LOWER([Order])",
        "abs(n)",
        "lower(n)",
        "substr(s, 1)",
    ],
)
def test_a_term_has_the_same_value_on_both_sides(db: SqliteDatabase, target: Postgres, term: str) -> None:
    sql = term_sql(term, planned(db)[2])
    assert sql is not None
    assert db.rows(f"SELECT id, {term} FROM t ORDER BY id") == target.rows(f"SELECT id, {sql} FROM t ORDER BY id")
    target.run(f"CREATE INDEX ON t(({sql}))")


@pytest.mark.parametrize("term", ["n + 1", "ifnull(s, 1)", "ifnull(n, '1')", "lower(nosuch)", "x", "1", "date(s)"])
def test_what_is_not_known_is_left_out_of_a_term(db: SqliteDatabase, term: str) -> None:
    assert None is term_sql(term, planned(db)[2])
