"""Do: one chunk of one table: a short view at the source, binary COPY and progress in one target transaction.

The order is the argument: the head that becomes the table's floor is read *before* the first chunk's view opens, so that
every record at or below it describes a state that the copied rows already include or exceed; the sink holds the table
since the COPY notice, so no record was lost before (Case *hold too late*). A chunk's rows and its progress commit together:
after a crash the copy goes on behind the last committed key, and no row is copied twice.
"""

from __future__ import annotations

from dataclasses import replace

from adapters.postgres import Postgres
from ops.points import reach
from ops.units import Done, Unit, unheard
from schemas.avro import frame, key_schema, plan_of, subject_of_key, subject_of_value, value_schema
from schemas.codecs import fits
from schemas.codecs_json import JSONB
from schemas.ddl import create_table, full_name
from schemas.errors import Code, Failed, IndexRowTooLarge, Misfit, Transient
from schemas.evolution import covers, evolve
from schemas.misfit import resettled, settle
from schemas.model import Key, Row, Table
from schemas.names import quote, short, text_literal
from schemas.plan import TablePlan, with_codec, with_columns
from schemas.policy import Policies
from schemas.ports import Clock, Registry, Source, SourceReader
from schemas.rows import RowCodec
from schemas.typemap import codec
from snapshot.chunks import ChunkSize
from snapshot.merge import merge
from snapshot.slices import Slices
from snapshot.state import CopyState, TableWork

NO_HURRY = "SET LOCAL statement_timeout = 0"
"""A merge, an index or ANALYZE of a large table takes as long as it takes; a time-out would begin it anew for ever."""


