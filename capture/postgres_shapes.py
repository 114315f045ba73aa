"""Do: remember what each table of the target was when it opened, tell which is no longer that, and which of those only grew.

Invariant: a table is carried back only while its columns, their types and its log triggers are the remembered ones. They are
remembered in the transaction of the open, not where capture begins: a capture that restarts behind a change would take the
changed table for the right one (test_a_change_while_capture_was_away_is_seen). With its number a column is known from
another one that took its name: renamed away and added again it would look like one that was only added.
A column that was only added, of a type that comes back, is remembered once the stream has told the source of it: until then
it is found again by whoever looks. Plan and memory move in one transaction, and `stamp` moves with them: a capture that
read an older plan sees that it did, and sends no row without the column (test_a_stale_capture_sends_no_row_without_it).
The catalogue is read by plain SELECTs, so inside a view they see the catalogue of its snapshot, as its rows are.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from adapters.postgres import Postgres
from capture.postgres_touch import touch_all
from capture.postgres_triggers import ACKNOWLEDGED, TRIGGERS
from schemas.back_columns import Grown, Seen, grow
from schemas.errors import Code, Superseded
from schemas.plan import TablePlan, plan_to_json

SHAPES = "tailrace.shapes"
STATEMENT = f"""CREATE TABLE IF NOT EXISTS {SHAPES}(
        source text NOT NULL, tab text NOT NULL, nsp text NOT NULL, rel text NOT NULL, relid oid NOT NULL,
        columns jsonb NOT NULL, PRIMARY KEY (source, tab))"""

_COLUMNS = (
    "(SELECT jsonb_object_agg(attname::text, attnum || ' ' || format_type(atttypid, atttypmod)) FROM pg_attribute "
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
_ADDED = (
    "SELECT attname::text, attnum::int, format_type(atttypid, atttypmod), attnotnull, attidentity <> '' OR attgenerated <> '', "
    "pg_get_expr(d.adbin, d.adrelid), CASE WHEN atthasmissing THEN (attmissingval::text::text[])[1] END "
    f"FROM {SHAPES} AS s JOIN pg_attribute AS a ON a.attrelid = s.relid LEFT JOIN pg_attrdef AS d "
    "ON (d.adrelid, d.adnum) = (a.attrelid, a.attnum) WHERE s.source = %s AND s.tab = %s AND attnum > 0 "
    "AND NOT attisdropped AND (s.columns -> attname::text) IS NULL ORDER BY attnum"
)
_STAMP = (
    f"SELECT (SELECT coalesce(md5(string_agg(tab || columns::text, ',' ORDER BY tab)), '') FROM {SHAPES} WHERE source = %s) "
    "|| ' ' || (SELECT coalesce(max(seq), 0) FROM tailrace.journal WHERE verb = 'way-back' AND detail->>'source' = %s)"
)
_VOID = (
    "SELECT detail->>'void' FROM tailrace.journal WHERE verb = 'way-back' AND detail->>'source' = %s "
    "ORDER BY seq DESC LIMIT 1"
)


@dataclass(frozen=True, slots=True)
class Changes:
    """`lost`: (source, table) -> why it is not carried back any more. `grown`: those that have columns which come back."""

    lost: Mapping[tuple[str, str], str]
    grown: Mapping[tuple[str, str], Grown]


def remember(target: Postgres, plans: Sequence[TablePlan]) -> None:
    """In the transaction of the open."""
    target.run(f"DELETE FROM {SHAPES}")
    target.run(f"DELETE FROM {ACKNOWLEDGED}")  # what the log held before the open belongs to the forward stream
    target.run(
        _REMEMBER,
        (
            [plan.source for plan in plans],
            [plan.table for plan in plans],
            [plan.target_schema for plan in plans],
            [plan.target_table for plan in plans],
        ),
    )


def stamp(target: Postgres, source: str) -> str:
    """Moves with every shape of this source, and when its way back begins anew. Read it before the plans that are held
    against it."""
    return str(target.rows(_STAMP, (source, source))[0][0])


def void(target: Postgres, source: str) -> str:
    """Stamp of the watermark that the last reset of the way back gave up."""
    found = target.rows(_VOID, (source,))
    return str(found[0][0]) if found else ""


def changed(
    target: Postgres,
    plans: Sequence[TablePlan],
    source: str = "",
    *,
    firing: bool = True,
    mark_of: Callable[[str, str], str] = lambda table, column: "",  # noqa: ARG005
) -> Changes:
    """What is not as it was remembered.

    Args:
        source: empty: all of them.
        firing: the log triggers must be enabled, too.
        mark_of: what the operator ordered for (table, column).
    """
    known = {(plan.source, plan.table): plan for plan in plans}
    lost: dict[tuple[str, str], str] = {}
    grown: dict[tuple[str, str], Grown] = {}
    for name, table, was, now, fires in target.rows(_CHANGED, (list(TRIGGERS), firing, source, source, len(TRIGGERS))):
        where = (str(name), str(table))
        found: Grown | str = _why(was, now)
        if where in known and fires == len(TRIGGERS) and _only_added(was, now):
            seen = [Seen(*row) for row in target.rows(_ADDED, where)]
            found = grow(known[where], seen, partial(mark_of, where[1]))
        if isinstance(found, Grown):
            grown[where] = found
        else:
            lost[where] = found
    return Changes(lost, grown)


def keep(target: Postgres, token: int, before: TablePlan, grown: Grown) -> None:
    """The stream has told the source of these columns: from here on they belong to the table. Raises Superseded when writes
    moved, or another capture was here."""
    where = (before.source, before.table)
    types = json.dumps({one.name: f"{one.number} {one.type}" for one in grown.seen})
    with target.transaction():
        there = target.rows(
            "SELECT 1 FROM tailrace.migration WHERE token = %s AND authority IN ('target', 'to_source') FOR SHARE",
            (token,),
        )
        first = target.run(
            f"UPDATE {SHAPES} SET columns = columns || %s::jsonb WHERE source = %s AND tab = %s "
            "AND NOT columns ?| %s::text[]",
            (types, *where, [one.name for one in grown.seen]),
        )
        if not there or first != 1:
            raise Superseded(
                Code.AUTHORITY_MOVED,
                "another capture took over the new columns, or writes moved",
                source=before.source,
                table=before.table,
                position=token,
                hint="this one reads everything anew",
            )
        plan = plan_to_json(grown.plan)
        target.run('UPDATE tailrace.tables SET plan = %s::jsonb WHERE source = %s AND "table" = %s', (plan, *where))
        if grown.touch:
            touch_all(target, grown.plan)


def _only_added(was: object, now: object) -> bool:
    before, after = _columns(was), _columns(now)
    return len(after) > len(before) and all(after.get(name) == kind for name, kind in before.items())


def _why(was: object, now: object) -> str:
    if now is None:
        return "the table was dropped, renamed or moved"
    before, after = _columns(was), _columns(now)
    gone = sorted(set(before) - set(after))
    fresh = sorted(set(after) - set(before))
    same = {name: (before[name].partition(" "), after[name].partition(" ")) for name in set(before) & set(after)}
    another = sorted(name for name, (one, two) in same.items() if one[0] != two[0])
    other = sorted(name for name, (one, two) in same.items() if one[0] == two[0] and one[2] != two[2])
    parts = [
        f"column {', '.join(gone)} was dropped or renamed" if gone else "",
        f"column {', '.join(fresh)} was added" if fresh else "",
        f"column {', '.join(another)} is another one" if another else "",
        f"column {', '.join(other)} has another type" if other else "",
    ]
    return "; ".join(filter(None, parts)) or "its log triggers were disabled or dropped"


def _columns(value: object) -> dict[str, str]:
    found = json.loads(value) if isinstance(value, str) else value
    return dict(found) if isinstance(found, dict) else {}
