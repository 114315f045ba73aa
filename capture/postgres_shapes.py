"""Do: remember what each table of the target was when it opened, and tell which is no longer that.

Invariant: a table is carried back only while its columns, their types and its log triggers are those of the open. They are
remembered in the transaction of the open, not where capture begins: a capture that restarts behind a change would take the
changed table for the right one (test_a_change_while_capture_was_away_is_seen).
The catalogue is read by plain SELECTs, so inside a view they see the catalogue of its snapshot, as its rows are.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

from adapters.postgres import Postgres
from capture.postgres_triggers import TRIGGERS
from schemas.plan import TablePlan

SHAPES = "tailrace.shapes"
STATEMENT = f"""CREATE TABLE IF NOT EXISTS {SHAPES}(
        source text NOT NULL, tab text NOT NULL, nsp text NOT NULL, rel text NOT NULL, relid oid NOT NULL,
        columns jsonb NOT NULL, PRIMARY KEY (source, tab))"""

_COLUMNS = (
    "(SELECT jsonb_object_agg(attname::text, format_type(atttypid, atttypmod)) FROM pg_attribute "
    "WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped)"
)
_REMEMBER = (
    f"INSERT INTO {SHAPES} SELECT p.source, p.tab, p.nsp, p.rel, c.oid, {_COLUMNS} "
    "FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[]) AS p(source, tab, nsp, rel) "
    "JOIN pg_namespace AS n ON n.nspname = p.nsp JOIN pg_class AS c ON c.relnamespace = n.oid AND c.relname = p.rel"
)
_CHANGED = (
    "SELECT source, tab, was, now, firing FROM (SELECT s.source, s.tab, s.columns AS was, "
    f"CASE WHEN c.oid IS NOT NULL THEN {_COLUMNS} END AS now, (SELECT count(*) FROM pg_trigger WHERE tgrelid = c.oid "
    f"AND tgname = ANY(%s) AND (tgenabled = 'A' OR NOT %s)) AS firing FROM {SHAPES} AS s LEFT JOIN (pg_class AS c "
    "JOIN pg_namespace AS n ON n.oid = c.relnamespace) ON c.oid = s.relid AND c.relname = s.rel AND n.nspname = s.nsp "
    "WHERE s.source = %s OR %s = '') AS looked WHERE now IS DISTINCT FROM was OR firing <> %s ORDER BY source, tab"
)


def remember(target: Postgres, plans: Sequence[TablePlan]) -> None:
    """In the transaction of the open."""
    target.run(f"DELETE FROM {SHAPES}")
    target.run(
        _REMEMBER,
        (
            [plan.source for plan in plans],
            [plan.table for plan in plans],
            [plan.target_schema for plan in plans],
            [plan.target_table for plan in plans],
        ),
    )


def changed(target: Postgres, source: str = "", *, firing: bool = True) -> dict[tuple[str, str], str]:
    """(source, table) -> why it is not carried back any more.

    Args:
        source: empty: all of them.
        firing: the log triggers must be enabled, too.
    """
    found = target.rows(_CHANGED, (list(TRIGGERS), firing, source, source, len(TRIGGERS)))
    return {(str(name), str(table)): _why(was, now) for name, table, was, now, _ in found}


def _why(was: object, now: object) -> str:
    if now is None:
        return "the table was dropped, renamed or moved"
    before, after = _columns(was), _columns(now)
    gone = sorted(set(before) - set(after))
    fresh = sorted(set(after) - set(before))
    other = sorted(name for name in set(before) & set(after) if before[name] != after[name])
    parts = [
        f"column {', '.join(gone)} was dropped or renamed" if gone else "",
        f"column {', '.join(fresh)} was added" if fresh else "",
        f"column {', '.join(other)} has another type" if other else "",
    ]
    return "; ".join(filter(None, parts)) or "its log triggers were disabled or dropped"


def _columns(value: object) -> dict[str, str]:
    found = json.loads(value) if isinstance(value, str) else value
    return dict(found) if isinstance(found, dict) else {}
