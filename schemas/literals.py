"""Decide: literals of SQLite as PostgreSQL holds them in a column. Pure.

Invariant: a literal goes through its column's affinity and codec before it is stored or compared, as SQLite does it
(test_a_literal_takes_the_columns_form); what the codec cannot carry is None.
"""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from typing import Any

from schemas.codecs import fits
from schemas.codecs_numbers import restore
from schemas.grammar import Untranslatable
from schemas.model import Affinity, Value
from schemas.names import text_literal
from schemas.plan import ColumnPlan
from schemas.typemap import codec


def literal_sql(value: Value, column: ColumnPlan) -> str | None:
    """A SQLite literal as PostgreSQL holds it in this column; None if the column's codec could not carry it."""
    stored = with_affinity(value, Affinity(column.affinity))
    if stored is None:
        return "NULL"
    rule = codec(column.codec)
    if not fits(rule, stored):
        return None
    encoded: Any = rule.encode(stored) if rule.encode else stored
    parameter: Any = rule.to_pg(encoded) if rule.to_pg else encoded
    match parameter:
        case bool():
            return "true" if parameter else "false"
        case int():
            return str(parameter)
        case float():
            return f"{text_literal(repr(parameter))}::double precision"
        case bytes():
            return f"'\\x{parameter.hex()}'::bytea"
        case str() | Decimal() | date() | datetime():
            return f"{text_literal(str(parameter))}::{column.pg_type}"
    return None


def with_affinity(value: Value, affinity: Affinity) -> Value:
    """SQLite: datatype3.html section 3, what storing (and comparing) in a column of this affinity makes of a literal."""
    if affinity is Affinity.TEXT and type(value) is int:
        return str(value)
    if affinity is Affinity.REAL and type(value) is int:
        return float(value)
    if affinity in (Affinity.INTEGER, Affinity.NUMERIC):
        whole = type(value) is float and value.is_integer() and abs(value) < 2**53
        return int(value) if whole and isinstance(value, float) else _restored(value, affinity)
    return _restored(value, affinity) if affinity is Affinity.REAL else value


def _restored(value: Value, affinity: Affinity) -> Value:
    return restore(affinity, value) if isinstance(value, str) else value


def number(text: str) -> Value:
    """A numeric literal with its sign: an integer past int64 is a real, a hexadecimal one is the bits of an int64."""
    sign, digits = (-1, text[1:]) if text.startswith("-") else (1, text)
    digits = digits.replace("_", "")
    if digits[:2].lower() == "0x":
        bits = int(digits, 16)
        if bits >= 2**64:
            raise Untranslatable("a hexadecimal literal of more than 64 bits")
        return sign * (bits - 2**64 if bits >= 2**63 else bits)
    if digits.isdigit():
        whole = sign * int(digits)
        return whole if -(2**63) <= whole < 2**63 else float(whole)
    return sign * float(digits)
