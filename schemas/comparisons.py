"""Decide: SQLite's comparisons (=, <, IS, IN, BETWEEN) on PostgreSQL: affinities, collations, classes. Pure.

Invariant: two values that SQLite holds in different classes are never compared by converting one of them, unless SQLite
itself converts (datatype3.html section 4.2: an affinity is applied to the other operand first).
Traps: bigint and double precision meet as double precision, which makes 2^53 and 2^53 + 1 equal; NOCASE folds ASCII only.
"""

from __future__ import annotations

import re
from dataclasses import replace

from schemas.codecs import fits
from schemas.grammar import Untranslatable
from schemas.literals import literal_sql, with_affinity
from schemas.model import Affinity
from schemas.names import text_literal
from schemas.pieces import (
    NUMBERS,
    Kind,
    Piece,
    as_text,
    combined,
    exact_number,
    integer,
    of_value,
    real_literal,
)
from schemas.typemap import codec

OPERATORS = {"EQ": "=", "EQ_DOUBLE": "=", "NE": "<>", "NE_ANGLE": "<>", "LT": "<", "LE": "<=", "GT": ">", "GE": ">="}
_EQUALITY = frozenset({"=", "<>", "IS DISTINCT FROM", "IS NOT DISTINCT FROM"})
_NUMERIC = frozenset({Affinity.INTEGER, Affinity.REAL, Affinity.NUMERIC})
_EXACT_DOUBLE = 2**53


def compare(left: Piece, operator: str, right: Piece) -> Piece:
    """`operator`: =, <>, <, <=, >, >=, or IS [NOT] DISTINCT FROM."""
    one, other = sides(left, operator, right)
    return combined(f"({one} {operator} {other})", Kind.BOOL, left, right)


def one_of(left: Piece, items: list[Piece], *, negated: bool) -> Piece:
    """x IN (a, b): SQLite takes the affinity and the collation from x alone."""
    word = "NOT IN" if negated else "IN"
    if not items:
        return combined("true" if negated else "false", Kind.BOOL, left)
    if any(item.explicit for item in items):
        raise Untranslatable("COLLATE inside a list: SQLite heeds it only where the list has one constant")
    found = [sides(left, "=", replace(item, affinity="", collation="", explicit=False)) for item in items]
    if len({one for one, _ in found}) == 1:
        return combined(f"({found[0][0]} {word} ({', '.join(two for _, two in found)}))", Kind.BOOL, left, *items)
    text = " OR ".join(f"{one} = {two}" for one, two in found)
    return combined(f"(NOT ({text}))" if negated else f"({text})", Kind.BOOL, left, *items)


def sides(left: Piece, operator: str, right: Piece) -> tuple[str, str]:
    """The two operands as PostgreSQL compares them."""
    if left.kind is Kind.NULL or right.kind is Kind.NULL:
        # Two NULLs compare as their columns would, and json has no comparison at all.
        return "NULL::text", "NULL::text"
    for piece in (left, right):
        if piece.kind is Kind.MIXED and piece.column is not None and piece.column.pg_type == "json":
            raise Untranslatable(f"column {piece.column.name!r} is json, which has no equality")
    collation = collation_of(left, right)
    special = _special(left, operator, right, collation)
    if special is not None:
        return special
    one, other = _converted(as_text(left), right.affinity), _converted(as_text(right), left.affinity)
    if one.kind in NUMBERS and other.kind in NUMBERS:
        return _numbers(one, other)
    if one.kind is not other.kind or one.kind not in (Kind.TEXT, Kind.BLOB):
        raise Untranslatable(f"{_name(left)} compared with {_name(right)}")
    if one.kind is Kind.BLOB:
        return one.sql, other.sql
    return _collated(one, collation, operator), _collated(other, collation, operator)


def collation_of(left: Piece, right: Piece) -> str:
    """SQLite: an explicit COLLATE first, the left one before the right one; then the columns', the left before the right."""
    for piece in (left, right):
        if piece.explicit:
            return piece.collation
    return left.collation or right.collation or "BINARY"


def folded(sql: str, collation: str) -> str:
    """A text so that plain equality and byte order are those of the collation."""
    if collation == "BINARY":
        return sql
    if collation == "NOCASE":
        return f'lower({sql} COLLATE "C")'
    if collation == "RTRIM":
        return f"rtrim({sql}, ' ')"
    raise Untranslatable(f"collation {collation} has no counterpart")


