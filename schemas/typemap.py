"""Decide: the codec table, the one place that says how a value crosses from SQLite to PostgreSQL and back.

Invariant: `decode(from_pg(to_pg(encode(v))))` has the same storage class and the same bytes as `v`, for every value
that `encode` accepts. A codec is chosen only if every profiled value survives that round trip.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from schemas.model import Value


@dataclass(frozen=True, slots=True)
class Codec:
    """One value rule, both directions. A None function means identity. NULL never reaches a function.

    `accepts`: Python types that need no look at the value (batch test by type); `check`: further test, or None.
    """

    name: str
    """Stable, travels in the Avro field property `tailrace.codec`; parameters after a colon."""
    pg_type: str
    avro_type: str
    """long, double, string, bytes or boolean."""
    accepts: frozenset[type]
    check: Callable[[Any], bool] | None = None
    encode: Callable[[Any], Any] | None = None
    """SQLite value -> Avro value."""
    decode: Callable[[Any], Value] | None = None
    """Avro value -> SQLite value."""
    to_pg: Callable[[Any], Any] | None = None
    """Avro value -> psycopg parameter (binary)."""
    from_pg: Callable[[Any], Any] | None = None
    """psycopg result -> Avro value."""
