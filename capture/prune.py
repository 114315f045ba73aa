"""Do: take acknowledged entries out of the change log, in small write transactions.

Invariant: the row of the last acknowledged watermark stays (its digest tells a forked history, and seq only grows while
the last row is there); `pruned_to` moves in the same transaction as the rows it covers.
"""

from __future__ import annotations

from capture.sqlite_triggers import LOG, META
from ops.points import reach
from schemas.errors import Transient
from schemas.ports import Sqlite


def prune(db: Sqlite, *, upto: int, batch_rows: int, pruned_to: int) -> int:
    """Delete one batch of entries below `upto` (exclusive). Returns the new `pruned_to`.

    A busy application goes first: when the write lock is taken, nothing is pruned this time.
    """
    target = min(upto - 1, pruned_to + batch_rows)
    if target <= pruned_to:
        return pruned_to
    try:
        with db.write():
            db.run(f"DELETE FROM {LOG} WHERE seq <= ?", (target,))
            reach("capture.mid_prune")
            db.run(f"UPDATE {META} SET value = ? WHERE key = 'pruned_to'", (str(target),))
    except Transient:
        return pruned_to
    return target
