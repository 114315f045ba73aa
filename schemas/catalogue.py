"""Decide: what is asked of PostgreSQL's catalogue, and of a table's own rows, before its objects are made or checked. Pure.

Invariant: finalise and integrity ask the same questions, so that what is checked by name is what was made by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.ddl import full_name
from schemas.names import quote, text_literal
from schemas.plan import TablePlan

SET_BEHIND = "tailrace: set behind "
"""Beginning of the comment on a sequence: a value below what was set means that somebody else set it."""


def other_names(plan: TablePlan) -> str:
    """SELECT of the names in the target schema that belong to anything but this table: IF NOT EXISTS would skip an index
    that another table's index shares its name with, without a word."""
    return (
        "SELECT c.relname::text FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = "
        f"{text_literal(plan.target_schema)} AND c.oid NOT IN (SELECT indexrelid FROM pg_index WHERE indrelid = "
        f"to_regclass({text_literal(full_name(plan))}))"
    )


def longest_values(plan: TablePlan) -> str:
    """SELECT of the longest value of each column that may be too long for an index; empty where there is none."""
    columns = _wide(plan)
    parts = ", ".join(f"max(octet_length({quote(column)}::text))" for column in columns.values())
    return f"SELECT {parts} FROM {full_name(plan)}" if parts else ""


def longest_of(plan: TablePlan, answer: Sequence[Any]) -> Mapping[str, int]:
    """Source column -> bytes, from the row that `longest_values` gives."""
    return {name: int(size or 0) for name, size in zip(_wide(plan), answer, strict=True)}


def _wide(plan: TablePlan) -> dict[str, str]:
    return {one.name: one.target for one in plan.columns if one.pg_type in ("text", "bytea", "jsonb")}
