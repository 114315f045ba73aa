"""Do: apply one cut to PostgreSQL: rows, notices, offsets and floors in one transaction.

The order is the argument: the first statement is a compare-and-set on (source, owner, applied, phase). A sink that was
paused, lost its lease and woke up finds another owner or another applied seq, changes no row and stops
(test_zombie_sink_moves_applied_back). Everything after it commits with it or not at all, so every change takes effect
once, however often its records are read.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from typing import Any

from adapters.postgres import Postgres
from ops.points import reach
from schemas.avro import plan_of, unframe
from schemas.change import Collapsed, Notice, NoticeKind, Progress, TableState, TopicPartition, Watermark
from schemas.ddl import full_name
from schemas.errors import Code, Failed, IndexRowTooLarge, Misfit, OutOfRange, Superseded
from schemas.plan import TablePlan
from schemas.ports import Registry
from schemas.rows import RowCodec
from sink.progress import claim, offsets_text, prepared, read_progress
from sink.quarantine import Quarantine
from sink.shapes import TableShapes
from sink.statements import COPY_FROM_ROWS, arrays, delete_sql, temp_sql, upsert_sql

_CLAIM = (
    "UPDATE tailrace.progress SET applied = %s, offsets = %s, topics = topics || %s::jsonb, captured_at_ms = %s, "
    "applied_at_ms = %s, highest = greatest(highest, %s), identity = %s, applying_to = CASE WHEN applying_to > %s THEN "
    "applying_to END WHERE source = %s AND owner = %s AND applied = %s AND phase IN ('source', 'to_target')"
)


LONG_INDEXES = (
    "SELECT DISTINCT c.relname::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_attribute a ON "
    "a.attrelid = c.oid WHERE i.indrelid = to_regclass(%s) AND NOT i.indisprimary "
    "AND a.atttypid IN ('text'::regtype, 'bytea'::regtype, 'jsonb'::regtype) AND pg_get_indexdef(c.oid) !~ 'md5\\('"
)
"""Indexes over values of any length, but for the key's."""

_APPLYING = (
    "UPDATE tailrace.progress SET applying_to = greatest(applying_to, %s), consistent = false WHERE source = %s "
    "AND owner = %s AND applied = %s AND phase IN ('source', 'to_target')"
)


def _superseded(source: str, before: Progress) -> Superseded:
    return Superseded(
        Code.PROGRESS_LOST,
        "another sink moved the progress of this source, or it was paused",
        source=source,
        position=before.applied,
        hint="this sink reads the progress again",
    )


def _storable(codec: RowCodec, key: tuple[Any, ...]) -> list[tuple[Any, ...]]:
    """The key as parameters; nothing when the target's column could not hold it: then no such row is there to delete."""
    try:
        return codec.sqlite_keys_to_pg([key])
    except Misfit:
        return []


