"""Decide: when two rows are the same: storage class and bytes of every value; pure.

Invariant: NULL is not '', 1 is not 1.0, 0.0 is not -0.0, text is compared byte for byte (no trim, no case, no
normalisation), a BLOB is never a TEXT. `repr` of SQLite's five classes says all of that, and is one C call a row.
"""

from __future__ import annotations

from schemas.model import Row


def canonical(row: Row) -> str:
    """Equal texts mean equal rows, and the other way round."""
    return repr(row)
