"""Widening on a real PostgreSQL: what the table holds afterwards is what encoding the same values anew would give."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import pytest
from pglast import parse_sql

from adapters.postgres import Postgres
from schemas.ddl import create_table
from schemas.errors import Code, Failed, Refusal
from schemas.evolution import covers, evolve, fill
from schemas.model import BadText, Value
from schemas.plan import ColumnPlan, TablePlan
from schemas.rows import RowCodec
from schemas.typemap import codec, fits, join

NAMES = (
    "boolean",
    "long",
    "double",
    "text",
    "blob",
    "text-bytes",
    "affinity-text:INTEGER",
    "affinity-text:NUMERIC",
    "affinity-text:REAL",
    "numeric",
    "date",
    "timestamp:_0",
    "timestamp:_u",
    "timestamp:T3Z",
    "timestamp:T6+00:00",
    "timestamp:_m",
    "json",
    "jsonb",
)
VALUES: tuple[Value, ...] = (
    *(0, 1, -1, 7, 2**53 + 1, 2**63 - 1, -(2**63)),
    *(0.0, -0.0, 0.1, -1.5, 1e14, 1e15, 1000000000000000.1, 1234567890123456.0, 9999999999999998.0, 1e16, 1e300),
    *(1e-4, 1e-5, -1.5e-7, 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308, math.inf, -math.inf),
    *("", "abc", "007", " 1", "1e5", "0x10", "'\"\\", "Zoë 漢字 🙂", "x" * 200, "\u007f\x01", "null", "a\nb", "9e999"),
    *(b"", b"abc", bytes(range(256)), b"\xff" * 100),
    *(BadText(b"\xff\xfe"), BadText(b"ok\xed\xa0\x80"), BadText(b"\xc0\x80"), BadText(b"\xf4\x90\x80\x80")),
    *("nul\x00inside", "\x00"),
    *("2024-02-29", "0001-01-01", "9999-12-31", "2024-02-30"),
    *("2024-02-29 00:00:00", "0001-01-01 23:59:59", "2024-02-29 00:00", "9999-12-31 23:59"),
    *("2024-02-29 00:00:00.000001", "1969-12-31 23:59:59.999999"),
    *("2024-02-29T00:00:00.000Z", "1969-12-31T23:59:59.999Z"),
    *("2024-02-29T00:00:00.000000+00:00", "0001-01-01T00:00:00.000001+00:00"),
    *('{"b": 1,  "a": [1.0, null]}', " [] ", '"\\u0000"', '{"a": 1, "a": 2}'),
    *(0.25, 1e20, 2.0**63, 1234567890123456.5),
    None,
)


@pytest.fixture
def target(database_url: str) -> Iterator[Postgres]:
    one = Postgres(database_url, application_name="tests")
    one.run("CREATE SCHEMA app")
    yield one
    one.close()


def column(name: str, codec_name: str, *, not_null: bool = False) -> ColumnPlan:
    affinity = codec_name.partition(":")[2] if codec_name.startswith("affinity") else "BLOB"
    affinity = "NUMERIC" if codec_name == "numeric" else affinity
    return ColumnPlan(name, name, "", codec(codec_name).pg_type, codec_name, not_null, "", affinity)


def plan(*columns: ColumnPlan, key: tuple[str, ...] = ("id",)) -> TablePlan:
    return TablePlan("one", "t", "app", "t", "topic", columns, key)


def create(target: Postgres, shape: TablePlan) -> None:
    # A shadow name leaves the guard away: its function belongs to the bookkeeping.
    for statement in create_table(shape, sink_role="sink", name="t"):
        target.run(statement)


def insert(target: Postgres, shape: TablePlan, rows: list[tuple[Value, ...]]) -> None:
    encoded = RowCodec(shape)
    names = ", ".join(f'"{one.target}"' for one in shape.columns)
    target.copy_in(
        f"COPY app.t ({names}) FROM STDIN (FORMAT BINARY)",
        encoded.pg_types,
        encoded.payloads_to_pg(encoded.encode_rows(rows)),
    )


def run_all(target: Postgres, statements: Sequence[str]) -> None:
    with target.transaction():
        for statement in statements:
            target.run(statement)


def widenings() -> list[tuple[str, str]]:
    return [(old, new) for old in NAMES for other in NAMES if (new := join(old, other)) != old]


@pytest.mark.parametrize(("old", "new"), sorted(set(widenings())))
def test_fill_is_what_encoding_anew_gives(target: Postgres, old: str, new: str) -> None:
    values = [value for value in VALUES if fits(codec(old), value) and fits(codec(new), value)]
    before = plan(column("id", "long", not_null=True), column("v", old))
    after = plan(column("id", "long", not_null=True), column("v", new))
    create(target, before)
    insert(target, before, [(at, value) for at, value in enumerate(values)])
    evolution = evolve(before, after)
    assert after.columns == evolution.plan.columns
    for statement in evolution.statements:
        parse_sql(statement)
        target.run(statement)
    # The same values in the wider codec from the start, beside it.
    for statement in create_table(replace(after, target_table="u"), sink_role="sink", name="u"):
        target.run(statement)
    encoded = RowCodec(after)
    target.copy_in(
        'COPY app.u ("id", "v") FROM STDIN (FORMAT BINARY)',
        encoded.pg_types,
        encoded.payloads_to_pg(encoded.encode_rows([(at, value) for at, value in enumerate(values)])),
    )
    different = target.rows(
        "SELECT t.id, t.v, u.v FROM app.t JOIN app.u USING (id) WHERE t.v IS DISTINCT FROM u.v ORDER BY id"
    )
    assert [] == different
    back = encoded.rows_from_pg(target.rows("SELECT id, v FROM app.t ORDER BY id"))
    assert [repr((at, value)) for at, value in enumerate(values)] == [repr(tuple(row)) for row in back]


def test_every_codec_has_values_to_widen() -> None:
    for name in NAMES:
        assert 2 <= sum(fits(codec(name), value) for value in VALUES if value is not None), name


def test_widening_is_invisible_to_open_snapshots(target: Postgres, database_url: str) -> None:
    before = plan(column("id", "long", not_null=True), column("v", "long"))
    create(target, before)
    insert(target, before, [(1, 10), (2, 20)])
    reader = Postgres(database_url, application_name="reader")
    target.run("CREATE TABLE app.other(x int)")
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert [] == reader.rows("SELECT * FROM app.other")  # takes the snapshot without a lock on app.t
    for statement in evolve(before, plan(column("id", "jsonb", not_null=True), column("v", "jsonb"))).statements:
        target.run(statement)
    assert [(2,)] == reader.rows("SELECT count(*) FROM app.t")
    reader.run("ROLLBACK")
    reader.close()


def test_a_key_column_is_retyped_and_keeps_the_key(target: Postgres) -> None:
    before = plan(column("a", "text", not_null=True), column("b", "long", not_null=True), key=("b", "a"))
    create(target, before)
    insert(target, before, [("x", 1), ("y", 2)])
    after = plan(column("a", "jsonb", not_null=True), column("b", "long", not_null=True), key=("b", "a"))
    for statement in evolve(before, after).statements:
        target.run(statement)
    key = target.rows(
        "SELECT a.attname::text, a.attnotnull FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey::int[]) WITH ORDINALITY "
        "AS k(attnum, at) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum "
        "WHERE i.indrelid = 'app.t'::regclass AND i.indisprimary ORDER BY k.at"
    )
    assert [("b", True), ("a", True)] == key
    with pytest.raises(Failed) as caught:
        insert(target, evolve(before, after).plan, [("x", 1)])
    assert "t_pkey" in caught.value.message


def test_a_view_over_a_retyped_column_is_named_not_dropped(target: Postgres) -> None:
    before = plan(column("id", "long", not_null=True), column("v", "long"))
    create(target, before)
    target.run("CREATE VIEW app.seen AS SELECT v FROM app.t")
    with pytest.raises(Failed):
        run_all(target, evolve(before, plan(before.columns[0], column("v", "jsonb"))).statements)
    assert [] == target.rows("SELECT * FROM app.seen")


def test_a_new_column_is_nullable_and_an_absent_one_stays_but_may_be_null(target: Postgres) -> None:
    before = plan(column("id", "long", not_null=True), column("old", "text", not_null=True))
    create(target, before)
    target.run("ALTER TABLE app.t ALTER COLUMN old SET NOT NULL")
    insert(target, before, [(1, "kept")])
    incoming = plan(column("id", "long", not_null=True), column("new", "text", not_null=True))
    evolution = evolve(before, incoming)
    assert [("id", True), ("new", False), ("old", False)] == [(c.name, c.not_null) for c in evolution.plan.columns]
    for statement in evolution.statements:
        target.run(statement)
    insert(target, incoming, [(2, "b")])
    assert [(1, None, "kept"), (2, "b", None)] == target.rows("SELECT id, new, old FROM app.t ORDER BY id")


def test_a_resync_drops_what_the_source_dropped() -> None:
    before = plan(column("id", "long"), column("old", "text", not_null=True))
    evolution = evolve(before, plan(column("id", "long")), drop_missing=True)
    assert ('ALTER TABLE "app"."t" DROP COLUMN "old"',) == evolution.statements
    assert ["id"] == [one.name for one in evolution.plan.columns]


def test_nothing_to_do_is_no_statement() -> None:
    shape = plan(column("id", "long", not_null=True), column("v", "jsonb"))
    assert () == evolve(shape, shape).statements
    narrower = plan(column("id", "long", not_null=True), column("v", "text"))
    assert covers(shape, narrower)
    assert () == evolve(shape, narrower).statements
    assert not covers(narrower, shape)


def test_a_column_of_the_same_target_type_is_not_rewritten() -> None:
    before = plan(column("id", "long"), column("v", "text"))
    evolution = evolve(before, plan(column("id", "long"), column("v", "affinity-text:NUMERIC")))
    assert () == evolution.statements
    assert not evolution.retyped
    assert "affinity-text:NUMERIC" == evolution.plan.columns[1].codec


def test_an_impossible_step_is_refused_by_name() -> None:
    with pytest.raises(Refusal) as caught:
        fill("jsonb", "blob", '"v"')
    assert Code.INTERNAL is caught.value.code