class PostgresTarget:
    """Implements ports.Target: writes the cuts of one source."""

    def __init__(self, target: Postgres, registry: Registry, source: str, *, on_misfit: str = "widen") -> None:
        """`on_misfit`: "quarantine": a row with a value too long for an index stays behind; else that index is made over
        digests."""
        self._on_misfit = on_misfit
        self._target = target
        self._registry = registry
        self._source = source
        self._shapes = TableShapes(target, registry, source)
        self._quarantine = Quarantine(target, source, self.decode_key)

    def prepared(self) -> bool:
        return prepared(self._target)

    def claim(self, owner: str) -> Progress:
        """The lease is a lock of the session: a pooler would hand it to somebody else."""
        self._target.refuse_pooler()
        return claim(self._target, self._source, owner)

    def close(self) -> None:
        self._target.free_advisory_locks()
        self._target.close()

    def progress(self) -> Progress | None:
        return read_progress(self._target, self._source)

    def schemas(self) -> Mapping[str, str]:
        return self._registry.identity()

    def decode_key(self, schema_id: int, payload: bytes) -> tuple[Any, ...]:
        """SQLite values of one key."""
        return self._shapes.key_codec(schema_id).decode([payload])[0]

    def apply(
        self,
        before: Progress,
        watermark: Watermark,
        *,
        offsets: Mapping[TopicPartition, int],
        tables: Mapping[str, Collapsed],
        notices: Sequence[Notice],
        now_ms: int,
    ) -> None:
        """All or nothing. Raises Superseded when the compare-and-set lost; after Unknown read the progress first."""
        reach("sink.before_apply")
        with self._target.transaction():
            changed = self._target.run(
                _CLAIM,
                (
                    watermark.seq,
                    offsets_text(offsets),
                    json.dumps(dict(watermark.topics)),
                    watermark.captured_at_ms,
                    now_ms,
                    watermark.seq,
                    watermark.identity,
                    watermark.seq,
                    self._source,
                    before.owner,
                    before.applied,
                ),
            )
            if changed != 1:
                raise _superseded(self._source, before)
            for table, collapsed in tables.items():
                if len(collapsed):
                    self._table(table, collapsed, watermark.seq)
            for notice in notices:
                self._notice(notice)
            self._states(before, watermark.seq)
            reach("sink.before_commit")
        reach("sink.after_commit")

    def slice(self, before: Progress, applying_to: int, table: str, collapsed: Collapsed) -> None:
        """Part of a large cut, in its own transaction: rows only; nothing is consistent until `apply` closes the cut."""
        with self._target.transaction():
            changed = self._target.run(_APPLYING, (applying_to, self._source, before.owner, before.applied))
            if changed != 1:
                raise _superseded(self._source, before)
            self._table(table, collapsed, applying_to)

    def is_unique(self, table: str) -> bool:
        """Does the target's table carry unique constraints besides its key?"""
        return self._shapes.current(table).unique

    # -- rows ----------------------------------------------------------------------------------------------------

    def _table(self, table: str, collapsed: Collapsed, seq: int) -> None:
        plan = self._shapes.current(table)
        plan = self._shapes.widen(table, plan, {unframe(value)[0] for _, value in collapsed.upserts})
        codec = self._shapes.plan_codec(plan)
        deletes = self._keys_for(codec, collapsed.deletes)
        rows = self._rows_for(plan, codec, collapsed.upserts)
        self._quarantine.free(table, collapsed.deletes + [key for key, _ in collapsed.upserts], seq)
        while True:
            try:
                with self._target.transaction():
                    self._write(plan, codec, deletes, rows)
                return
            except IndexRowTooLarge as error:
                if not self._digests(error.index, plan, table):
                    break
            except OutOfRange:
                if self._on_misfit == "quarantine" or not self._shapes.outgrown(table, plan):
                    break
            except Failed as error:
                if error.code not in (Code.TARGET_CONFLICT, Code.TARGET_REFUSED):
                    raise
                break
        self._one_by_one(table, plan, deletes, rows, collapsed, seq)

    def _digests(self, index: str, plan: TablePlan, table: str) -> bool:
        """Drop an index that a value is too long for; the finalise makes it anew, over digests where it must. Each turn
        takes one index away, so asking again ends. The key's own index stays: without it no row is found."""
        if self._on_misfit == "quarantine":
            return False
        found = self._target.rows(f"{LONG_INDEXES} AND (c.relname = %s OR %s = '')", (full_name(plan), index, index))
        if not found:
            return False
        for (name,) in found:
            self._target.run(f"DROP INDEX {full_name(plan, name)}")
        self._shapes.finalise_again(table)
        return True

    def _write(
        self, plan: TablePlan, codec: RowCodec, deletes: list[tuple[Any, ...]], rows: list[tuple[Any, ...]]
    ) -> None:
        places = plan.key_indexes
        gone = deletes + ([tuple([row[at] for at in places]) for row in rows] if plan.unique else [])
        if gone:
            self._target.run(delete_sql(plan), arrays(gone))
        if len(rows) >= COPY_FROM_ROWS:
            create, copy, merge = temp_sql(plan)
            self._target.run("DROP TABLE IF EXISTS pg_temp.tailrace_batch")
            self._target.run(create)
            self._target.copy_in(copy, codec.pg_types, rows)
            self._target.run(merge)
        elif rows:
            self._target.run(upsert_sql(plan), arrays(rows))

    def _one_by_one(
        self,
        table: str,
        plan: TablePlan,
        deletes: list[tuple[Any, ...]],
        rows: list[tuple[Any, ...]],
        collapsed: Collapsed,
        seq: int,
    ) -> None:
        """Halve until the rows that PostgreSQL refuses stand alone; those go to quarantine, all others are written.

        Deletes and, for unique tables, all touched keys go first, so that only divergence or a bad row can fail."""
        places = plan.key_indexes
        gone = deletes + [tuple([row[at] for at in places]) for row in rows]
        if gone:
            self._target.run(delete_sql(plan), arrays(gone))

        def attempt(start: int, stop: int) -> None:
            try:
                with self._target.transaction():
                    self._target.run(upsert_sql(plan), arrays(rows[start:stop]))
            except Failed as error:
                if error.code not in (Code.TARGET_CONFLICT, Code.TARGET_REFUSED):
                    raise
                if stop - start > 1:
                    middle = (start + stop) // 2
                    attempt(start, middle)
                    attempt(middle, stop)
                else:
                    self._quarantine.keep(table, collapsed.upserts[start][0], error.message, seq)

        if rows:
            attempt(0, len(rows))

    def _rows_for(self, plan: TablePlan, codec: RowCodec, upserts: list[tuple[bytes, bytes]]) -> list[tuple[Any, ...]]:
        """Rows in the order of `upserts`, as parameters of the current plan."""
        ids = {value[1:5] for _, value in upserts}
        if len(ids) == 1:
            return self._carried(plan, codec, int.from_bytes(ids.pop(), "big"), [value[5:] for _, value in upserts])
        rows: list[tuple[Any, ...]] = []
        for _, value in upserts:
            schema_id, payload = unframe(value)
            rows += self._carried(plan, codec, schema_id, [payload])
        return rows

    def _carried(
        self, plan: TablePlan, codec: RowCodec, schema_id: int, payloads: list[bytes]
    ) -> list[tuple[Any, ...]]:
        source = self._shapes.row_codec(schema_id)
        same = [(c.target, c.codec) for c in source.plan.columns] == [(c.target, c.codec) for c in plan.columns]
        if same:
            return source.payloads_to_pg(payloads)
        names = [column.target for column in source.plan.columns]
        places = [names.index(column.target) if column.target in names else None for column in plan.columns]
        rows = [tuple([None if at is None else row[at] for at in places]) for row in source.decode_rows(payloads)]
        return codec.rows_to_pg(rows)

    def _keys_for(self, codec: RowCodec, keys: list[bytes]) -> list[tuple[Any, ...]]:
        by_schema: dict[int, list[bytes]] = {}
        for raw in keys:
            schema_id, payload = unframe(raw)
            by_schema.setdefault(schema_id, []).append(payload)
        result: list[tuple[Any, ...]] = []
        for schema_id, payloads in by_schema.items():
            keys_of = self._shapes.key_codec(schema_id).decode(payloads)
            try:
                result += codec.sqlite_keys_to_pg(keys_of)
            except Misfit:
                result += [one for key in keys_of for one in _storable(codec, key)]
        return result

    # -- notices, states -----------------------------------------------------------------------------------------

    def _notice(self, notice: Notice) -> None:
        match notice.kind:
            case NoticeKind.COPY:
                plan = plan_of(self._registry.schema(notice.value_schema_id))
                self._target.run(
                    "INSERT INTO tailrace.tables VALUES (%s, %s, %s, %s, 0, 0, %s, %s, '', %s, %s, NULL) "
                    'ON CONFLICT (source, "table") DO UPDATE SET state = EXCLUDED.state, generation = '
                    "EXCLUDED.generation, value_schema_id = EXCLUDED.value_schema_id, key_schema_id = "
                    "EXCLUDED.key_schema_id, reason = '' WHERE tailrace.tables.generation < EXCLUDED.generation "
                    "OR tailrace.tables.state = 'gone'",
                    (
                        self._source,
                        notice.table,
                        TableState.REQUESTED,
                        notice.generation,
                        notice.value_schema_id,
                        notice.key_schema_id,
                        plan.target_schema,
                        plan.target_table,
                    ),
                )
            case NoticeKind.SHAPE:
                state = self._target.rows(
                    'SELECT state FROM tailrace.tables WHERE source = %s AND "table" = %s AND plan IS NOT NULL',
                    (self._source, notice.table),
                )
                # A held table gets its columns from the copy that holds it.
                if state and not TableState(state[0][0]).held:
                    self._shapes.widen(notice.table, self._shapes.current(notice.table), [notice.value_schema_id])
            case NoticeKind.GONE:
                self._target.run(
                    "UPDATE tailrace.tables SET state = 'gone', reason = 'dropped at the source; the target keeps its "
                    'table\' WHERE source = %s AND "table" = %s AND generation <= %s',
                    (self._source, notice.table, notice.generation),
                )
            case NoticeKind.QUARANTINE:
                self._quarantine.keep(notice.table, base64.b64decode(notice.key), notice.reason, notice.seq)

    def _states(self, before: Progress, seq: int) -> None:
        """Tables whose copy is covered catch up; the source is consistent when nothing is held, owed or quarantined."""
        read = [name for name, one in before.tables.items() if one.state is TableState.COPIED]
        if read:
            self._target.run(
                "UPDATE tailrace.tables SET state = 'caught-up' WHERE source = %s AND state = 'copied' "
                'AND "table" = ANY(%s) AND last_head <= %s',
                (self._source, read, seq),
            )
        self._target.run(
            "UPDATE tailrace.progress SET consistent = applied >= highest AND applying_to IS NULL "
            "AND NOT EXISTS (SELECT 1 FROM tailrace.tables t "
            "WHERE t.source = %s AND (t.state NOT IN ('following', 'gone') OR t.last_head > %s)) "
            "AND EXISTS (SELECT 1 FROM tailrace.tables t WHERE t.source = %s) AND NOT EXISTS (SELECT 1 FROM "
            "tailrace.quarantine q WHERE q.source = %s AND q.waived IS NULL) WHERE source = %s",
            (self._source, seq, self._source, self._source, self._source),
        )
