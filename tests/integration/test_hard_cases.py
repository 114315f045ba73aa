"""The cases on which other ways of capturing SQLite lose or change something, each by name, through the whole path."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from schemas.names import quote
from schemas.plan import plan_from_json
from schemas.rows import RowCodec
from tests.small import Small


@dataclass(frozen=True, slots=True)
class Case:
    """`before`: rows that the copy meets; `live`: the application while everything follows; `table` as it is named."""

    ddl: tuple[str, ...]
    before: tuple[str, ...]
    live: tuple[str, ...]
    table: str = "t"


T = ("CREATE TABLE t(id INTEGER PRIMARY KEY, v)",)
U = ("CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE, v)",)
ONE = ("INSERT INTO t(id, v) VALUES (1, 'one'), (2, 'two'), (3, 'three')",)
REALS = "1e308, -0.0, 0.1, 5e-324, 1.7976931348623157e308, 123456789.123456789, 2.2250738585072014e-308"

CASES: dict[str, Case] = {
    "insert, update, delete": Case(
        T, ONE, ("INSERT INTO t VALUES (4, 4)", "UPDATE t SET v = 'x' WHERE id = 1", "DELETE FROM t WHERE id = 2")
    ),
    "REPLACE on the same key": Case(T, ONE, ("REPLACE INTO t VALUES (1, 'again')",)),
    "UPSERT": Case(
        T, ONE, ("INSERT INTO t VALUES (1, 9), (7, 9) ON CONFLICT(id) DO UPDATE SET v = excluded.v || 'u'",)
    ),
    "UPSERT that changes the key": Case(
        T, ONE, ("INSERT INTO t VALUES (1, 9) ON CONFLICT(id) DO UPDATE SET id = 99, v = 'moved'",)
    ),
    "OR IGNORE": Case(T, ONE, ("INSERT OR IGNORE INTO t VALUES (1, 'no'), (8, 'yes')",)),
    "foreign key cascade": Case(
        (
            "CREATE TABLE t(id INTEGER PRIMARY KEY, p INTEGER REFERENCES p(id) ON DELETE CASCADE ON UPDATE CASCADE, v)",
            "CREATE TABLE p(id INTEGER PRIMARY KEY)",
        ),
        ("INSERT INTO p VALUES (1), (2), (3)", "INSERT INTO t VALUES (10, 1, 'a'), (11, 1, 'b'), (12, 2, 'c')"),
        ("PRAGMA foreign_keys = ON", "DELETE FROM p WHERE id = 1", "UPDATE p SET id = 20 WHERE id = 2"),
    ),
    "primary key change": Case(T, ONE, ("UPDATE t SET id = 100 WHERE id = 1", "UPDATE t SET id = id + 1000")),
    "primary key change by case only": Case(
        ("CREATE TABLE t(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v)",),
        ("INSERT INTO t VALUES ('abc', 1)",),
        ("UPDATE t SET k = 'ABC'", "REPLACE INTO t VALUES ('aBc', 2)"),
    ),
    "primary key change from 1 to 1.0": Case(
        ("CREATE TABLE t(k PRIMARY KEY NOT NULL, v)",),
        ("INSERT INTO t VALUES (1, 'integer')",),
        ("UPDATE t SET k = 1.0", "UPDATE t SET v = 'after'"),
    ),
    "composite key WITHOUT ROWID": Case(
        ("CREATE TABLE t(v, b TEXT, a INTEGER, PRIMARY KEY(a, b)) WITHOUT ROWID",),
        ("INSERT INTO t VALUES ('x', 'b', 1), ('y', 'c', 1)",),
        ("UPDATE t SET b = 'z' WHERE b = 'c'", "DELETE FROM t WHERE b = 'b'", "INSERT INTO t VALUES (NULL, '', 0)"),
    ),
    "table without a key": Case(
        ("CREATE TABLE t(a, b)",),
        ("INSERT INTO t VALUES (1, 1), (1, 1), (NULL, NULL)",),
        ("DELETE FROM t WHERE rowid = 1", "INSERT INTO t VALUES (1, 1)", "UPDATE t SET b = 2 WHERE rowid = 3"),
    ),
    "BLOB in a BLOB column": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)",),
        ("INSERT INTO t VALUES (1, x'00ff80')",),
        ("INSERT INTO t VALUES (2, x''), (3, zeroblob(5000))",),
    ),
    "seven hard REALs": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL)",),
        tuple(f"INSERT INTO t(v) VALUES ({real})" for real in REALS.split(", ")),
        tuple(f"INSERT INTO t(v) VALUES (-({real}))" for real in REALS.split(", ")),
    ),
    "infinities": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL)",),
        ("INSERT INTO t VALUES (1, 9e999)",),
        ("INSERT INTO t VALUES (2, -9e999), (3, NULL)",),
    ),
    "limits of int64": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)",),
        ("INSERT INTO t VALUES (9223372036854775807, -9223372036854775808)",),
        ("INSERT INTO t VALUES (-9223372036854775808, 9223372036854775807), (0, -1)",),
    ),
    "NUL in text": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, 'a' || char(0) || 'b')",),
        ("INSERT INTO t VALUES (2, char(0))", "INSERT INTO t VALUES (3, 'after it the stream goes on')"),
    ),
    "NUL in text, first while live": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, 'plain')",),
        ("INSERT INTO t VALUES (2, 'x' || char(0) || 'y')", "INSERT INTO t VALUES (3, 'after')"),
    ),
    "unicode and control characters": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, 'é' || char(101, 769) || '𝕏' || char(1, 31, 127, 8232))",),
        ("INSERT INTO t VALUES (2, '\\N\\.' || char(9, 10, 13)), (3, char(65535, 65533, 1114111))",),
    ),
    "odd column names": Case(
        ('CREATE TABLE t(id INTEGER PRIMARY KEY, "two words", "quo""te", "select", "ünï", "a.b", "%s", "semi;colon")',),
        ("INSERT INTO t VALUES (1, 1, 2, 3, 4, 5, 6, 7)",),
        ('UPDATE t SET "quo""te" = \'x\', "%s" = \'y\'', "INSERT INTO t VALUES (2, 7, 6, 5, 4, 3, 2, 1)"),
    ),
    "a table name with a space": Case(
        ('CREATE TABLE "two words"(id INTEGER PRIMARY KEY, v)',),
        ('INSERT INTO "two words" VALUES (1, 1)',),
        ('UPDATE "two words" SET v = 2',),
        table="two words",
    ),
    "a table name with quotes and a dot": Case(
        ('CREATE TABLE "it\'s ""x"".y"(id INTEGER PRIMARY KEY, v)',),
        ('INSERT INTO "it\'s ""x"".y" VALUES (1, 1)',),
        ('UPDATE "it\'s ""x"".y" SET v = 2', 'INSERT INTO "it\'s ""x"".y" VALUES (2, 2)'),
        table='it\'s "x".y',
    ),
    "a table named by a reserved word": Case(
        ('CREATE TABLE "order"(id INTEGER PRIMARY KEY, "user")',),
        ('INSERT INTO "order" VALUES (1, 1)',),
        ('UPDATE "order" SET "user" = 2',),
        table="order",
    ),
    "ADD COLUMN with a pause": Case(T, ONE, ("ALTER TABLE t ADD COLUMN n", "-- pause", "UPDATE t SET n = 5")),
    "ADD COLUMN followed at once by a write": Case(
        T,
        ONE,
        ("ALTER TABLE t ADD COLUMN n TEXT", "UPDATE t SET n = 'kept' WHERE id = 2", "INSERT INTO t VALUES (9, 9, 9)"),
    ),
    "REPLACE displaces through UNIQUE": Case(
        U, ("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2)",), ("INSERT OR REPLACE INTO t VALUES (3, 'a', 3)",)
    ),
    "UPDATE OR REPLACE displaces through UNIQUE": Case(
        U,
        ("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)",),
        ("UPDATE OR REPLACE t SET u = 'a' WHERE id = 3",),
    ),
    "BLOB in a TEXT column": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, x'c3a9'), (2, 'é')",),
        ("INSERT INTO t VALUES (3, x'00')", "UPDATE t SET v = x'616263' WHERE id = 2"),
    ),
    "BLOB in a TEXT column, first while live": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, 'text')",),
        ("UPDATE t SET v = x'74657874'", "INSERT INTO t VALUES (2, 'text')"),
    ),
    "text in a BLOB column": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v BLOB)",),
        ("INSERT INTO t VALUES (1, x'61')",),
        ("INSERT INTO t VALUES (2, 'a')", "UPDATE t SET v = '' WHERE id = 1"),
    ),
    "text in an INTEGER column": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v INTEGER)",),
        ("INSERT INTO t VALUES (1, 5)",),
        ("INSERT INTO t VALUES (2, 'five'), (3, '5 '), (4, 5.5)",),
    ),
    "2^53 + 1 in a NUMERIC column": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v NUMERIC)",),
        ("INSERT INTO t VALUES (1, 9007199254740993), (2, 0.5)",),
        ("INSERT INTO t VALUES (3, '9007199254740993'), (4, 1e20), (5, -9007199254740993)",),
    ),
    "invalid UTF-8": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)",),
        ("INSERT INTO t VALUES (1, CAST(x'ff41' AS TEXT))",),
        ("INSERT INTO t VALUES (2, CAST(x'c328' AS TEXT)), (3, 'valid')",),
    ),
    "create, copy, drop, rename": Case(
        T,
        ONE,
        (
            "BEGIN",
            "CREATE TABLE t2(id INTEGER PRIMARY KEY, v, n)",
            "INSERT INTO t2 SELECT id, v, 0 FROM t",
            "DROP TABLE t",
            "ALTER TABLE t2 RENAME TO t",
            "INSERT INTO t VALUES (50, 'in the same transaction', 1)",
            "COMMIT",
            "INSERT INTO t VALUES (51, 'later', 2)",
        ),
    ),
    "RENAME COLUMN": Case(T, ONE, ("ALTER TABLE t RENAME COLUMN v TO w", "UPDATE t SET w = 'new name' WHERE id = 1")),
    "DROP COLUMN": Case(
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v, gone)",),
        ("INSERT INTO t VALUES (1, 1, 1), (2, 2, 2)",),
        ("ALTER TABLE t DROP COLUMN gone", "UPDATE t SET v = 9 WHERE id = 2"),
    ),
    "a key twice in one batch": Case(
        T,
        ONE,
        (
            "UPDATE t SET v = 1 WHERE id = 1",
            "UPDATE t SET v = 2 WHERE id = 1",
            "DELETE FROM t WHERE id = 2",
            "INSERT INTO t VALUES (2, 'back')",
        ),
    ),
    "ten per cent deletes": Case(
        T,
        (
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) INSERT INTO t SELECT i, i FROM n",
        ),
        ("DELETE FROM t WHERE id % 10 = 0", "UPDATE t SET v = -id WHERE id % 3 = 0"),
    ),
}


def _exact(value: Any) -> Any:
    """Class and bits: -0.0 is not 0.0 and 1 is not 1.0."""
    return ("real", struct.pack("<d", value)) if isinstance(value, float) else (type(value).__name__, value)


def _typed(rows: list[tuple[Any, ...]]) -> list[Any]:
    return sorted((tuple(map(_exact, row)) for row in rows), key=repr)


@pytest.fixture
def opened() -> Iterator[list[Small]]:
    made: list[Small] = []
    yield made
    for one in made:
        one.close()


def _both(world: Small, table: str) -> tuple[list[Any], list[Any]]:
    """The table's rows on both sides as (class, exact value)."""
    sql = "SELECT plan::text FROM tailrace.tables WHERE source = 's' AND \"table\" = %s"
    plan = plan_from_json(world.target.rows(sql, (table,))[0][0])
    names = [column.name for column in plan.columns]
    found = world.target.rows(
        f"SELECT {', '.join(quote(column.target) for column in plan.columns)} FROM "
        f"{quote(plan.target_schema)}.{quote(plan.target_table)}",
        prepare=False,
    )
    there = RowCodec(plan).rows_from_pg(found)
    selected = ", ".join("rowid" if name == "_tailrace_rowid" else quote(name) for name in names)
    return _typed(world.app.rows(f"SELECT {selected} FROM {quote(table)}")), _typed(there)


