"""Decide: the statements that bring a target table from the plan it has to one that also carries an incoming plan.

Invariant: no statement rewrites the table under readers: ALTER TYPE would show an empty table to snapshots that are
already open, so a type changes by add column, fill, drop, rename (test_widening_is_invisible_to_open_snapshots).
The result is the join of both plans: a table never becomes narrower.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.ddl import full_name
from schemas.names import constraint_name, quote
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import codec, join


@dataclass(frozen=True, slots=True)
class Evolution:
    """`plan`: the shape afterwards. `statements`: in order, empty when there is nothing to do. `retyped`: a column was
    replaced, so that its indexes are gone and the finalise must look again."""

    plan: TablePlan
    statements: tuple[str, ...] = ()
    retyped: bool = False


def evolve(current: TablePlan, incoming: TablePlan, *, drop_missing: bool = False) -> Evolution:
    """Join two plans of one table.

    Args:
        drop_missing: columns that `incoming` no longer has are dropped (a resync); in the stream they stay.
    """
    # The target's own names decide: SQLite renames Name to NAME and the folded column stays the same.
    have = {column.target: column for column in current.columns}
    want = {column.target: column for column in incoming.columns}
    table = full_name(current)
    statements: list[str] = []
    columns: list[ColumnPlan] = []
    key_replaced = False
    for name, column in want.items():
        old = have.get(name)
        if old is None:
            added = replace(column, not_null=False)
            statements.append(f"ALTER TABLE {table} ADD COLUMN {quote(column.target)} {_type(added)}")
            columns.append(added)
            continue
        joined = join(old.codec, column.codec)
        merged = replace(column, codec=joined, pg_type=codec(joined).pg_type, not_null=old.not_null and column.not_null)
        if old.not_null and not merged.not_null and name not in current.target_key:
            statements.append(f"ALTER TABLE {table} ALTER COLUMN {quote(old.target)} DROP NOT NULL")
        if joined != old.codec:
            statements += _retype(table, current, old, merged)
            key_replaced |= name in current.target_key
        columns.append(merged)
    for name, old in have.items():
        if name in want:
            continue
        if drop_missing:
            statements.append(f"ALTER TABLE {table} DROP COLUMN {quote(old.target)}")
        else:
            columns.append(old)
    plan = replace(
        incoming, columns=tuple(columns), target_table=current.target_table, unique=current.unique or incoming.unique
    )
    if key_replaced:
        statements.append(primary_key(plan))
    return Evolution(plan, tuple(statements), any("tailrace_new" in text for text in statements))


def primary_key(plan: TablePlan) -> str:
    name = quote(constraint_name(plan.target_table, suffix="pkey"))
    return f"ALTER TABLE {full_name(plan)} ADD CONSTRAINT {name} PRIMARY KEY ({', '.join(map(quote, plan.target_key))})"


def covers(current: TablePlan, incoming: TablePlan) -> bool:
    """Can every record of `incoming` be written into a table of `current` as it is?"""
    have = {column.target: column for column in current.columns}
    return all(
        column.target in have and join(have[column.target].codec, column.codec) == have[column.target].codec
        for column in incoming.columns
    )


def _type(column: ColumnPlan) -> str:
    return f'{column.pg_type} COLLATE "C"' if column.pg_type == "text" else column.pg_type


def _retype(table: str, plan: TablePlan, old: ColumnPlan, new: ColumnPlan) -> list[str]:
    if old.pg_type == new.pg_type:
        return []
    name, temporary = quote(old.target), quote("tailrace_new")
    statements = [
        f"ALTER TABLE {table} ADD COLUMN {temporary} {_type(new)}",
        f"UPDATE {table} SET {temporary} = {fill(old.codec, new.codec, name)}",
        f"ALTER TABLE {table} DROP COLUMN {name} CASCADE",
        f"ALTER TABLE {table} RENAME COLUMN {temporary} TO {name}",
    ]
    if old.name in plan.key:
        statements.append(f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL")
    return statements


def fill(old: str, new: str, name: str) -> str:
    """SQL of a column's value in a wider codec: the same SQLite value comes back out of both."""
    number = "'^[+-]?[0-9]+$'"
    real_text = f"CASE WHEN {name}::text ~ '[.e]' THEN {name}::text ELSE {name}::text || '.0' END"
    infinite = (
        f"CASE WHEN {name} = 'Infinity' THEN '9e999' WHEN {name} = '-Infinity' THEN '-9e999' ELSE {real_text} END"
    )
    if new.startswith("affinity-text"):
        return {"double": infinite, "boolean": f"({name}::int)::text"}.get(old, f"{name}::text")
    if new == "text-bytes":
        return f"convert_to({name}, 'UTF8')"
    if new == "long":
        return f"{name}::int"
    if old == "boolean":
        return f"to_jsonb({name}::int)"
    if old == "double":
        real = f"to_jsonb({name}::text::numeric + 0.0)"
        special = "jsonb_build_object('real', CASE WHEN {0} = 0 THEN '-0.0' WHEN {0} > 0 THEN 'inf' ELSE '-inf' END)"
        return (
            f"CASE WHEN {name} IS NULL THEN NULL WHEN {name} IN ('Infinity', '-Infinity') OR {name}::text = '-0' "
            f"THEN {special.format(name)} ELSE {real} END"
        )
    if old == "blob":
        return f"jsonb_build_object('blob', replace(encode({name}, 'base64'), E'\\n', ''))"
    if old == "text-bytes":
        return f"jsonb_build_object('text', replace(encode({name}, 'base64'), E'\\n', ''))"
    if old.startswith("affinity-text"):
        return (
            f"CASE WHEN {name} ~ {number} THEN to_jsonb({name}::numeric) "
            f"WHEN {name} ~ '^[+-]?[0-9]*\\.?[0-9]+(e[+-]?[0-9]+)?$' THEN to_jsonb({name}::numeric + 0.0) "
            f"ELSE to_jsonb({name}) END"
        )
    return f"to_jsonb({name})"
