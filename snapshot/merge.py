"""Decide: the statements that make a table equal to its freshly copied shadow, in one transaction; pure.

Never TRUNCATE, swap or re-create: a reader whose snapshot is open would see an empty table
(test_readers_never_see_an_empty_table). Rows that are equal are not written at all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.ddl import full_name
from schemas.evolution import evolve, primary_key
from schemas.names import constraint_name, quote
from schemas.plan import ColumnPlan, TablePlan


@dataclass(frozen=True, slots=True)
class Merge:
    plan: TablePlan
    statements: tuple[str, ...]


def merge(current: TablePlan, incoming: TablePlan, shadow: str) -> Merge:
    """Statements from the table as it is (`current`) and its shadow (`incoming`) to the merged table."""
    if current.target_key != incoming.target_key:
        return _other_key(current, incoming, shadow)
    target, fresh = full_name(current), full_name(current, shadow)
    evolution = evolve(current, incoming, drop_missing=True)
    plan = evolution.plan
    shadow_plan = replace(incoming, target_table=shadow)
    # The shadow follows the joined shape too, so that both sides compare in one type.
    statements = [*evolution.statements, *evolve(shadow_plan, plan).statements]
    equal = " AND ".join(f"t.{quote(k)} = s.{quote(k)}" for k in plan.target_key)
    columns = [quote(column.target) for column in plan.columns]
    # Key columns too: a key that PostgreSQL calls equal may have other bytes.
    others = list(plan.columns)
    gone = f"DELETE FROM {target} AS t WHERE NOT EXISTS (SELECT 1 FROM {fresh} AS s WHERE {equal})"
    if others:
        left, right = ([_exact(alias, column) for column in others] for alias in "ts")
        differs = f"({', '.join(left)}) IS DISTINCT FROM ({', '.join(right)})"
        # Rows that differ are deleted and inserted: a unique value may move from one row to another.
        statements.append(f"DELETE FROM {target} AS t USING {fresh} AS s WHERE {equal} AND {differs}")
    statements += [
        gone,
        f"INSERT INTO {target} ({', '.join(columns)}) SELECT {', '.join(columns)} FROM {fresh} AS s "
        f"WHERE NOT EXISTS (SELECT 1 FROM {target} AS t WHERE {equal})",
        f"DROP TABLE {fresh}",
    ]
    return Merge(plan, tuple(statements))


def _exact(alias: str, column: ColumnPlan) -> str:
    """An expression equal only for equal bytes: jsonb and numeric call 1 and 1.0 equal, double precision 0.0 and -0.0."""
    name = f"{alias}.{quote(column.target)}"
    if column.pg_type in ("jsonb", "json", "numeric"):
        return f"{name}::text"
    return f"float8send({name})" if column.pg_type == "double precision" else name


def _other_key(current: TablePlan, incoming: TablePlan, shadow: str) -> Merge:
    """Another key identifies the rows now: all rows are replaced by ordinary DELETE and INSERT."""
    target, fresh = full_name(current), full_name(current, shadow)
    constraint = quote(constraint_name(current.target_table, suffix="pkey"))
    emptied = replace(current, key=())
    evolution = evolve(emptied, replace(incoming, key=()), drop_missing=True)
    # A column that came with the key is nullable only until the key is made.
    kept = tuple(replace(c, not_null=True) if c.name in incoming.key else c for c in evolution.plan.columns)
    plan = replace(evolution.plan, columns=kept, key=incoming.key)
    columns = ", ".join(quote(column.target) for column in plan.columns)
    relaxed = [
        f"ALTER TABLE {target} ALTER COLUMN {quote(column.target)} DROP NOT NULL"
        for column in plan.columns
        if column.target in current.target_key and column.name not in incoming.key and not column.not_null
    ]
    return Merge(
        plan,
        (
            f"DELETE FROM {target}",
            f"ALTER TABLE {target} DROP CONSTRAINT IF EXISTS {constraint}",
            *evolution.statements,
            *relaxed,
            # With its key: a column of a primary key cannot be made nullable (test_another_key_identifies_the_rows).
            *evolve(replace(incoming, target_table=shadow), plan).statements,
            f"INSERT INTO {target} ({columns}) SELECT {columns} FROM {fresh}",
            primary_key(plan),
            f"DROP TABLE {fresh}",
        ),
    )
