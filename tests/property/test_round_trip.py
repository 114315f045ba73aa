"""Fifty thousand values of every class in columns of every affinity: SQLite -> Avro -> PostgreSQL -> SQLite, many at a time.

What Hypothesis chooses is a seed and the mix of classes of each column; thousands of values come from it in one round trip.
Each batch is also digested by PostgreSQL and here, and read by the second reader of tests/nasty: three ways to one answer.
"""

from __future__ import annotations

import os
import random
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from schemas.avro import plan_of, value_schema
from schemas.ddl import create_table
from schemas.errors import Misfit
from schemas.introspect import introspect
from schemas.misfit import widened
from schemas.model import Row
from schemas.names import quote
from schemas.plan import TablePlan, build_table_plan
from schemas.profile import profile_table
from schemas.rows import RowCodec
from tests.nasty.meaning import rows_here, rows_there
from tests.nasty.values import BLOBS, INTS, NULS, REALS, TEXTS, Raw, any_value, bool_row, date_row, random_real
from verify.canonical import digests, segment
from verify.sides import TargetSide

DECLARED = (
    *("INTEGER", "BIGINT", "BOOLEAN", "REAL", "DOUBLE", "DECIMAL(10,2)", "NUMERIC", "STRING", "UUID", "JSON", "DATE"),
    *("DATETIME", "TIMESTAMP", "TEXT", "VARCHAR(3)", "BLOB", "", "ANY"),
)
ROWS = 160
BATCHES = int(os.environ.get("TAILRACE_ROUND_TRIPS", "24"))
"""24 batches of 160 rows in 18 columns: 69,120 values."""
MIXES = (
    "any",
    "ints",
    "reals",
    "numbers",
    "texts",
    "nuls",
    "blobs",
    "dates",
    "bools",
    "nothing",
    "documents",
    "days",
    "moments",
    "bits",
)
OWN = (
    *("ints", "ints", "bits", "reals", "reals", "numbers", "numbers", "texts", "ints", "documents", "days"),
    *("moments", "moments", "texts", "nuls", "blobs", "any", "any"),
)
"""What each column is declared for."""
_seen: Counter[str] = Counter()


def _value(rng: random.Random, mix: str, at: int) -> object:
    match mix:
        case "ints":
            return rng.choice(INTS) if rng.random() < 0.3 else rng.randrange(-(2**63), 2**63)
        case "reals":
            return rng.choice(REALS) if rng.random() < 0.3 else random_real(rng)
        case "numbers":
            return rng.choice((*INTS, *REALS, 0.5, 2.5, 7))
        case "texts":
            return rng.choice(TEXTS)
        case "nuls":
            return rng.choice((*NULS, "plain"))
        case "blobs":
            return rng.choice(BLOBS)
        case "dates":
            return date_row(rng)[at % 4]
        case "bools":
            return bool_row(rng)[at % 5]
        case "nothing":
            return None
        case "days":
            return date_row(rng)[0]
        case "moments":
            return date_row(rng)[2]
        case "bits":
            return rng.choice((0, 1))
        case "documents":
            return rng.choice(('{"a": 1}', '{"a": 1,  "a": [1.0, null]}', '"\\u00e9"', "[]"))
    return any_value(rng)


