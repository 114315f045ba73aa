"""The plan of a table: names, key, types, and that it travels and only widens."""

from __future__ import annotations

from dataclasses import replace

from schemas.misfit import widened
from schemas.model import ROWID_COLUMN, Affinity, Column, Index, IndexTerm, KeyKind, Table, TableKey
from schemas.plan import TablePlan, build_table_plan, carried_over, plan_from_json, plan_to_json
from schemas.policy import ColumnPolicy, Policies
from schemas.profile import ColumnProfile, TableProfile

COLUMNS = (
    Column("Id", "INTEGER", Affinity.INTEGER, pk_position=1),
    Column("Done", "BOOLEAN", Affinity.NUMERIC, not_null=True),
    Column("Doc", "JSON", Affinity.NUMERIC),
)
PROFILE = TableProfile(
    2,
    {
        "Id": ColumnProfile(ints=2),
        "Done": ColumnProfile(ints=2, small_ints=True),
        "Doc": ColumnProfile(texts=2, form="json"),
    },
)
TABLE = Table("Order Details", COLUMNS, TableKey(KeyKind.ROWID_ALIAS, ("Id",), "rowid"))


def build(table: Table = TABLE, profile: TableProfile = PROFILE, **more: Policies) -> TablePlan:
    return build_table_plan(table, profile, source="main", prefix="p", target_schema="app", **more)  # type: ignore[arg-type]


def codecs(plan: TablePlan) -> list[str]:
    return [column.codec for column in plan.columns]


def test_names_types_and_key() -> None:
    plan = build()
    assert ["id", "done", "doc"] == [column.target for column in plan.columns]
    assert ["bigint", "boolean", "json"] == [column.pg_type for column in plan.columns]
    assert [True, True, False] == [column.not_null for column in plan.columns]
    assert ("Id",) == plan.key
    assert ("id",) == plan.target_key
    assert "order details" == plan.target_table
    assert "p.main.t-Order_20Details" == plan.topic


def test_a_rowid_comes_first() -> None:
    plan = build(replace(TABLE, key=TableKey(KeyKind.ROWID, (), "rowid", "no declared key")))
    assert ROWID_COLUMN == plan.columns[0].name
    assert (ROWID_COLUMN,) == plan.key
    assert (0,) == plan.key_indexes


def test_a_declared_key_never_becomes_boolean() -> None:
    table = replace(TABLE, key=TableKey(KeyKind.DECLARED, ("Done", "Doc"), "rowid"))
    assert ["long", "long", "text"] == codecs(build(table))


def test_an_indexed_document_stays_text() -> None:
    """json has no order on PostgreSQL: its index could not be built."""
    table = replace(TABLE, indexes=(Index("i", False, "c", (IndexTerm("Doc"),)),))
    assert ["long", "boolean", "text"] == codecs(build(table))


def test_storage_types() -> None:
    assert ["long", "long", "text"] == codecs(build(policies=Policies(ColumnPolicy(types="storage"))))


def test_a_broken_not_null_promise_is_not_repeated() -> None:
    """NULL in a NOT NULL column: written before the constraint came, or through a writable schema."""
    profile = TableProfile(2, {**PROFILE.columns, "Done": ColumnProfile(ints=1, nulls=1, small_ints=True)})
    assert not build(profile=profile).columns[1].not_null


def test_json_there_and_back() -> None:
    plan = build()
    assert plan == plan_from_json(plan_to_json(plan))


def test_widened_replaces_one_column() -> None:
    plan = widened(build(), "Done", [7])
    assert ["long", "long", "json"] == codecs(plan)
    assert "bigint" == plan.columns[1].pg_type
    assert ["long", "numeric", "json"] == codecs(widened(plan, "Done", [0.5]))


def test_carried_over_is_never_narrower() -> None:
    old = widened(build(), "Doc", ["no json"])
    assert ["long", "boolean", "text"] == codecs(carried_over(old, build()))
    assert codecs(old) == codecs(carried_over(build(), old))
