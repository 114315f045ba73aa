"""Decide: a DEFAULT of SQLite that stores the same value on PostgreSQL. Pure.

Invariant: a white list. What is not known to mean the same is Untranslatable and reported by name, never passed through.
Trap: a default takes its column's affinity when it is stored: DEFAULT 7 of a TEXT column stores '7'
(test_a_literal_takes_the_columns_form).
"""

from __future__ import annotations

from schemas import clock
from schemas.grammar import Untranslatable
from schemas.literals import literal_sql
from schemas.model import Affinity, Column
from schemas.pieces import Kind, Piece, integer, text
from schemas.plan import ColumnPlan
from schemas.translate import translate


def default_sql(column: Column, plan: ColumnPlan) -> str | None:
    """The DEFAULT of a column for PostgreSQL; None if there is none or it has no counterpart."""
    try:
        return default_of(column, plan)
    except Untranslatable:
        return None


def default_of(column: Column, plan: ColumnPlan) -> str:
    """Raises Untranslatable with the reason."""
    piece = translate(column.default or "", {})
    sql = stored_sql(piece, plan)
    if sql is None:
        raise Untranslatable(f"a {piece.kind} value stored in a column of {plan.pg_type}")
    return sql


def stored_sql(piece: Piece, plan: ColumnPlan) -> str | None:
    """A value as its column stores it, after the column's affinity; None where that is not known."""
    if piece.literal:
        return literal_sql(piece.value, plan)
    if piece.clock:
        return clock.stored(piece.clock, plan)
    number = plan.affinity != Affinity.TEXT
    match piece.kind, plan.codec:
        case Kind.INT | Kind.BOOL, "long" if number:
            return integer(piece)
        case Kind.BOOL, "boolean":
            return piece.sql
        case Kind.INT | Kind.BOOL, "text" if not number:
            return text(piece)
        case Kind.TEXT, "text" if plan.affinity in (Affinity.TEXT, Affinity.BLOB):
            return piece.sql
        case Kind.REAL, "double" if plan.affinity in (Affinity.REAL, Affinity.BLOB):
            return piece.sql
    return None
