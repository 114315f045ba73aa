"""Decide: the pieces that an expression is made of: PostgreSQL text, what kind of value it has, how SQLite compares it.

Invariant: a piece's kind is known for every row: `Kind.INT` never yields a text. What may hold several classes (jsonb,
text that an affinity restores) can be tested for NULL and compared with literals, nothing else.
Trap: a boolean of PostgreSQL is 0 or 1 in SQLite: it becomes a number where a number is wanted, and only there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum

from schemas.codecs_dates import sql_text
from schemas.grammar import Untranslatable
from schemas.model import Column, Value
from schemas.names import quote, text_literal
from schemas.plan import ColumnPlan


class Kind(StrEnum):
    """What an expression yields besides NULL."""

    INT = "integer"
    REAL = "real"
    TEXT = "text"
    BLOB = "blob"
    BOOL = "boolean"
    NUMERIC = "numeric"
    MOMENT = "moment"
    MIXED = "mixed"
    NULL = "null"


NUMBERS = frozenset({Kind.INT, Kind.REAL, Kind.BOOL})
_KINDS = {
    "long": Kind.INT,
    "double": Kind.REAL,
    "text": Kind.TEXT,
    "blob": Kind.BLOB,
    "boolean": Kind.BOOL,
    "numeric": Kind.NUMERIC,
}
INT_MIN, INT_MAX = -(2**63), 2**63 - 1
RANGE = "arithmetic past the range of its type is an error there, a REAL here"
START = "a start past 2^31 counts modulo 2^32 in some versions of SQLite"
UNORDERED = "the order within it is not fixed on either side"
LAST_BITS = "the last bits of a sum of reals depend on the order of the rows"


@dataclass(frozen=True, slots=True)
class Piece:
    """One translated expression.

    `affinity` and `collation` are SQLite's, for the comparison around it ("" = none); `column`: it is this column itself;
    `literal`: it is this value; `stable`: PostgreSQL calls it STABLE, so that no index may hold it; `caveats`: where the
    two differ in what is outside ordinary values.
    """

    sql: str
    kind: Kind
    affinity: str = ""
    collation: str = ""
    explicit: bool = False
    """The collation was written as COLLATE."""
    column: ColumnPlan | None = None
    literal: bool = False
    value: Value = None
    stable: bool = False
    aggregate: bool = False
    bare: frozenset[str] = frozenset()
    """The columns in it that stand outside every aggregate, as they are written there."""
    clock: str = ""
    """It is the time of the statement, in this form (schemas/clock.py)."""
    caveats: frozenset[str] = frozenset()


def of_column(column: Column, plan: ColumnPlan, *, prefix: str = "") -> Piece:
    """A reference to one column. `prefix`: what stands before its name (`NEW.`, an alias)."""
    kind = _KINDS.get(plan.codec)
    if kind is None:
        kind = Kind.MOMENT if plan.pg_type in ("date", "timestamp", "timestamptz") else Kind.MIXED
    # A column without a type has an affinity too, but one that converts nothing.
    name = prefix + quote(plan.target)
    return Piece(name, kind, plan.affinity, column.collation.upper(), column=plan, bare=frozenset({name}))


def of_value(value: Value) -> Piece:
    """A literal."""
    match value:
        case None:
            return Piece("NULL", Kind.NULL, literal=True)
        case int():
            text = str(value) if value >= 0 else f"({value})"
            return Piece(text, Kind.INT, literal=True, value=value)
        case float():
            return Piece(real_literal(value), Kind.REAL, literal=True, value=value)
        case str():
            if "\x00" in value:
                raise Untranslatable("a NUL in a string")
            return Piece(text_literal(value), Kind.TEXT, literal=True, value=value)
        case bytes():
            return Piece(f"'\\x{value.hex()}'::bytea", Kind.BLOB, literal=True, value=value)


def real_literal(value: float) -> str:
    text = {math.inf: "Infinity", -math.inf: "-Infinity"}.get(value, repr(value))
    return f"{text_literal(text)}::double precision"


def exact_number(value: float | int) -> str:
    """The very value, which `numeric` compares exactly with integers; double precision would round those past 2^53."""
    text = format(Decimal(value), "f")
    return f"({text})" if text.startswith("-") else text


def combined(sql: str, kind: Kind, *parts: Piece, caveats: frozenset[str] = frozenset()) -> Piece:
    """An expression over other pieces: no affinity, no collation, what holds for a part holds for the whole."""
    return Piece(
        sql,
        kind,
        stable=any(part.stable for part in parts),
        aggregate=any(part.aggregate for part in parts),
        bare=frozenset().union(*(part.bare for part in parts)),
        caveats=caveats.union(*(part.caveats for part in parts)),
    )


def truth(piece: Piece) -> str:
    """As a condition. SQLite: a number is true when it is not 0, NULL is neither."""
    if piece.kind is Kind.BOOL:
        return piece.sql
    if piece.kind in (Kind.INT, Kind.REAL, Kind.NUMERIC):
        return f"({piece.sql} <> 0)"
    if piece.kind is Kind.NULL:
        return "NULL::boolean"
    raise Untranslatable(f"a {piece.kind} value taken for true or false")


def integer(piece: Piece) -> str:
    """As a bigint."""
    if piece.kind is Kind.INT:
        return f"{piece.sql}::bigint" if piece.literal else piece.sql
    if piece.kind is Kind.BOOL:
        return f"({piece.sql})::int::bigint"
    if piece.kind is Kind.NULL:
        return "NULL::bigint"
    raise Untranslatable(f"a {piece.kind} value where an integer is wanted")


def text(piece: Piece) -> str:
    """As text, where SQLite's text of the value is PostgreSQL's."""
    if piece.kind is Kind.TEXT:
        return piece.sql
    if piece.kind in (Kind.INT, Kind.BOOL):
        return f"({integer(piece)})::text"
    if piece.kind is Kind.NULL:
        return "NULL::text"
    if piece.kind is Kind.REAL:
        raise Untranslatable("the text of a real: its digits depend on the version of SQLite")
    raise Untranslatable(f"the text of a {piece.kind} value")


def as_text(piece: Piece) -> Piece:
    """A moment as the text that SQLite holds; anything else as it is."""
    if piece.kind is not Kind.MOMENT or piece.column is None:
        return piece
    # to_char is STABLE for all patterns, although these ones depend on no setting.
    sql = sql_text(piece.column.codec, piece.sql)
    return replace(piece, sql=sql, kind=Kind.TEXT, column=None, stable=True)


def value_of(piece: Piece, kind: Kind) -> str:
    """In a place where every piece yields `kind` (CASE, coalesce)."""
    if kind is Kind.INT:
        return integer(piece)
    if kind is Kind.TEXT and piece.literal and piece.kind is Kind.TEXT:
        return f"{piece.sql}::text"
    if piece.kind in (kind, Kind.NULL):
        return piece.sql
    raise Untranslatable(f"{piece.kind} beside {kind}")


def common_kind(pieces: list[Piece]) -> Kind:
    """The one kind of alternatives. SQLite keeps each value's class: an integer beside a real has no counterpart."""
    kinds = {piece.kind for piece in pieces} - {Kind.NULL}
    if kinds == {Kind.BOOL, Kind.INT}:
        return Kind.INT
    if len(kinds) > 1:
        raise Untranslatable(f"it yields {' or '.join(sorted(kinds))}")
    kind = kinds.pop() if kinds else Kind.NULL
    if kind in (Kind.MIXED, Kind.MOMENT, Kind.NUMERIC):
        raise Untranslatable(f"an alternative of {kind} values")
    return kind