class TableCopy:
    """Copies the tables of one source, one chunk a call."""

    def __init__(
        self,
        source: Source,
        reader: SourceReader,
        target: Postgres,
        registry: Registry,
        clock: Clock,
        *,
        max_chunk_bytes: int = 64 * 1024 * 1024,
        done: Done = unheard,
        policies: Policies | None = None,
    ) -> None:
        self._source = source
        self._reader = reader
        self._target = target
        self._registry = registry
        self._clock = clock
        self._done = done
        self._state = CopyState(target, source.name)
        self._sizes: dict[str, ChunkSize] = {}
        self._max_chunk_bytes = max_chunk_bytes
        self._policies = policies or Policies()
        self._shapes: dict[str, TablePlan] = {}
        self._careful: dict[str, int] = {}
        """Slices of a table that are still to be taken one by one."""

    def begin(self, work: TableWork, table: Table) -> bool:
        """Fix the floor, make the target table (or a shadow, when the table is already there).

        False: the source's table no longer has the shape that was asked for (a column or the key went); capture will ask
        again under a newer generation. A column that came since is copied: values written into it before the floor have
        their only other record below it.
        """
        # A copy may have been asked for because the file was restored under this process.
        self._reader.reopen()
        with self._source.view() as view:
            head = view.head()
        # The floor must not lie above what a power loss leaves: the seqs behind it would be used again, and ignored.
        self._source.make_durable()
        expected = self._reader.count(table)
        asked = plan_of(self._registry.schema(work.value_schema_id))
        if asked.key != table.key_columns or not {c.name for c in asked.columns} <= set(table.row_columns):
            return False
        incoming = with_columns(asked, table, self._policies)
        shadow = None
        with self._target.transaction():
            exists = work.plan is not None and self._exists(work.plan)
            if exists:
                shadow = short(f"_tailrace_shadow_{incoming.target_table}")
                self._target.run(f"DROP TABLE IF EXISTS {full_name(incoming, shadow)}")
                statements = create_table(incoming, sink_role="", name=shadow)
            else:
                statements = [
                    f"CREATE SCHEMA IF NOT EXISTS {quote(incoming.target_schema)}",
                    *create_table(incoming, sink_role=self._target.session_user()),
                ]
                if self._schema_exists(incoming.target_schema):
                    statements = statements[1:]
            for statement in statements:
                self._target.run(statement)
            self._state.begin(work, incoming, head=head, expected=expected, shadow=shadow)
        self._shapes[work.table] = incoming
        reach("snapshot.after_begin")
        return True

    def chunk(self, work: TableWork, table: Table, *, schema_version: int) -> bool:
        """Copy the next chunk; True when it was the last.

        Args:
            schema_version: of the look at the schema that `table` comes from; another one in the chunk's view copies
                nothing.
        """
        known = work.plan if work.shadow is None else self._shapes.get(work.table)
        if known is None or {c.name for c in known.columns} != set(table.row_columns) or known.key != table.key_columns:
            # Another process began this shadow and only it knew the shape, or the table changed its shape: begin anew.
            if not self.begin(work, table):
                raise Transient(
                    Code.COPY_SUPERSEDED,
                    "the table changed its shape; its next copy is awaited",
                    source=self._source.name,
                    table=work.table,
                    hint="capture asks for it under a newer generation",
                )
            return False
        if self._careful.get(work.table, 0):
            return self._careful_chunk(work, table, schema_version)
        slices = self._slices(work, table, schema_version)
        plan = self._plan(work)
        codec = RowCodec(plan)
        try:
            with self._target.transaction():
                self._target.copy_in(_copy_sql(work, plan), codec.pg_types, slices.parameters(codec))
                self._note(work, slices)
        except (Misfit, Failed) as error:
            if isinstance(error, Failed) and error.code not in (Code.TARGET_CONFLICT, Code.TARGET_REFUSED):
                raise
            # Something in these slices needs a wider column, or is refused: they are taken one by one instead.
            self._careful[work.table] = max(1, slices.count)
            return self._careful_chunk(work, table, schema_version)
        return self._ended(work, slices)

    def _slices(self, work: TableWork, table: Table, schema_version: int) -> Slices:
        return Slices(
            self._source,
            self._reader,
            self._clock,
            table,
            after=work.last_key,
            size=self._sizes.get(work.table, ChunkSize()),
            schema_version=schema_version,
            max_bytes=self._max_chunk_bytes,
        )

    def _careful_chunk(self, work: TableWork, table: Table, schema_version: int) -> bool:
        """One slice, held in memory: columns widen to its values, rows that PostgreSQL refuses are quarantined alone."""
        self._careful[work.table] -= 1
        slices = self._slices(work, table, schema_version)
        plan = self._plan(work)
        names = [column.name for column in plan.columns]
        rows = [row for batch in slices.slices(names, most=1) for row in batch]
        if rows:
            plan, fitting, left = self._fitted(plan, rows)
            values = RowCodec(plan).rows_to_pg(fitting)
            with self._target.transaction():
                self._widen(work, plan)
                left += [(fitting[at], why) for at, why in self._write(work, plan, values, 0)]
                for row, reason in left:
                    named = dict(zip(names, row, strict=True))
                    key = tuple(named[name] for name in table.key_columns)
                    self._quarantine(work, plan, key, reason, slices.head)
                self._note(work, slices)
            # Only now: a transaction that was rolled back took the widening of the shadow with it.
            self._shapes[work.table] = plan
        return self._ended(work, slices)

    def _note(self, work: TableWork, slices: Slices) -> None:
        """The progress of these rows, in their transaction. First what the views saw becomes durable at the source: a
        power loss could otherwise take back rows that the target keeps, and no log entry would tell of them."""
        if slices.rows:
            assert slices.last_key is not None
            self._source.make_durable()
            reach("snapshot.mid_chunk")
            self._state.chunk(work, last_key=slices.last_key, rows=slices.rows, head=slices.head)

    def _ended(self, work: TableWork, slices: Slices) -> bool:
        """True when the views found nothing behind the last key: then the copy is complete."""
        self._sizes[work.table] = slices.size
        if slices.rows:
            took_ms = (self._clock.monotonic_s() - slices.started_s) * 1000
            figures = {"rows": slices.rows, "bytes": slices.weight_bytes, "ms": took_ms}
            self._done(Unit("snapshot.chunk", self._source.name, figures, table=work.table, seq=slices.head))
        if slices.rows or slices.moved:
            return False
        self._source.make_durable()
        try:
            with self._target.transaction():
                if work.shadow is not None:
                    self._target.run(NO_HURRY)
                    self._merge(work, self._plan(work))
                self._state.copied(work, head=slices.head)
        except IndexRowTooLarge as error:
            if work.plan is None:
                raise
            # A row of the shadow is too long for an index that the table has: the finalise makes that one over digests.
            drop_indexes(
                self._target, work.plan, f"NOT indisprimary AND {text_literal(error.index)} IN ('', c.relname)"
            )
            return False
        except Failed as error:
            if error.code is not Code.TARGET_CONFLICT or work.plan is None:
                raise
            # A unique value that moved from one row to another between two views is in the shadow twice. The stream
            # brings both rows again, and the finalise makes the indexes anew after that.
            drop_indexes(self._target, work.plan, "indisunique AND NOT indisprimary")
            return False
        return True

    def _exists(self, plan: TablePlan) -> bool:
        return bool(self._target.rows("SELECT to_regclass(%s) IS NOT NULL", (full_name(plan),))[0][0])

    def _schema_exists(self, name: str) -> bool:
        return bool(self._target.rows("SELECT 1 FROM pg_namespace WHERE nspname = %s", (name,)))

    def _plan(self, work: TableWork) -> TablePlan:
        """The shape of what is written into: the table's own, or the shadow's, which is the notice's schema, widened by
        what earlier chunks met."""
        if work.shadow is None:
            assert work.plan is not None
            return work.plan
        return self._shapes[work.table]

    def _fitted(self, plan: TablePlan, rows: list[Row]) -> tuple[TablePlan, list[Row], list[tuple[Row, str]]]:
        """The plan that carries the rows, the rows it carries, and those that stay behind with the reason: a value newer
        than the profile widens its column or goes to quarantine, as the policy says."""
        names = [column.name for column in plan.columns]
        left: list[tuple[Row, str]] = []
        while True:
            try:
                RowCodec(plan).rows_to_pg(rows)
            except Misfit as misfit:
                place = names.index(misfit.column)
                policy = self._policies.of(plan.source, plan.table, misfit.column)
                settled = settle(plan, plan.columns[place], [row[place] for row in rows], policy)
                if (after := resettled(plan, settled)) != plan:
                    plan = after
                    self._registry.register(subject_of_value(plan), value_schema(plan))
                reasons = [settled.refusal(row[place]) for row in rows]
                left += [(row, why) for row, why in zip(rows, reasons, strict=True) if why]
                rows = [row for row, why in zip(rows, reasons, strict=True) if not why]
            else:
                return plan, rows, left

    def _widen(self, work: TableWork, plan: TablePlan) -> None:
        """Bring the table that is copied into to this plan."""
        current = self._plan(work)
        if not covers(current, plan):
            at = current if work.shadow is None else _renamed(current, work.shadow)
            for statement in evolve(at, plan).statements:
                self._target.run(statement)
            if work.shadow is None:
                self._state.store_plan(work, plan)

    def _write(
        self, work: TableWork, plan: TablePlan, values: list[tuple[object, ...]], first: int
    ) -> list[tuple[int, str]]:
        """COPY these rows; halves until the rows that PostgreSQL refuses stand alone. Returns (place, reason) of those."""
        try:
            with self._target.transaction():
                self._target.copy_in(_copy_sql(work, plan), RowCodec(plan).pg_types, values)
        except Failed as error:
            if error.code not in (Code.TARGET_CONFLICT, Code.TARGET_REFUSED):
                raise
            if len(values) == 1:
                return [(first, error.message)]
            middle = len(values) // 2
            refused = self._write(work, plan, values[:middle], first)
            return refused + self._write(work, plan, values[middle:], first + middle)
        return []

    def _quarantine(self, work: TableWork, plan: TablePlan, key: Key, reason: str, head: int) -> None:
        """A row that the target refuses stays behind, visibly, and the copy goes on."""
        if not all(fits(codec(plan.columns[at].codec), value) for at, value in zip(plan.key_indexes, key, strict=True)):
            for name in plan.key:  # the key itself does not fit: one that holds any value names it
                plan = with_codec(plan, name, JSONB.name, "")
        schema_id = self._registry.register(subject_of_key(plan), key_schema(plan))
        framed = frame(schema_id, RowCodec(plan).encode_keys([key])[0])
        self._state.quarantine(work, framed, repr(key), reason, head)

    def _merge(self, work: TableWork, plan: TablePlan) -> None:
        assert work.plan is not None
        assert work.shadow is not None
        result = merge(work.plan, plan, work.shadow)
        for at, statement in enumerate(result.statements):
            self._target.run(statement)
            if at == 0:
                reach("snapshot.mid_merge")
        self._state.store_plan(work, result.plan)


def drop_indexes(target: Postgres, plan: TablePlan, which: str) -> None:
    """Drop indexes of a table, with no lock that a reader would wait for.

    Args:
        which: condition over pg_index.
    """
    found = target.rows(
        f"SELECT c.relname::text FROM pg_index JOIN pg_class c ON c.oid = indexrelid "
        f"WHERE indrelid = to_regclass(%s) AND {which}",
        (full_name(plan),),
    )
    for (name,) in found:
        target.run(f"DROP INDEX CONCURRENTLY IF EXISTS {full_name(plan, name)}")


def _copy_sql(work: TableWork, plan: TablePlan) -> str:
    columns = ", ".join(quote(column.target) for column in plan.columns)
    return f"COPY {full_name(plan, work.shadow)} ({columns}) FROM STDIN (FORMAT BINARY)"


def _renamed(plan: TablePlan, table: str) -> TablePlan:
    return replace(plan, target_table=table)
