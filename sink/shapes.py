"""Do: the shape each target table has now, the codecs that go with it, and its widening in the stream.

Invariant: `tailrace.tables.plan` says what the table is, and moves in the transaction of the DDL that changes it; a record
of a narrower schema is carried up, a wider one first widens the table.
"""

from __future__ import annotations

from collections.abc import Iterable

from adapters.postgres import Postgres
from schemas.ddl import full_name
from schemas.errors import Code, Failed
from schemas.evolution import covers, evolve, rewritten
from schemas.plan import TablePlan, plan_from_json, plan_to_json
from schemas.ports import Registry
from schemas.rows import KeyCodec, RowCodec
from sink.schema_codecs import SchemaCodecs

_NARROW = (
    "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass "
    "AND attnum > 0 AND NOT attisdropped AND atttypid IN ('int2'::regtype, 'int4'::regtype)"
)
_HANGING = (
    "WITH t AS (SELECT %s::regclass AS id), narrow AS (SELECT attnum FROM pg_attribute, t WHERE attrelid = t.id "
    "AND attname = ANY(%s)) "
    "SELECT format('ALTER TABLE %%s ADD CONSTRAINT %%I %%s', c.conrelid::regclass, c.conname, pg_get_constraintdef(c.oid)) "
    "FROM pg_constraint AS c, t WHERE c.conrelid = t.id AND c.contype IN ('c', 'f', 'u', 'x') "
    "AND EXISTS (SELECT 1 FROM narrow WHERE attnum = ANY(c.conkey)) UNION ALL "
    "SELECT pg_get_indexdef(i.indexrelid) FROM pg_index AS i, t WHERE i.indrelid = t.id "
    "AND NOT EXISTS (SELECT 1 FROM pg_constraint WHERE conindid = i.indexrelid) "
    "AND EXISTS (SELECT 1 FROM pg_depend AS d, narrow WHERE d.classid = 'pg_class'::regclass AND d.objid = i.indexrelid "
    "AND d.refobjid = i.indrelid AND d.refobjsubid = narrow.attnum)"
)
"""What goes with a column that is dropped, and was made there by the application: it is made again over the new one."""
_FINALISE_AGAIN = "state = CASE state WHEN 'following' THEN 'caught-up' ELSE state END"


class TableShapes:
    """Shapes and codecs of one source's tables. Runs inside the caller's transaction."""

    def __init__(self, target: Postgres, registry: Registry, source: str) -> None:
        self._target = target
        self._source = source
        self._codecs = SchemaCodecs(registry)
        self._plans: dict[TablePlan, RowCodec] = {}

    def current(self, table: str) -> TablePlan:
        found = self._target.rows(
            'SELECT plan::text FROM tailrace.tables WHERE source = %s AND "table" = %s', (self._source, table)
        )
        if not found or found[0][0] is None:
            raise Failed(
                Code.TARGET_UNPREPARED,
                "the target table has no plan yet",
                source=self._source,
                table=table,
                hint=f"tailrace reset {self._source}",
            )
        return plan_from_json(found[0][0])

    def widen(self, table: str, plan: TablePlan, schema_ids: Iterable[int]) -> TablePlan:
        """Widen the target for these schemas; returns the plan afterwards."""
        for schema_id in schema_ids:
            incoming = self.row_codec(schema_id).plan
            if covers(plan, incoming):
                continue
            evolution = evolve(plan, incoming)
            for statement in evolution.statements:
                self._target.run(statement)
            plan = evolution.plan
            state = f", {_FINALISE_AGAIN}" if evolution.retyped else ""
            self._target.run(
                f'UPDATE tailrace.tables SET plan = %s, value_schema_id = %s{state} WHERE source = %s AND "table" = %s',
                (plan_to_json(plan), schema_id, self._source, table),
            )
        return plan

    def finalise_again(self, table: str) -> None:
        """Indexes are missing: the snapshot's finalise makes them."""
        self._target.run(
            f'UPDATE tailrace.tables SET {_FINALISE_AGAIN} WHERE source = %s AND "table" = %s', (self._source, table)
        )

    def outgrown(self, table: str, plan: TablePlan) -> bool:
        """A number is out of range: a column that was born on PostgreSQL as smallint or integer holds less than SQLite writes
        into it after a return. It becomes what the plan says. False where none is narrower, so that asking again ends, or where
        something of the application's hangs on it (a view): the row then stays behind with its error, as any that PostgreSQL
        refuses."""
        wide = {one.target for one in plan.columns if one.pg_type == "bigint"} - {*plan.target_key}
        found = self._target.rows(_NARROW, (full_name(plan),)) if wide else []
        narrow = {name: kind for name, kind in found if name in wide}
        if not narrow:
            return False
        hanging = self._target.rows(_HANGING, (full_name(plan), list(narrow)))
        statements = [*rewritten(plan, narrow), *(statement for (statement,) in hanging)]
        try:
            with self._target.transaction():
                for statement in statements:
                    self._target.run(statement)
        except Failed as refused:
            if refused.code is not Code.TARGET_REFUSED:
                raise
            return False
        self.finalise_again(table)
        return True

    def row_codec(self, schema_id: int) -> RowCodec:
        return self._codecs.rows(schema_id)

    def key_codec(self, schema_id: int) -> KeyCodec:
        return self._codecs.keys(schema_id)

    def plan_codec(self, plan: TablePlan) -> RowCodec:
        """The codec of the table as it is now; parsed once per shape."""
        found = self._plans.get(plan)
        if found is None:
            found = self._plans[plan] = RowCodec(plan)
        return found
