"""Every codec through the statements that the sink and verify really use, against a real PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from adapters.postgres import Postgres
from schemas.codecs import fits
from schemas.ddl import create_table
from schemas.model import Affinity, BadText, Column, KeyKind, Row, Table, TableKey, Value
from schemas.plan import ColumnPlan, TablePlan
from schemas.rows import RowCodec
from schemas.typemap import codec
from sink.statements import arrays, delete_sql, temp_sql, upsert_sql
from verify.canonical import digests
from verify.sides import TargetSide

KEYED = (
    *("long", "double", "text", "blob", "text-bytes", "numeric", "jsonb", "date", "timestamp:_0", "timestamp:TuZ"),
    *("timestamp:T3+00:00", "timestamp:Tx+00:00", "timestamp:_n", "affinity-text:NUMERIC"),
)
VALUES: tuple[Value, ...] = (
    *(
        0,
        1,
        -(2**63),
        2**63 - 1,
        0.5,
        1e20,
        math.inf,
        5e-324,
        "",
        "a",
        "it's",
        "\u6f22",
        "a\x00",
        "{}",
        '{"b":1, "a":2}',
    ),
    *(b"", b"\x00\xff", BadText(b"\xff"), "0001-01-01", "2024-02-29", "9999-12-31"),
    *("0001-01-01 00:00:00", "2024-02-29 12:00:00", "2024-02-29T12:00:00Z", "2024-02-29T12:00:00.000001Z"),
    *(
        "2024-02-29T12:00:00.000001+00:00",
        "2024-02-29T12:00:00.120+00:00",
        "2024-02-29 12:00:01",
        "2024-02-29 12:00:00.5",
    ),
    *("2024-02-29 12:00:00.000500", "2024-02-29 12:00:01.000500"),
    *("1969-12-31T23:59:59.999+00:00", "2024-02-29T12:00:00.000+00:00", "2024-02-29 12:00", "9999-12-31 23:59"),
)


@pytest.fixture
def target(database_url: str) -> Iterator[Postgres]:
    one = Postgres(database_url, application_name="tests")
    yield one
    one.close()


def shape(name: str, *, key: str) -> tuple[TablePlan, Table]:
    """Columns `id` and `v`, with either as the key."""
    columns = (
        ColumnPlan("id", "id", "", "bigint", "long", True, "", "INTEGER"),
        ColumnPlan("v", "v", "", codec(name).pg_type, name, key == "v", "", "BLOB"),
    )
    table = Table(
        "t",
        (Column("id", "INTEGER", Affinity.INTEGER), Column("v", "", Affinity.BLOB)),
        TableKey(KeyKind.DECLARED, (key,), "rowid"),
    )
    return TablePlan("s", "t", "public", "t", "p.s.t-t", columns, (key,)), table


def fitting(name: str) -> list[Value]:
    values = [value for value in VALUES if fits(codec(name), value)]
    assert 2 <= len(values)
    return values


def create(target: Postgres, plan: TablePlan) -> None:
    for statement in create_table(plan, sink_role="sink", name="t"):
        target.run(statement)


def exact(rows: list[Row]) -> list[str]:
    return sorted(map(repr, rows))


@pytest.mark.parametrize("name", [*KEYED, "boolean", "json", "timestamp:_m", "affinity-text:REAL"])
def test_upserts_by_array_and_by_copy(target: Postgres, name: str) -> None:
    plan, table = shape(name, key="id")
    create(target, plan)
    one, side = RowCodec(plan), TargetSide(target, table, plan)
    rows: list[Row] = [(at, value) for at, value in enumerate(fitting(name))]
    target.run(upsert_sql(plan), arrays(one.rows_to_pg([(at, None) for at, _ in rows])))
    target.run(upsert_sql(plan), arrays(one.payloads_to_pg(one.encode_rows([*rows[1:], (99, None)]))))
    assert sorted(digests([(0, None), *rows[1:], (99, None)])) == sorted(
        side.digests([(at,) for at in range(100)]).values()
    )
    turned: list[Row] = [(at, value) for (at, _), (_, value) in zip(rows, reversed(rows), strict=True)]
    create_temp, copy, merge = temp_sql(plan)
    with target.transaction():
        target.run(create_temp)
        target.copy_in(copy, one.pg_types, one.rows_to_pg(turned))
        target.run(merge)
    assert sorted(digests([*turned, (99, None)])) == sorted(side.digests([(at,) for at in range(100)]).values())


@pytest.mark.parametrize("name", KEYED)
def test_a_key_finds_its_row_to_read_to_page_and_to_delete(target: Postgres, name: str) -> None:
    plan, table = shape(name, key="v")
    create(target, plan)
    one, side = RowCodec(plan), TargetSide(target, table, plan)
    rows: list[Row] = [(at, value) for at, value in enumerate(fitting(name))]
    target.run(upsert_sql(plan), arrays(one.rows_to_pg(rows)))
    again: list[Row] = [(at + 100, value) for at, value in rows]
    target.run(upsert_sql(plan), arrays(one.rows_to_pg(again)))
    assert len(rows) == side.count()
    assert sorted(digests(again)) == sorted(side.digests([(value,) for _, value in rows]).values())
    paged = [key for chunk in side.chunks(chunk_rows=1) for key in chunk]
    assert exact([(value,) for _, value in rows]) == exact(paged)
    target.run(delete_sql(plan), arrays(one.keys_to_pg(one.encode_keys([(rows[0][1],)]))))
    assert sorted(digests(again[1:])) == sorted(side.digests([(value,) for _, value in rows]).values())