def _collated(piece: Piece, collation: str, operator: str) -> str:
    text = folded(piece.sql, collation)
    # A column carries "C" itself; the database's own collation orders anything else.
    if operator in _EQUALITY or piece.column is not None:
        return text
    return f'{text} COLLATE "C"'


def _name(piece: Piece) -> str:
    return (
        f"column {piece.column.name!r} ({piece.column.pg_type})" if piece.column is not None else f"{piece.kind} value"
    )


def _special(left: Piece, operator: str, right: Piece, collation: str) -> tuple[str, str] | None:
    """Columns whose form on the target is not the class itself: a literal is brought into that form."""
    for piece, other, turned in ((left, right, False), (right, left, True)):
        if piece.kind not in (Kind.MIXED, Kind.MOMENT, Kind.NUMERIC) or piece.column is None:
            continue
        plan = piece.column
        if piece.kind is Kind.MOMENT:
            if not other.literal and (other.column is None or other.column.codec != plan.codec):
                return None
            # Fractions that are left out when zero: before the Z of the zone they sort otherwise than the text.
            if operator not in _EQUALITY and plan.codec.startswith("timestamp:") and plan.codec[11:12] in "unx":
                return None
            if other.literal and (not isinstance(other.value, str) or not fits(codec(plan.codec), other.value)):
                return None
            if collation != "BINARY":
                return None
        elif piece.kind is Kind.NUMERIC and other.kind in (Kind.INT, Kind.BOOL) and not other.literal:
            one = (piece.sql, integer(other))
            return one[::-1] if turned else one
        elif other.column is not None and other.column.codec == plan.codec and _comparable(piece, operator):
            if collation != "BINARY" and piece.kind is Kind.MIXED:
                raise Untranslatable(f"collation {collation} has no counterpart in {plan.pg_type}")
            return left.sql, right.sql
        elif not other.literal or not _comparable(piece, operator):
            raise Untranslatable(f"{_name(left)} compared with {_name(right)}")
        if not other.literal:
            return left.sql, right.sql
        if isinstance(other.value, str) and collation != "BINARY":
            raise Untranslatable(f"collation {collation} has no counterpart in {plan.pg_type}")
        past = isinstance(other.value, int) and abs(other.value) > _EXACT_DOUBLE and plan.affinity == Affinity.REAL
        sql = None if past else literal_sql(other.value, plan)
        if sql is None:
            raise Untranslatable(f"{other.sql} is no value of {_name(piece)}")
        return (sql, piece.sql) if turned else (piece.sql, sql)
    return None


def _comparable(piece: Piece, operator: str) -> bool:
    assert piece.column is not None
    if operator in _EQUALITY:
        return True
    return piece.kind is Kind.NUMERIC or piece.column.codec == "text-bytes"


def _converted(piece: Piece, affinity: str) -> Piece:
    """The other operand's affinity applied to a literal. An expression that would have to be converted stays what it is,
    and then has another class than its counterpart."""
    if not piece.literal or piece.affinity:
        return piece
    if affinity in _NUMERIC:
        # A comparison applies NUMERIC, whatever the column's own affinity: an integer stays one beside reals.
        return of_value(with_affinity(piece.value, Affinity.NUMERIC))
    if affinity == Affinity.TEXT and piece.kind is Kind.INT:
        return of_value(str(piece.value))
    return piece


def _numbers(left: Piece, right: Piece) -> tuple[str, str]:
    kinds = {left.kind, right.kind}
    if Kind.BOOL in kinds:
        return _booleans(left, right)
    if kinds == {Kind.INT, Kind.REAL}:
        return _integer_and_real(left, right)
    return left.sql, right.sql


def _booleans(left: Piece, right: Piece) -> tuple[str, str]:
    if left.kind is right.kind:
        return left.sql, right.sql
    for piece, other in ((left, right), (right, left)):
        if piece.kind is Kind.BOOL and other.literal and other.value in (0, 1):
            word = "true" if other.value else "false"
            return (piece.sql, word) if piece is left else (word, piece.sql)
    if Kind.REAL in (left.kind, right.kind):
        raise Untranslatable("a boolean compared with a real")
    return integer(left), integer(right)