def _application(world: Small, statements: tuple[str, ...]) -> None:
    """Each statement must succeed for the application; a comment is a pause in which everything is applied."""
    for statement in statements:
        if statement.startswith("--"):
            world.settle()
        else:
            world.app.run(statement)


@pytest.mark.parametrize("name", list(CASES))
def test_hard_case(tmp_path: Path, database_url: str, opened: list[Small], name: str) -> None:
    case = CASES[name]
    world = Small(tmp_path, database_url, *case.ddl)
    opened.append(world)
    _application(world, case.before)
    world.settle()
    assert_same(world, case.table)
    _application(world, case.live)
    world.settle()
    assert_same(world, case.table)
    assert 0 == world.progress().tables[case.table].quarantined


@pytest.mark.parametrize("name", list(CASES))
def test_hard_case_made_before_the_copy_has_begun(
    tmp_path: Path, database_url: str, opened: list[Small], name: str
) -> None:
    """Changes made in the first moments after the start: logged, and part of the first copy."""
    case = CASES[name]
    world = Small(tmp_path, database_url, *case.ddl)
    opened.append(world)
    _application(world, case.before)
    world.capture.step()
    _application(world, tuple(one for one in case.live if not one.startswith("--")))
    world.settle()
    assert_same(world, case.table)


def assert_same(world: Small, table: str) -> None:
    here, there = _both(world, table)
    assert here == there
    assert here
