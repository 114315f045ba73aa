"""Decide: one digest of a row on either side, from the storage class and bytes of every value; pure.

Invariant: equal digests mean equal rows: NULL is not '', 1 is not 1.0, 0.0 is not -0.0, text is compared byte for byte (no
trim, no case, no normalisation), a BLOB is never a TEXT, and lengths stand before bytes, so that no two rows run together.
The source's rows are digested here, the target's by PostgreSQL itself (verify/target_digest.py): no line of the codecs
that moved the rows takes part, so that a fault of theirs shows instead of cancelling itself out.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Collection, Sequence
from typing import Any

from schemas.model import BadText, Row, Value

_pack = struct.Struct(">cd").pack
_int = struct.Struct(">cq").pack
_head = struct.Struct(">cI").pack


def digests(rows: Sequence[Row], loose: Collection[int] = ()) -> list[str]:
    """One hexadecimal digest a row.

    Args:
        loose: places of columns in which the target keeps numbers as text (`on_mixed = "text"`).
    """
    columns = [
        [_bytes(_as_text(value) if at in loose else value) for value in values]
        for at, values in enumerate(zip(*rows, strict=True))
    ]
    return [hashlib.md5(b"".join(parts), usedforsecurity=False).hexdigest() for parts in zip(*columns, strict=True)]


def segment(found: Collection[str]) -> tuple[int, int]:
    """(rows, sum of their digests): equal only for equal sets of rows. A sum and not XOR, in which two equal rows of a
    table without a key would cancel out."""
    return len(found), sum(int(one[:15], 16) for one in found)


def _bytes(value: Any) -> bytes:
    kind = type(value)
    if kind is str:
        raw: bytes = value.encode()
        return _head(b"t", len(raw)) + raw
    if kind is int:
        return _int(b"i", value)
    if value is None:
        return b"n"
    if kind is float:
        return _pack(b"r", value)
    return _head(b"t" if kind is BadText else b"b", len(value)) + bytes(value)


def _as_text(value: Value) -> Value:
    """A number as the text that stands for it."""
    if isinstance(value, float) and math.isinf(value):
        return "9e999" if value > 0 else "-9e999"
    return repr(value) if isinstance(value, int | float) else value
