"""Decide: the plan, everything derived from a source schema, as plain values that also travel in the Avro schema."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from schemas.codecs_dates import loosened
from schemas.model import ROWID_COLUMN, Affinity, Column, KeyKind, Table
from schemas.names import fold, target_names, topic_of, with_digest
from schemas.policy import ColumnPolicy, Policies
from schemas.profile import ColumnProfile, TableProfile
from schemas.typemap import choose, codec, join


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column of one table on its way to the target."""

    name: str
    """Source name (or `_tailrace_rowid`)."""
    target: str
    declared: str
    pg_type: str
    codec: str
    """Name of the codec in schemas/typemap.py."""
    not_null: bool
    why: str
    """One sentence for `plan`: why this type."""
    affinity: str = "BLOB"
    policy: str = ""
    """What the operator ordered when this was decided (policy.ColumnPolicy.mark)."""
    added: str = ""
    """Of a column that was added on the target: its definition in SQLite, behind its name (schemas/back_columns.py)."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table on its way to the target. `columns` are in the order of `Table.row_columns`."""

    source: str
    table: str
    target_schema: str
    target_table: str
    topic: str
    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    """Source names of the key columns, in key order; a subset of the names of `columns`."""
    unique: bool = True
    """The target will carry UNIQUE constraints or indexes besides the key: deletes go before inserts in a cut."""

    @property
    def key_indexes(self) -> tuple[int, ...]:
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)

    @property
    def target_key(self) -> tuple[str, ...]:
        return tuple(self.columns[at].target for at in self.key_indexes)


def build_table_plan(
    table: Table,
    profile: TableProfile,
    *,
    source: str,
    prefix: str,
    target_schema: str,
    preserve: bool = False,
    target_table: str | None = None,
    policies: Policies | None = None,
) -> TablePlan:
    """Derive the plan of one table from its shape and its profile."""
    orders = policies or Policies()
    indexed = {term.column for index in table.indexes for term in index.terms}
    names = target_names(table.row_columns, preserve=preserve)
    columns = []
    if table.key.kind is KeyKind.ROWID:
        columns.append(ColumnPlan(ROWID_COLUMN, ROWID_COLUMN, "", "bigint", "long", True, table.key.reason, "INTEGER"))
    for column in table.columns:
        columns.append(
            _column_plan(
                column,
                profile.columns.get(column.name, ColumnProfile()),
                names[column.name],
                in_key=column.name in table.key_columns,
                indexed=column.name in indexed,
                policy=orders.of(source, table.name, column.name),
            )
        )
    return TablePlan(
        source=source,
        table=table.name,
        target_schema=target_schema,
        target_table=target_table or next(iter(target_names([table.name], preserve=preserve, what="table").values())),
        topic=topic_of(prefix, source, table.name),
        columns=tuple(columns),
        key=table.key_columns,
        unique=any(index.unique and index.origin != "pk" for index in table.indexes),
    )


def _column_plan(
    column: Column,
    profile: ColumnProfile,
    target: str,
    *,
    in_key: bool,
    indexed: bool = False,
    policy: ColumnPolicy,
) -> ColumnPlan:
    chosen, why = choose(column, profile, in_key=in_key, indexed=indexed, policy=policy)
    return ColumnPlan(
        name=column.name,
        target=target,
        declared=column.declared,
        pg_type=chosen.pg_type,
        codec=chosen.name,
        not_null=in_key or (column.not_null and not profile.nulls),
        why=why,
        affinity=column.affinity,
        policy=policy.mark,
    )


def with_codec(plan: TablePlan, column: str, name: str, why: str) -> TablePlan:
    """The same plan with another codec in one column."""
    columns = tuple(
        replace(one, codec=name, pg_type=codec(name).pg_type, why=why) if one.name == column else one
        for one in plan.columns
    )
    return replace(plan, columns=columns)


def read_as(plan: TablePlan) -> TablePlan:
    """now() has microseconds, whatever form the application's texts had: what a form leaves out is written where it is
    there, and the publisher widens the column by it as it does forward (test_now_comes_back_to_the_microsecond)."""
    for column in plan.columns:
        if loosened(column.codec) != column.codec:
            plan = with_codec(plan, column.name, loosened(column.codec), column.why)
    return plan


def with_columns(plan: TablePlan, table: Table, policies: Policies | None = None) -> TablePlan:
    """The plan with every column of the table; new ones as narrow as an empty profile says, widened by what comes."""
    orders = policies or Policies()
    known = {column.name for column in plan.columns}
    names = {column.target for column in plan.columns}
    added = []
    for column in table.columns:
        if column.name not in known:
            (target,) = target_names([column.name]).values()
            if target in names:
                if fold(column.name) in {fold(name) for name in known}:
                    continue  # renamed in case only: the folded column stays
                target = with_digest(target, column.name)
            policy = orders.of(plan.source, plan.table, column.name)
            empty = _column_plan(
                column, ColumnProfile(), target, in_key=False, indexed=True, policy=replace(policy, types="storage")
            )
            added.append(replace(empty, policy=policy.mark))
    return replace(plan, columns=(*plan.columns, *(replace(column, not_null=False) for column in added)))


def carried_over(old: TablePlan, new: TablePlan) -> TablePlan:
    """A freshly built plan that is never narrower than an earlier one of the same table."""
    earlier: Mapping[str, ColumnPlan] = {column.name: column for column in old.columns}
    plan = new
    for column in new.columns:
        if (
            column.name in earlier
            and (joined := join(earlier[column.name].codec, column.codec, Affinity(column.affinity))) != column.codec
        ):
            plan = with_codec(plan, column.name, joined, "carries what an earlier schema carried")
    return plan


def plan_to_json(plan: TablePlan) -> str:
    document = asdict(plan)
    for column in document["columns"]:
        for name in ("policy", "added"):
            if not column[name]:
                del column[name]  # nothing was ordered: the schema is what it always was
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def plan_from_json(text: str) -> TablePlan:
    document = json.loads(text)
    columns = tuple(ColumnPlan(**column) for column in document.pop("columns"))
    return TablePlan(**{**document, "columns": columns, "key": tuple(document["key"])})
