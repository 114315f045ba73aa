"""Decide: is this error a write that came to the closed side? Without importing any driver; pure.

Invariant: only what the fence and the guard themselves say counts: "tailrace-fenced" at the beginning of SQLite's message,
SQLSTATE TR001 of PostgreSQL. Both leave nothing of the statement behind, so the whole transaction may be run again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

FENCED_TEXT = "tailrace-fenced"
GUARDED_SQLSTATE = "TR001"
_UNDONE_SQLSTATES = ("40001", "40P01")
_TOKEN = re.compile(r"at token (\d+)")
_DEPTH = 8
RETRY_S = 0.1


class WritesMoving(Exception):
    """Writes are moving to the other side, or have just moved. Nothing was written: run the whole transaction again.

    For a web application: HTTP 503 with `Retry-After`.
    """

    retryable = True

    def __init__(self, text: str, *, epoch: int, retry_after_s: float = RETRY_S) -> None:
        super().__init__(text)
        self.epoch = epoch
        self.retry_after_s = retry_after_s


class PlaintextRefused(ValueError):
    """An address off this machine would get the password, the route and the reports unencrypted."""


def moved(error: BaseException) -> int | None:
    """None: another error. Else the epoch that closed the side, -1 where the error does not tell."""
    for one in _chain(error):
        text = str(one)
        if text.startswith(FENCED_TEXT):
            found = _TOKEN.search(text)
            return int(found[1]) if found else -1
        if GUARDED_SQLSTATE in (getattr(one, "sqlstate", None), getattr(one, "pgcode", None)):
            return -1
    return None


def undone(error: BaseException) -> bool:
    """A deadlock or a serialization failure of PostgreSQL: the server took the whole transaction back and says so. Closing
    the tables for a return may meet a transaction that locks them in another order (test_a_deadlock_is_tried_again)."""
    return any(
        getattr(one, name, None) in _UNDONE_SQLSTATES for one in _chain(error) for name in ("sqlstate", "pgcode")
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """The error and what it was made of: `__cause__`, `__context__`, and `orig` as SQLAlchemy has it."""
    todo, seen = [error], 0
    while todo and seen < _DEPTH:
        one = todo.pop(0)
        if isinstance(one, BaseException):
            seen += 1
            yield one
            todo += [getattr(one, "orig", None), one.__cause__, one.__context__]
