"""Do: rows that the way back could not bring, in each source's own file: read, sent again, left behind.

Invariant: nothing here writes a row of the application. A row that is left behind is taken out of quarantine in one
transaction of the source, after the target's journal says so; its key stands in the source's log since it was kept, so that
after the rollback the source's state of it goes forward and both sides are equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from capture.meta import has_table
from capture.postgres_touch import touch_keys
from cli.cutover_wiring import actor
from cli.wiring import open_source, open_target
from cutover.authority import AuthorityRow
from cutover.prepare import plans_of
from ops.config import Config
from schemas.authority import Authority
from schemas.back import QUARANTINE
from schemas.errors import Code, Refusal
from schemas.model import Key
from schemas.plan import TablePlan, plan_to_json


def rows_kept_back(config: Config, plans: Mapping[tuple[str, str], TablePlan]) -> list[tuple[Any, ...]]:
    """(source, table, framed key, reason, since, waived, plan) of each; a waived one is gone."""
    found: list[tuple[Any, ...]] = []
    for name in config.source_databases:
        db = open_source(config, name)
        try:
            if has_table(db, QUARANTINE):
                kept = db.rows(f"SELECT tab, key, reason, seq FROM {QUARANTINE} ORDER BY seq, tab, key_text")
                for table, key, why, seq in kept:
                    plan = plans.get((name, table))
                    text = plan_to_json(plan) if plan is not None else None
                    found.append((name, table, key, why, f"label {seq}", None, text))
        finally:
            db.close()
    return found


def send_back(config: Config, source: str, table: str, keys: Sequence[Key]) -> int:
    """Touch the keys on the target: their rows are read there as they are now, and come again."""
    target = open_target(config, "quarantine")
    try:
        if AuthorityRow(target, actor=actor()).read().authority not in (Authority.TARGET, Authority.TO_SOURCE):
            raise Refusal(
                Code.VERB_ILLEGAL, "nothing comes back: writes do not belong to PostgreSQL", hint="tailrace status"
            )
        (plan,) = (one for one in plans_of(target, source) if one.table == table)
        return touch_keys(target, plan, keys)
    finally:
        target.close()


def waive_back(config: Config, source: str, table: str, reason: str) -> int:
    """Leave the rows of one table behind. Returns how many."""
    target, db = open_target(config, "quarantine"), open_source(config, source)
    try:
        row = AuthorityRow(target, actor=actor())
        before = row.read()
        with db.write():
            rows = db.rows(f"SELECT key_text FROM {QUARANTINE} WHERE tab = ?", (table,))
            kept = [str(key) for (key,) in rows]
            detail = {"source": source, "table": table, "keys": kept, "reason": reason}
            row.note(before.token, before.authority, before.authority, verb="waive-rows", detail=detail)
            return db.run(f"DELETE FROM {QUARANTINE} WHERE tab = ?", (table,))
    finally:
        db.close()
        target.close()
