"""Do: one step of the copy: begin, one chunk, or the finalise of one table."""

from __future__ import annotations

from collections.abc import Callable

from adapters.bookkeeping import bring_up_to_date
from adapters.lease import Leases, key_of
from adapters.postgres import Postgres
from ops.units import Done, unheard
from schemas.change import TableState
from schemas.errors import Code, Refusal, Superseded, TailraceError
from schemas.model import Database, Table
from schemas.policy import Policies
from schemas.ports import Clock, Registry, Source, SourceReader
from snapshot.copy import TableCopy
from snapshot.finalise import finalise
from snapshot.state import CopyState, TableWork

LOOK_MS = 200
WAL_LOOK_MS = 1000
BACK_OFF_MS = 3000
"""Between two chunks while the source's WAL cannot be written back: our own views must not be what keeps it."""

SILENT_MS = 60_000
"""A copy counts its table and waits for the source between two statements: longer than a sink's time-out."""


class SnapshotTail:
    """Copies and finalises the tables of one source, as `tailrace.tables` asks. `step()` returns True while there is
    more to do at once. One of several works, the others stand by; every move is a compare-and-set, so that a stopped one that
    wakes up moves nothing."""

    def __init__(
        self,
        source: Source,
        reader: SourceReader,
        target: Postgres,
        registry: Registry,
        clock: Clock,
        *,
        max_wal_bytes: int = 256 << 20,
        silent_ms: int = SILENT_MS,
        policies: Policies | None = None,
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        done: Done = unheard,
    ) -> None:
        self._source = source
        self._reader = reader
        self._target = target
        self._registry = registry
        self._clock = clock
        self._say = say
        self._copy = TableCopy(source, reader, target, registry, clock, policies=policies, done=done)
        self._state = CopyState(target, source.name)
        self._database: Database | None = None
        self._looked_at_ms = 0
        self._prepared = False
        self._max_wal_bytes = max_wal_bytes
        self._wal_at_ms = 0
        self._backing_off = False
        self._failures: dict[str, int] = {}
        self._leases = Leases(target, clock, timeout_ms=silent_ms)
        self._lease_key = key_of(f"tailrace:copy:{source.name}")
        self._lease_of: int | None = None
        self._standing_by = False

    def step(self) -> bool:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._looked_at_ms < LOOK_MS:
            return False
        if (not self._prepared and not self._prepare()) or not self._holds():
            self._looked_at_ms = now_ms
            return False
        pending = self._state.work()
        if not pending:
            self._looked_at_ms = now_ms
            self._database = None
            return False
        # A copy that runs goes on before another begins; finalising waits for no copy of another table. What failed
        # comes after what did not: a table that cannot be made must not keep all others waiting.
        order = {TableState.COPYING: 0, TableState.CAUGHT_UP: 1, TableState.REQUESTED: 2}
        work = min(pending, key=lambda one: (self._failures.get(one.table, 0), order[one.state]))
        if work.state is TableState.COPYING and self._rests(now_ms):
            self._looked_at_ms = now_ms
            return False
        try:
            self._advance(work)
        except Superseded as lost:
            self._say("snapshot.superseded", str(lost))
        except TailraceError as error:
            self._failures[work.table] = self._failures.get(work.table, 0) + 1
            error.table = work.table
            raise
        self._failures.pop(work.table, None)
        return True

    def _holds(self) -> bool:
        """Does this session hold the source's copies? Two processes would only copy the same rows: the second stands by
        until the first one's session ends."""
        if self._lease_of is not None and self._target.backend_pid == self._lease_of:
            return True
        holds = self._target.try_advisory_lock(self._lease_key)
        self._lease_of = self._target.backend_pid if holds else None
        if not holds:
            holders = self._leases.holders([self._lease_key])
            for one in self._leases.end_silent(holders):
                self._say("snapshot.silent", f"session {one.pid} did nothing for {one.silent_ms} ms and was ended")
            if holders and not self._standing_by:
                text = f"session {holders[0].pid} copies this source; this process stands by"
                self._say("snapshot.standby", f"{self._source.name}: {text}")
        elif self._standing_by:
            self._say("snapshot.took", f"{self._source.name}: copies are made here now")
        self._standing_by = not holds
        return holds

    def _rests(self, now_ms: int) -> bool:
        """While the source's WAL grows under a long reader, only a chunk now and then is read."""
        if now_ms - self._wal_at_ms < (BACK_OFF_MS if self._backing_off else WAL_LOOK_MS):
            return self._backing_off
        self._wal_at_ms = now_ms
        backlog = self._source.backlog_bytes(above_bytes=self._max_wal_bytes)
        grown = self._backing_off if backlog is None else backlog > self._max_wal_bytes
        if grown != self._backing_off:
            self._backing_off = grown
            word = "backs off: the -wal of the source grows" if grown else "goes on at full speed"
            self._say("snapshot.back_off", f"{self._source.name}: the copy {word}")
        return False

    def _prepare(self) -> bool:
        """Bookkeeping tables; whoever comes first makes them."""
        bring_up_to_date(self._target)
        self._prepared = True
        return True

    def _advance(self, work: TableWork) -> None:
        if work.state is TableState.REQUESTED:
            # The copy was asked for because the schema may have changed: what was read of it before is worth nothing.
            self._database = None
            self._refuse_other_schemas()
        table = self._table(work.table)
        if table is None:
            # Dropped between the notice and now: its GONE notice follows in the stream.
            self._looked_at_ms = self._clock.monotonic_ms()
            return
        match work.state:
            case TableState.REQUESTED:
                if self._copy.begin(work, table):
                    self._say("snapshot.begin", work.table)
                else:
                    self._looked_at_ms = self._clock.monotonic_ms()
            case TableState.COPYING:
                assert self._database is not None
                if self._copy.chunk(work, table, schema_version=self._database.schema_version):
                    self._say("snapshot.copied", f"{work.table}: {work.rows} rows")
            case _:
                self._finalise(work, table)

    def _table(self, name: str) -> Table | None:
        with self._source.view() as view:
            version = view.mark()[0]
        if self._database is None or self._database.schema_version != version:
            self._database = self._reader.database()
        return self._database.tables.get(name)

    def _refuse_other_schemas(self) -> None:
        """The schema ids of a copy notice mean what they mean in the topic that the sink read it under."""
        known = self._state.topics()
        if any(known.get(topic, one) != one for topic, one in self._registry.identity().items()):
            raise Refusal(
                Code.STREAM_REWOUND,
                "the topic of the schemas was made again since this process began",
                source=self._source.name,
                hint="start this daemon again",
            )

    def _finalise(self, work: TableWork, table: Table) -> None:
        """Then the table counts towards `consistent`."""
        assert work.plan is not None

        def used() -> int:
            # Only AUTOINCREMENT has a row there; reading a whole schema anew for every table would take longer than the copy.
            return self._reader.database().sequences.get(table.name, 0) if table.autoincrement else 0

        reasons = finalise(self._target, table, work.plan, used=used, say=self._say)
        self._state.following(work, "; ".join(reasons))
        self._say("snapshot.following", work.table)

    def close(self) -> None:
        self._reader.close()
        self._target.free_advisory_locks()
        self._target.close()
