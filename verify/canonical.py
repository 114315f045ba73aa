"""Decide: when two rows are the same: storage class and bytes of every value; pure.

Invariant: NULL is not '', 1 is not 1.0, 0.0 is not -0.0, text is compared byte for byte (no trim, no case, no
normalisation), a BLOB is never a TEXT. `repr` of SQLite's five classes says all of that, and is one C call a row.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from schemas.model import Row

MODULUS = 1 << 128


def canonical(row: Row) -> str:
    """Equal texts mean equal rows, and the other way round."""
    return repr(row)


def digest(rows: Iterable[Row]) -> int:
    """Sum of row hashes modulo 2^128: independent of order, and duplicates do not cancel each other as XOR would."""
    total = 0
    for row in rows:
        raw = hashlib.blake2b(canonical(row).encode("utf-8", "surrogatepass"), digest_size=16).digest()
        total = (total + int.from_bytes(raw, "big")) % MODULUS
    return total
