"""Decide: predicates of partial indexes and terms of expression indexes that mean the same on PostgreSQL. Pure.

Invariant: exactly the same, and immutable there: a predicate that means a little more makes a unique index refuse rows
that the source holds, and an expression that fails for some value would stop the stream
(test_a_predicate_selects_the_same_rows_on_both_sides).
"""

from __future__ import annotations

from schemas.grammar import Untranslatable
from schemas.pieces import Kind, Piece
from schemas.translate import Columns, condition, translate


def predicate_sql(where: str, columns: Columns) -> str | None:
    """A partial index's WHERE; None where it has no counterpart."""
    try:
        return _indexable(condition(where, columns)).sql
    except Untranslatable:
        return None


def term_sql(expression: str, columns: Columns) -> str | None:
    """An expression of an index; None where it has no counterpart."""
    try:
        return expression_term(expression, columns)
    except Untranslatable:
        return None


def expression_term(expression: str, columns: Columns) -> str:
    """Raises Untranslatable with the reason."""
    found = _indexable(translate(expression, columns))
    if found.kind in (Kind.MIXED, Kind.MOMENT, Kind.NULL) or found.literal:
        raise Untranslatable(f"an index over a {found.kind} value")
    return found.sql


def predicate(where: str, columns: Columns) -> str:
    """Raises Untranslatable with the reason."""
    return _indexable(condition(where, columns)).sql


def _indexable(piece: Piece) -> Piece:
    if piece.stable:
        raise Untranslatable("PostgreSQL does not take it in an index: it is not immutable there")
    if piece.caveats:
        raise Untranslatable(sorted(piece.caveats)[0])
    return piece
