"""Decide: codecs of columns whose affinity tells a number from text: numeric, and text that the affinity restores.

Invariant: each accepts exactly the values that its own way back restores; two different values never get one text.
Traps: float() takes '1_0', 'nan' and a leading 0x1c, SQLite does not (test_restore_agrees_with_sqlite); numeric has no
-0.0 and, before PostgreSQL 14, no infinity.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from schemas.codecs import Codec, no_nul
from schemas.model import Affinity, Value

INT_MIN, INT_MAX = -(2**63), 2**63 - 1

# SQLite: sqlite3AtoF and sqlite3Isspace; ASCII only, space and 0x09-0x0d around.
_NUMBER = re.compile(r"[ \t-\r]*([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)[ \t-\r]*", re.ASCII)
_INTEGER = re.compile(r"[+-]?[0-9]{1,20}", re.ASCII)


def same_value(one: Value, other: Value) -> bool:
    """Same storage class and same bits; -0.0 is not 0.0."""
    if type(one) is not type(other) or one != other:
        return False
    return type(one) is not float or math.copysign(1.0, one) == math.copysign(1.0, other)  # type: ignore[arg-type]


def number_text(value: int | float | str) -> str:
    """Text whose affinity conversion gives the value back: repr is the shortest exact form of a double."""
    if type(value) is float:
        return "9e999" if value == math.inf else "-9e999" if value == -math.inf else repr(value)
    return str(value)


def restore(affinity: Affinity, text: str) -> Value:
    """Number where SQLite's affinity takes the text for one (datatype3.html section 3), else the text.

    A fraction or exponent means real, so that an integral real of an INTEGER column (1e20) stays one.
    """
    match = _NUMBER.fullmatch(text)
    if match is None:
        return text
    if _INTEGER.fullmatch(match[1]):
        number = int(match[1])
        if INT_MIN <= number <= INT_MAX:
            return float(number) if affinity is Affinity.REAL else number
    return float(match[1])


def affinity_text(affinity: Affinity) -> Codec:
    """PostgreSQL text; the column's affinity gives the class back."""
    back: Callable[[Any], Value] = lambda text: restore(affinity, text)  # noqa: E731

    def check(value: Any) -> bool:
        # Text that looks like a number cannot be told from the number.
        return (type(value) is not str or no_nul(value)) and same_value(back(number_text(value)), value)

    return Codec(
        f"affinity-text:{affinity}",
        "text",
        "string",
        frozenset({int, float, str}),
        check=check,
        encode=number_text,
        decode=back,
    )


def _numeric_value(text: str) -> Value:
    """An integral number in the range of int64 is an INTEGER, as NUMERIC and INTEGER affinity store it."""
    number = Decimal(text)
    if number == number.to_integral_value() and INT_MIN <= number <= INT_MAX:
        return int(number)
    return float(number)


def _numeric_check(value: Any) -> bool:
    """Ints always; a real unless NUMERIC affinity would have made an integer of it, or numeric cannot hold it."""
    if type(value) is int:
        return True
    return math.isfinite(value) and not (value.is_integer() and INT_MIN <= value <= INT_MAX)


NUMERIC = Codec(
    "numeric",
    "numeric",
    "string",
    frozenset({int, float}),
    check=_numeric_check,
    encode=number_text,
    decode=_numeric_value,
    to_pg=Decimal,
    from_pg=str,
)

AFFINITY_TEXT = tuple(affinity_text(one) for one in (Affinity.INTEGER, Affinity.NUMERIC, Affinity.REAL))


def _loose_text(value: int | float | str) -> str:
    return value if isinstance(value, str) else number_text(value)


LOOSE_TEXT = Codec(
    "loose-text",
    "text",
    "string",
    frozenset({int, float, str}),
    check=lambda value: type(value) is not str or no_nul(value),
    encode=_loose_text,
)
"""The one codec that forgets something: the class of a number. Only `on_mixed = "text"` chooses it."""
