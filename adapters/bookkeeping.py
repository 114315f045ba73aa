"""Do: make the schema `tailrace` on the target, or bring the one of the release before up to date; refuse a newer one.

Invariant: one transaction under one lock, so that whoever starts first does it whole and everybody else finds it done.
"""

from __future__ import annotations

from adapters.postgres import Postgres
from schemas.bookkeeping import statements
from schemas.formats import BOOKKEEPING, refuse_unreadable

_LOCK = "SELECT pg_advisory_xact_lock(7232301)"


def bring_up_to_date(target: Postgres) -> None:
    """Idempotent. Raises Refusal(FORMAT_NEWER | FORMAT_OLDER)."""
    if not older(target) and _complete(target):
        return
    present = bool(target.rows("SELECT to_regnamespace('tailrace') IS NOT NULL")[0][0])
    with target.transaction():
        target.run(_LOCK)
        for statement in statements()[1 if present else 0 :]:
            target.run(statement)
        target.run("UPDATE tailrace.progress SET format = %s WHERE format < %s", (BOOKKEEPING.current,) * 2)


def older(target: Postgres) -> bool:
    """Is what is there of the release before? Raises Refusal for what this one cannot read."""
    if not target.rows("SELECT to_regclass('tailrace.progress') IS NOT NULL")[0][0]:
        return False
    newest, oldest = target.rows("SELECT max(format), min(format) FROM tailrace.progress")[0]
    if newest is None:
        return False
    refuse_unreadable(BOOKKEEPING, newest, "the target")
    return refuse_unreadable(BOOKKEEPING, oldest, "the target")


def _complete(target: Postgres) -> bool:
    """The last table and the last columns, whichever release they came with."""
    return bool(
        target.rows(
            "SELECT to_regclass('tailrace.verified') IS NOT NULL AND 2 = (SELECT count(*) FROM pg_attribute WHERE NOT "
            "attisdropped AND (attrelid, attname::text) IN ((to_regclass('tailrace.progress'), 'topics'), "
            "(to_regclass('tailrace.migration'), 'restoring')))"
        )[0][0]
    )
