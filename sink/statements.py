"""Decide: the SQL that writes collapsed changes into one target table; pure.

Deletes go before inserts. A table with unique constraints besides its key first loses every touched key: two rows that
swapped a unique value could not be written one after the other (test_swapped_unique_values).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from schemas.ddl import full_name
from schemas.names import beside_parameters, quote
from schemas.plan import TablePlan

LOOSE_EQUALITY = frozenset({"jsonb", "double precision", "numeric"})
"""Types whose equal values may differ in bytes."""

TEMP = "tailrace_batch"
COPY_FROM_ROWS = 400
"""From this many rows on, binary COPY into a temporary table beats unnest."""


def _element(pg_type: str) -> str:
    """Array element type of a parameter: json travels as text and is cast on the server."""
    return "text" if pg_type in ("jsonb", "json") else pg_type


def delete_sql(plan: TablePlan) -> str:
    """One array parameter per key column."""
    types = [plan.columns[at].pg_type for at in plan.key_indexes]
    arrays = ", ".join(f"%b::{_element(kind)}[]" for kind in types)
    names = ", ".join(f"k{at}" for at in range(len(types)))
    equal = " AND ".join(
        f"t.{beside_parameters(quote(target))} = u.k{at}::{kind}"
        for at, (target, kind) in enumerate(zip(plan.target_key, types, strict=True))
    )
    name = beside_parameters(full_name(plan))
    return f"DELETE FROM {name} AS t USING unnest({arrays}) AS u({names}) WHERE {equal}"


def upsert_sql(plan: TablePlan) -> str:
    """One array parameter per column."""
    arrays = ", ".join(f"%b::{_element(column.pg_type)}[]" for column in plan.columns)
    names = ", ".join(f"c{at}" for at in range(len(plan.columns)))
    values = ", ".join(f"c{at}::{column.pg_type}" for at, column in enumerate(plan.columns))
    insert, conflict = beside_parameters(_insert(plan)), beside_parameters(_conflict(plan))
    return f"{insert} SELECT {values} FROM unnest({arrays}) AS u({names}) {conflict}"


def arrays(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    return [list(column) for column in zip(*rows, strict=True)]


def temp_sql(plan: TablePlan) -> tuple[str, str, str]:
    """(create the temporary table, COPY into it, merge it)."""
    columns = ", ".join(f"c{at} {column.pg_type}" for at, column in enumerate(plan.columns))
    values = ", ".join(f"c{at}" for at in range(len(plan.columns)))
    return (
        f"CREATE TEMPORARY TABLE {TEMP}({columns}) ON COMMIT DROP",
        f"COPY pg_temp.{TEMP} FROM STDIN (FORMAT BINARY)",
        f"{_insert(plan)} SELECT {values} FROM pg_temp.{TEMP} {_conflict(plan)}",
    )


def _insert(plan: TablePlan) -> str:
    return f"INSERT INTO {full_name(plan)} ({', '.join(quote(column.target) for column in plan.columns)})"


def _conflict(plan: TablePlan) -> str:
    key = ", ".join(quote(target) for target in plan.target_key)
    # A key that PostgreSQL calls equal may have other bytes (1 and 1.0 in jsonb, 0.0 and -0.0): it is written too.
    others = [
        quote(column.target)
        for column in plan.columns
        if column.name not in plan.key or column.pg_type in LOOSE_EQUALITY
    ]
    if not others:
        return f"ON CONFLICT ({key}) DO NOTHING"
    return f"ON CONFLICT ({key}) DO UPDATE SET {', '.join(f'{name} = EXCLUDED.{name}' for name in others)}"
