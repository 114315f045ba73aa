"""Do: the rows of `tailrace.tables` and `tailrace.copies` that the copy owns; every change is a compare-and-set.

Invariant: the copy moves a table REQUESTED -> COPYING -> COPIED and CAUGHT_UP -> FOLLOWING, each bound to one generation;
a newer COPY notice raises the generation and every later write of this copy changes no row (Superseded).
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass

from adapters.postgres import Postgres
from schemas.change import TableState
from schemas.errors import Code, Superseded
from schemas.model import BadText, Key, Value
from schemas.plan import TablePlan, plan_from_json, plan_to_json


@dataclass(frozen=True, slots=True)
class TableWork:
    """One table that the copy has something to do for."""

    table: str
    state: TableState
    generation: int
    floor: int
    last_head: int
    value_schema_id: int
    plan: TablePlan | None
    """The shape the target table has now; None: it was never made."""
    last_key: Key | None
    rows: int
    expected: int
    shadow: str | None


def key_text(key: Key) -> str:
    """A key as JSON that keeps the class of every value."""

    def tagged(value: Value) -> list[object]:
        if isinstance(value, BadText):
            return ["x", base64.b64encode(bytes(value)).decode()]
        if isinstance(value, bytes):
            return ["b", base64.b64encode(value).decode()]
        if isinstance(value, float):
            return ["r", value.hex()]
        return ["v", value]

    return json.dumps([tagged(value) for value in key])


def key_of(text: str) -> Key:
    def value(tag: str, stored: object) -> Value:
        if tag == "r":
            return float.fromhex(str(stored))
        if tag in ("b", "x"):
            raw = base64.b64decode(str(stored))
            return raw if tag == "b" else BadText(raw)
        return stored  # type: ignore[return-value]

    return tuple(value(tag, stored) for tag, stored in json.loads(text))


class CopyState:
    """Reads and writes the state of one source's copies."""

    def __init__(self, target: Postgres, source: str) -> None:
        self._target = target
        self._source = source

    def work(self) -> list[TableWork]:
        """Tables that need the copy, largest first where sizes are known."""
        found = self._target.rows(
            'SELECT t."table", t.state, t.generation, t.floor, t.last_head, t.value_schema_id, t.plan::text, c.last_key, '
            "coalesce(c.rows, 0), coalesce(c.expected, 0), c.shadow FROM tailrace.tables t "
            'LEFT JOIN tailrace.copies c ON c.source = t.source AND c."table" = t."table" AND c.generation = t.generation '
            "WHERE t.source = %s AND t.state IN ('requested', 'copying', 'caught-up') AND NOT EXISTS (SELECT 1 FROM "
            "tailrace.progress p WHERE p.source = t.source AND p.phase = 'paused') ORDER BY c.expected DESC NULLS LAST, "
            't."table"',
            (self._source,),
        )
        return [
            TableWork(
                row[0],
                TableState(row[1]),
                row[2],
                row[3],
                row[4],
                row[5],
                plan_from_json(row[6]) if row[6] else None,
                key_of(row[7]) if row[7] else None,
                row[8],
                row[9],
                row[10],
            )
            for row in found
        ]

    def topics(self) -> dict[str, str]:
        """topic -> id, of what the sink has read."""
        found = self._target.rows(
            "SELECT to_jsonb(p) -> 'topics' FROM tailrace.progress p WHERE source = %s", (self._source,)
        )
        return dict(json.loads(found[0][0] or "{}")) if found else {}

    def begin(self, work: TableWork, plan: TablePlan, *, head: int, expected: int, shadow: str | None) -> None:
        """REQUESTED -> COPYING (or a copy that begins anew): the floor becomes the head that was read before the first
        chunk's view opens."""
        self._move(work, work.state, f"state = 'copying', floor = {int(head)}, last_head = {int(head)}")
        if shadow is None:
            self.store_plan(work, plan)
        # What stayed behind up to here is read again; what the target still refuses is kept anew.
        self._target.run(
            'DELETE FROM tailrace.quarantine WHERE source = %s AND "table" = %s AND seq <= %s',
            (self._source, work.table, head),
        )
        self._target.run(
            'DELETE FROM tailrace.copies WHERE source = %s AND "table" = %s AND generation < %s',
            (self._source, work.table, work.generation),
        )
        self._target.run(
            "INSERT INTO tailrace.copies VALUES (%s, %s, %s, 0, NULL, 0, %s, 'copying', %s) "
            'ON CONFLICT (source, "table", generation, part) DO UPDATE SET last_key = NULL, rows = 0, expected = '
            "EXCLUDED.expected, state = 'copying', shadow = EXCLUDED.shadow",
            (self._source, work.table, work.generation, expected, shadow),
        )

    def chunk(self, work: TableWork, *, last_key: Key, rows: int, head: int) -> None:
        """Progress of one chunk, in the transaction of its rows."""
        self._move(work, TableState.COPYING, f"last_head = greatest(last_head, {int(head)})")
        # Another process may have copied the same rows meanwhile: then these are not written a second time.
        changed = self._target.run(
            'UPDATE tailrace.copies SET last_key = %s, rows = rows + %s WHERE source = %s AND "table" = %s '
            "AND generation = %s AND rows = %s",
            (key_text(last_key), rows, self._source, work.table, work.generation, work.rows),
        )
        if changed != 1:
            raise self._superseded(work, "another process copies this table")

    def quarantine(self, work: TableWork, key: bytes, text: str, reason: str, seq: int) -> None:
        """Keep the key of a row that the target refused."""
        self._target.run(
            'INSERT INTO tailrace.quarantine VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (source, "table", key_hash) '
            "DO UPDATE SET reason = EXCLUDED.reason, seq = EXCLUDED.seq, waived = NULL",
            (self._source, work.table, key, text, reason, seq),
        )

    def copied(self, work: TableWork, *, head: int) -> None:
        self._move(work, TableState.COPYING, f"state = 'copied', last_head = greatest(last_head, {int(head)})")
        self._target.run(
            "UPDATE tailrace.copies SET state = 'copied', shadow = NULL WHERE source = %s AND \"table\" = %s "
            "AND generation = %s",
            (self._source, work.table, work.generation),
        )

    def following(self, work: TableWork, reason: str) -> None:
        self._move(work, TableState.CAUGHT_UP, "state = 'following'")
        self._target.run(
            'UPDATE tailrace.tables SET reason = %s WHERE source = %s AND "table" = %s',
            (reason, self._source, work.table),
        )

    def store_plan(self, work: TableWork, plan: TablePlan) -> None:
        self._target.run(
            'UPDATE tailrace.tables SET plan = %s, target_schema = %s, target_table = %s WHERE source = %s AND "table" = %s',
            (plan_to_json(plan), plan.target_schema, plan.target_table, self._source, work.table),
        )

    def _move(self, work: TableWork, expected: TableState, assignments: str) -> None:
        changed = self._target.run(
            f'UPDATE tailrace.tables SET {assignments} WHERE source = %s AND "table" = %s AND state = %s '
            "AND generation = %s",
            (self._source, work.table, expected, work.generation),
        )
        if changed != 1:
            raise self._superseded(work, "a newer copy of this table was asked for")

    def _superseded(self, work: TableWork, why: str) -> Superseded:
        return Superseded(
            Code.COPY_SUPERSEDED, why, source=self._source, table=work.table, hint="the copy begins again"
        )
