"""Decide: the triggers that stop every writer of a source, cooperating or not, as statements; pure.

Invariant: RAISE(ABORT) is no conflict: neither OR IGNORE nor OR REPLACE nor an UPSERT gets past it (SQLite:
lang_createtrigger), and the statement that met it leaves nothing behind. Created last, they fire before all others.
The text begins with `FENCED_TEXT`: the router tells a retryable error by it.
"""

from __future__ import annotations

from collections.abc import Iterable

from schemas.model import OWN_PREFIX
from schemas.names import quote, text_literal

FENCE_PREFIX = f"{OWN_PREFIX}fence_"
FENCED_TEXT = "tailrace-fenced"
_EVENTS = ("INSERT", "UPDATE", "DELETE")


def fence_triggers(tables: Iterable[str], token: int, *, schema: str = "main") -> list[str]:
    """One BEFORE trigger for each kind of write on each table."""
    text = text_literal(f"{FENCED_TEXT}: writes moved away at token {token}; ask the router where to, then try again")
    return [
        f"CREATE TRIGGER {quote(schema)}.{quote(f'{FENCE_PREFIX}{number}_{event[0].lower()}')} BEFORE {event} "
        f"ON {quote(table)} FOR EACH ROW BEGIN SELECT RAISE(ABORT, {text}); END"
        for number, table in enumerate(tables)
        for event in _EVENTS
    ]


def is_fence(trigger: str) -> bool:
    return trigger.startswith(FENCE_PREFIX)
