"""Decide: what a codec is, and the plain ones, where one storage class crosses as it is.

Invariant: for every value that `fits`, the way to PostgreSQL and back gives the same storage class and the same bytes.
Trap: bool is an int in Python; types are compared exactly, never by isinstance (test_types_are_exact).
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from schemas.model import BadText, Value


@dataclass(frozen=True, slots=True)
class Codec:
    """One value rule, both directions. A None function means identity. NULL never reaches a function.

    `accepts`: Python types that may pass; `check`: a further test of one value, or None.
    """

    name: str
    """Stable, travels in the Avro field property `tailrace.codec`; the affinity or form after a colon."""
    pg_type: str
    avro_type: str
    """long, double, string, bytes or boolean."""
    accepts: frozenset[type]
    check: Callable[[Any], bool] | None = None
    check_all: Callable[[Collection[Any]], bool] | None = None
    """The same test of many values (no NULL among them) without a Python call for each, where there is such a way."""
    encode: Callable[[Any], Any] | None = None
    """SQLite value -> Avro value."""
    decode: Callable[[Any], Value] | None = None
    """Avro value -> SQLite value."""
    to_pg: Callable[[Any], Any] | None = None
    """Avro value -> psycopg parameter (binary)."""
    from_pg: Callable[[Any], Any] | None = None
    """psycopg result -> Avro value."""


def all_fit(one: Codec, values: Collection[Any]) -> bool:
    """Does every value pass the check? Their types are among `accepts` already, and none is NULL."""
    if one.check_all is not None:
        return one.check_all(values)
    return one.check is None or all(map(one.check, values))


def fits(one: Codec, value: Value) -> bool:
    """Would this codec carry this value and bring it back unchanged?"""
    return value is None or (type(value) in one.accepts and (one.check is None or one.check(value)))


def no_nul(text: str) -> bool:
    """PostgreSQL's text and jsonb hold no NUL."""
    return "\x00" not in text


def _no_nul_at_all(texts: Collection[str]) -> bool:
    return "\x00" not in "".join(texts)


def text_of_bytes(raw: bytes) -> str | BadText:
    """TEXT of these bytes: str where they are UTF-8."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BadText(raw)


def _bytes_of_text(value: str | BadText) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


LONG = Codec("long", "bigint", "long", frozenset({int}))
DOUBLE = Codec("double", "double precision", "double", frozenset({float}))
TEXT = Codec("text", "text", "string", frozenset({str}), check=no_nul, check_all=_no_nul_at_all)
BLOB = Codec("blob", "bytea", "bytes", frozenset({bytes}))
BOOLEAN = Codec(
    "boolean",
    "boolean",
    "boolean",
    frozenset({int}),
    check=lambda value: value in (0, 1),
    check_all=frozenset({0, 1}).issuperset,
    encode=bool,
    decode=int,
)
TEXT_BYTES = Codec(
    "text-bytes", "bytea", "bytes", frozenset({str, BadText}), encode=_bytes_of_text, decode=text_of_bytes
)

PLAIN = (LONG, DOUBLE, TEXT, BLOB, BOOLEAN, TEXT_BYTES)