@pytest.fixture(scope="module")
def target(postgres_url: str) -> Iterator[Postgres]:
    one = Postgres(postgres_url, application_name="tests")
    one.run("CREATE SCHEMA IF NOT EXISTS round")
    one.run("CREATE SCHEMA IF NOT EXISTS tailrace")
    one.run("CREATE OR REPLACE FUNCTION tailrace.guard() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    yield one
    one.close()


def _filled(folder: Path, seed: int, mixes: list[str]) -> Path:
    rng = random.Random(seed)
    path = folder / "round.db"
    path.unlink(missing_ok=True)
    with closing(sqlite3.connect(path, isolation_level=None)) as db:
        columns = ", ".join(f"c{at} {declared}" for at, declared in enumerate(DECLARED))
        db.execute(f"CREATE TABLE t(id INTEGER PRIMARY KEY, {columns})")
        db.execute("BEGIN")
        for row in range(ROWS):
            values = [_value(rng, mix, row) if rng.random() < 0.95 else None for mix in mixes]
            marks = ", ".join("CAST(? AS TEXT)" if isinstance(one, Raw) else "?" for one in values)
            bound = [bytes(one) if isinstance(one, Raw) else one for one in values]
            db.execute(f"INSERT INTO t VALUES ({row}, {marks})", bound)
        db.execute("COMMIT")
    return path


def _fitted(plan: TablePlan, rows: list[Row]) -> tuple[TablePlan, list[bytes]]:
    names = [column.name for column in plan.columns]
    while True:
        try:
            return plan, RowCodec(plan).encode_rows(rows)
        except Misfit as misfit:
            plan = widened(plan, misfit.column, [row[names.index(misfit.column)] for row in rows])


def exact(rows: list[Row]) -> list[str]:
    return [repr([(type(value), value) for value in row]) for row in rows]


@settings(
    max_examples=BATCHES,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
    phases=[Phase.explicit, Phase.generate],
)
@given(
    seed=st.integers(0, 2**32),
    mixes=st.lists(st.sampled_from(MIXES), min_size=len(DECLARED), max_size=len(DECLARED)),
)
@example(seed=1, mixes=list(OWN))
def _every_value_comes_back(
    tmp_path_factory: pytest.TempPathFactory, postgres_url: str, target: Postgres, seed: int, mixes: list[str]
) -> None:
    path = _filled(tmp_path_factory.getbasetemp(), seed, mixes)
    with closing(SqliteDatabase(path)) as source:
        table = introspect(source).tables["t"]
        plan = build_table_plan(table, profile_table(source, table), source="s", prefix="p", target_schema="round")
        rows = source.rows("SELECT * FROM t ORDER BY id")
    plan, payloads = _fitted(plan, rows)
    reader = RowCodec(plan_of(value_schema(plan)))
    assert exact(rows) == exact(reader.decode_rows(payloads))
    target.run("DROP TABLE IF EXISTS round.t")
    for statement in create_table(plan, sink_role="anybody"):
        target.run(statement)
    names = ", ".join(quote(column.target) for column in plan.columns)
    target.copy_in(
        f"COPY round.t ({names}) FROM STDIN (FORMAT BINARY)", reader.pg_types, reader.payloads_to_pg(payloads)
    )
    back = reader.rows_from_pg(target.rows(f"SELECT {names} FROM round.t ORDER BY id", prepare=False))
    assert exact(rows) == exact(back)
    keys = [(row[0],) for row in rows]
    side = TargetSide(target, table, plan)
    assert digests(rows) == list(dict(sorted(side.digests(keys).items(), key=lambda one: eval(one[0]))).values())
    assert segment(digests(rows)) == side.segment(keys)
    document = {
        "target_schema": "round",
        "target_table": "t",
        "columns": [{"target": column.target, "codec": column.codec} for column in plan.columns],
    }
    with closing(sqlite3.connect(path)) as db, psycopg.connect(postgres_url) as there:
        db.text_factory = bytes
        there.execute("SET TimeZone = 'UTC'")
        assert rows_here(db, "t", [column.name for column in plan.columns]) == rows_there(there, document)
    _seen["values"] += len(rows) * len(plan.columns)
    _seen.update(column.codec for column in plan.columns)


def test_every_value_comes_back(tmp_path_factory: pytest.TempPathFactory, postgres_url: str, target: Postgres) -> None:
    _seen.clear()
    _every_value_comes_back(tmp_path_factory, postgres_url, target)
    assert 50_000 < _seen["values"]
    wanted = {"long", "double", "text", "blob", "jsonb", "numeric", "text-bytes", "boolean", "json", "date"}
    assert set() == wanted - set(_seen)
