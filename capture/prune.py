"""Do: take acknowledged entries out of the change log, in small write transactions.

Invariant: the row of the last acknowledged watermark stays (its digest tells a forked history, and seq only grows while
the last row is there); `pruned_to` moves in the same transaction as the rows it covers.
"""

from __future__ import annotations

from ops.points import reach
from schemas.errors import Transient
from schemas.model import LOG, META
from schemas.ports import Sqlite

LOCK_WAIT_MS = 20
"""The application goes first: a lock that is not free this soon is asked for again at the next turn."""


def prune(db: Sqlite, *, upto: int, batch_rows: int, pruned_to: int) -> int:
    """Delete one batch of entries below `upto` (exclusive). Returns the new `pruned_to`.

    A busy application goes first: when the write lock is taken, nothing is pruned this time.
    """
    target = min(upto - 1, pruned_to + batch_rows)
    if target <= pruned_to:
        return pruned_to
    patience_ms = int(db.rows("PRAGMA busy_timeout")[0][0])
    db.rows(f"PRAGMA busy_timeout = {LOCK_WAIT_MS}")
    try:
        with db.write():
            db.run(f"DELETE FROM {LOG} WHERE seq <= ?", (target,))
            reach("capture.mid_prune")
            # Never back: a capture that stood still while another pruned knows less than the file does.
            db.run(
                f"UPDATE {META} SET value = ? WHERE key = 'pruned_to' AND CAST(value AS INTEGER) < ?",
                (str(target), target),
            )
    except Transient:
        return pruned_to
    finally:
        db.rows(f"PRAGMA busy_timeout = {patience_ms}")
    return target


def next_prune_ms(now_ms: int, *, before: int, after: int, upto: int, every_ms: int, pause_ms: int) -> int:
    """When to prune again: soon while a batch was taken out and more may go, else after the usual time (nothing is left,
    or the application held the lock)."""
    return now_ms + (pause_ms if before < after < upto - 1 else every_ms)