def _integer_and_real(left: Piece, right: Piece) -> tuple[str, str]:
    """SQLite compares them exactly."""

    def one(piece: Piece, other: Piece) -> str:
        if piece.kind is Kind.REAL:
            if not piece.literal or other.literal:
                return piece.sql
            assert isinstance(piece.value, float)
            return exact_number(piece.value) if abs(piece.value) < 1e300 else piece.sql
        if piece.literal:
            assert isinstance(piece.value, int)
            if abs(piece.value) > _EXACT_DOUBLE:
                raise Untranslatable("an integer past 2^53 compared with reals")
            return real_literal(float(piece.value))
        return piece.sql

    if not left.literal and not right.literal:
        raise Untranslatable("integers compared with reals, which SQLite does exactly")
    return one(left, right), one(right, left)


def between(piece: Piece, low: Piece, high: Piece, *, negated: bool) -> Piece:
    found = combined(
        f"({compare(piece, '>=', low).sql} AND {compare(piece, '<=', high).sql})", Kind.BOOL, piece, low, high
    )
    return replace(found, sql=f"(NOT {found.sql})") if negated else found


def like(piece: Piece, pattern: Piece, escape: Piece | None) -> Piece:
    """SQLite's LIKE folds ASCII and has no escape unless one is named; PostgreSQL's has the backslash."""
    left, right = _like_text(piece), _like_text(pattern)
    mark = ""
    if escape is not None:
        mark = str(escape.value)
        if not escape.literal or escape.kind is not Kind.TEXT or len(mark) != 1 or (mark.isascii() and mark.isalpha()):
            raise Untranslatable("LIKE with an escape that is no single sign")
        if not pattern.literal or str(pattern.value).replace(mark * 2, "").endswith(mark):
            raise Untranslatable("LIKE with an escape and a pattern that is not known")
    sql = f'(lower({left} COLLATE "C") LIKE lower({right} COLLATE "C") ESCAPE {text_literal(mark)})'
    return combined(sql, Kind.BOOL, piece, pattern)


def _like_text(piece: Piece) -> str:
    piece = as_text(piece)
    if piece.kind is Kind.TEXT:
        return piece.sql
    if piece.kind in (Kind.INT, Kind.BOOL):
        return f"({integer(piece)})::text"
    raise Untranslatable(f"LIKE over {_name(piece)}")


def glob(piece: Piece, pattern: Piece) -> Piece:
    """GLOB with a literal pattern, as a regular expression over bytes of "C"."""
    text = as_text(piece)
    if text.kind is not Kind.TEXT or not pattern.literal or pattern.kind is not Kind.TEXT:
        raise Untranslatable("GLOB with a pattern that is no literal, or over what is no text")
    expression = text_literal(f"^(?:{_glob_expression(str(pattern.value))})$")
    return combined(f'({text.sql} COLLATE "C" ~ {expression})', Kind.BOOL, piece, pattern)


def _glob_expression(pattern: str) -> str:
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        if char == "*":
            out.append(".*")
        elif char == "?":
            out.append(".")
        elif char == "[":
            end = pattern.find("]", at + (2 if pattern[at : at + 1] == "^" else 1))
            if end < 0:
                raise Untranslatable("GLOB with a bracket that is not closed")
            out.append(_glob_class(pattern[at:end]))
            at = end + 1
        else:
            out.append(char if char.isalnum() or char in " _" else f"\\{char}" if char.isascii() else char)
    return "".join(out)


_RANGES = re.compile(r"(?:[^-]-[^-]|[^-](?!-))+", re.DOTALL)


def _turned(body: str) -> bool:
    """A range whose end comes before its beginning holds nothing in SQLite and is an error in PostgreSQL."""
    return any(low > high for low, high in re.findall(r"(.)-(.)", body, re.DOTALL))


def _glob_class(inner: str) -> str:
    negated = inner.startswith("^")
    body = inner[1:] if negated else inner
    if not body or any(c in "[]^\\" for c in body) or not _RANGES.fullmatch(body) or _turned(body):
        raise Untranslatable("GLOB with an unusual set of characters")
    return f"[{'^' if negated else ''}{body}]"
