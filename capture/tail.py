"""Do: one step of capture: read a chunk in one short view, sync the source, publish, and close a cut with a watermark.

The order is the argument:
1. entries, rows, head and schema mark come from one view, which is closed before anything is sent (a long reader would
   stop WAL checkpoints);
2. `make_durable` before `send`: with synchronous=NORMAL a power loss takes back commits that the view has seen, and the
   application would reuse their seqs: the stream must never be ahead of the source's disk;
3. notices before the watermark that covers them, the watermark only when the chunk's view held no more entries: then the
   records up to it are the whole state of the source at its seq;
4. pruning only up to an acknowledged watermark, never its own row: a restart finds position and digest again.
A crash between any two lines repeats work: position is read back from the stream (capture/position.py).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from capture import meta as metas
from capture.choose import choose_plan
from capture.chunk import Chunk, first_gap, read_chunk
from capture.cut import digest
from capture.install import Rebuilt, rebuild
from capture.limits import LogLimits
from capture.meta import Meta, keys_agree
from capture.outlet import WATERMARKS, Outlet
from capture.owed import owed_notices
from capture.position import known_of, refuse_lost_stream, start_position
from capture.prune import next_prune_ms, prune
from capture.publish import Publisher
from capture.sqlite_source import SqliteSource
from capture.watch import LogWatch
from ops.points import reach
from ops.units import Done, Unit, unheard
from schemas.change import Entry, Notice, NoticeKind, Position
from schemas.errors import Code, Failed
from schemas.introspect import introspect
from schemas.model import KeyKind, Table
from schemas.names import notice_topic, target_names, watermark_topic
from schemas.plan import TablePlan
from schemas.policy import Policies
from schemas.ports import Clock, Registry, TopicSettings, Transport


@dataclass(frozen=True, slots=True)
class CaptureSettings:
    """Names and bounds of one capture."""

    prefix: str
    target_schema: str
    preserve: bool = False
    policies: Policies = field(default_factory=Policies)
    batch_rows: int = 1000
    batch_bytes: int = 8 * 1024 * 1024
    """A chunk ends once the rows read weigh this much."""
    max_row_bytes: int = 16 * 1024 * 1024
    heartbeat_ms: int = 1000
    prune_every_ms: int = 2000
    prune_batch_rows: int = 2000
    prune_pause_ms: int = 50
    """Between two batches while more may go: the application's writers come in between."""
    limits: LogLimits = field(default_factory=LogLimits)
    topic: TopicSettings = field(default_factory=TopicSettings)
    wants: Callable[[str], bool] = lambda table: True  # noqa: ARG005


class CaptureTail:
    """Tails one source into the stream. `step()` returns True while there is more to do at once."""

    def __init__(
        self,
        source: SqliteSource,
        transport: Transport,
        registry: Registry,
        clock: Clock,
        settings: CaptureSettings,
        *,
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        done: Done = unheard,
    ) -> None:
        self._source = source
        self._transport = transport
        self._registry = registry
        self._clock = clock
        self._settings = settings
        self._say = say
        self._done = done
        self._watermarks = watermark_topic(settings.prefix, source.name)
        self._notices = notice_topic(settings.prefix, source.name)
        self._started = False
        self._behind = True
        self._fenced = False
        """Writes moved away: what is logged behind the cutoff came back from the target, and is captured after a lift."""
        self._watch = LogWatch(source, clock, settings.limits, say)
        self._last_entry: Entry | None = None

    def step(self) -> bool:
        """Raises Refusal when the file and the stream do not belong together; Transient is safe to repeat."""
        if not self._started:
            with self._watch.while_away():
                self._start()
            return True
        self._watch.look()
        with self._or_start_again():  # which makes a topic that is missing, and then looks at its id
            self._publisher.look(self._clock.monotonic_ms())
        if not self._behind and not self._owed and not self._source.changed():
            return self._idle()
        # `changed` tells of a commit once. Should anything below fail, the next step must look again by itself and not
        # wait for the application's next commit.
        self._behind = True
        started_s = self._clock.monotonic_s()
        chunk = self._read()
        if chunk is None:
            with self._or_start_again():
                self._adopt(rebuild(self._source.db, wanted=self._wanted()))
            return True
        # Also when only the watermark of an earlier step is missing: its records are in the stream, nobody may use them.
        last = self._outlet.last
        unmarked = chunk.reached and (last is None or self._position.seq != last.seq)
        if chunk.entries or self._owed or unmarked:
            self._publish(chunk, started_s)
        self._behind = not chunk.reached
        if self._behind:
            return True
        return self._idle()

    @contextmanager
    def _or_start_again(self) -> Iterator[None]:
        """What was half taken over (tables, plans, owed notices) is worth nothing: read all of it anew."""
        try:
            yield
        except BaseException:
            self._started = False
            raise

    # -- start ---------------------------------------------------------------------------------------------------

    def _start(self) -> None:
        """Everything is read anew, so a restart inside the process is the same as a new process."""
        db, settings = self._source.db, self._settings
        self._transport.create_topics({self._watermarks: WATERMARKS, self._notices: TopicSettings()})
        known = known_of(self._transport, watermarks=self._watermarks, notices=self._notices)
        self._announced = dict(known.announced)
        self._shapes = {table: set(ids) for table, ids in known.shapes.items()}
        self._gone_said = set(known.gone)
        # Another capture may have gone on from here: what this one read last says nothing of where it stands now.
        self._last_entry = None
        with self._source.view() as view:
            meta = metas.read(db)
            self._position = start_position(view, meta, known, source=self._source.name)
            self._pruned_to = meta.pruned_to
            self._mark = view.mark()
            database = introspect(db)
        self._publisher = Publisher(
            self._transport,
            self._registry,
            notices=self._notices,
            source=self._source.name,
            identity=meta.identity,
            settings=settings.topic,
            max_row_bytes=settings.max_row_bytes,
            policies=settings.policies,
        )
        self._outlet = Outlet(
            self._transport,
            self._clock,
            self._publisher,
            topic=self._watermarks,
            source=self._source.name,
            identity=meta.identity,
            path=f"{os.uname().nodename}:{db.path}",
            last=known.last,
        )
        self._prune_due_ms = 0
        self._owed: list[Notice] = []
        changed = (
            meta.fingerprint != database.fingerprint
            or meta.schema_version != self._mark[0]
            or not keys_agree(meta, database.tables)
        )
        adopted = rebuild(db, wanted=self._wanted()) if changed else None
        if adopted is not None:
            self._adopt(adopted)
        else:
            self._use(meta, database.tables)
        refuse_lost_stream(
            known.last, self._publisher.topics, self._publisher.ends, source=self._source.name, void=meta.void
        )
        self._behind = True
        self._started = True

    def _wanted(self) -> Iterable[str]:
        with self._source.view():
            tables = introspect(self._source.db).tables
        return [
            name
            for name, table in tables.items()
            if self._settings.wants(name) and table.key.kind is not KeyKind.WHOLE_ROW
        ]

    def _adopt(self, rebuilt: Rebuilt) -> None:
        drift = rebuilt.drift
        for table, reason in (drift.reasons or {}).items():
            self._say("capture.resync", f"{table} is copied again: {reason}")
        # The mark of the rebuild's own transaction, not of a later look: a change in between must be seen.
        self._mark = (rebuilt.meta.schema_version, rebuilt.meta.plan_generation)
        self._use(rebuilt.meta, rebuilt.database.tables)

    def _use(self, meta: Meta, tables: Mapping[str, Table]) -> None:
        """Take over what the meta table says: tables by number, plans, and the notices the stream is owed."""
        self._meta = meta
        self._tables: dict[int, Table] = {number: tables[one.name] for number, one in meta.tables.items()}
        names = target_names(
            [table.name for table in self._tables.values()], preserve=self._settings.preserve, what="table"
        )
        with self._source.view():
            self._publisher.use([self._plan(table, names[table.name]) for table in self._tables.values()])
        self._owed = owed_notices(
            meta,
            self._announced,
            self._shapes,
            self._gone_said,
            source=self._source.name,
            seq=self._position.seq,
            schema_ids=self._publisher.schema_ids,
        )

    def _plan(self, table: Table, target_table: str) -> TablePlan:
        return choose_plan(
            self._source.db,
            table,
            self._registry,
            source=self._source.name,
            prefix=self._settings.prefix,
            target_schema=self._settings.target_schema,
            target_table=target_table,
            preserve=self._settings.preserve,
            policies=self._settings.policies,
            say=self._say,
        )

    # -- one chunk -----------------------------------------------------------------------------------------------

    def _read(self) -> Chunk | None:
        """One view. None: the schema or the plan moved, the tables must be looked at again first."""
        with self._source.view() as view:
            mark = view.mark()
            if mark[0] != self._mark[0]:
                return None
            meta = metas.read(self._source.db) if mark[1] != self._meta.plan_generation else None
            head = view.head()
            cutoff = view.cutoff()
            self._fenced = cutoff is not None
            upto = head if cutoff is None else cutoff
            entries = view.entries(self._position, limit_rows=self._settings.batch_rows, upto=upto)
            gap = first_gap(entries, self._position)
            if gap is not None:
                # Somebody pruned or deleted behind our back: only the stream knows where we stand.
                self._started = False
                raise Failed(
                    Code.LOG_GAP,
                    f"the change log goes on at {gap}",
                    source=self._source.name,
                    position=self._position.seq,
                    hint="capture reads its position back from the stream and starts again",
                )
            chunk = read_chunk(
                view, entries, self._tables, head=head, upto=upto, limit_bytes=self._settings.batch_bytes
            )
        if chunk.rekey is not None:
            return None
        if meta is not None:
            with self._or_start_again():
                self._use(meta, {table.name: table for table in self._tables.values()})
        return chunk

    def _publish(self, chunk: Chunk, started_s: float) -> None:
        self._source.make_durable()
        notices, self._owed = self._owed, []
        try:
            stamps_ms = [entry.ts_ms for entry in chunk.entries]
            sent_bytes = self._outlet.send(chunk.records, notices, stamps_ms=stamps_ms)
        except BaseException:
            self._owed = notices
            raise
        for notice in notices:
            if notice.kind is NoticeKind.GONE:
                self._gone_said.add(notice.table)
                continue
            self._announced[notice.table] = notice.generation
            self._shapes.setdefault(notice.table, set()).add(notice.value_schema_id)
            self._gone_said.discard(notice.table)
        if chunk.entries:
            self._position = Position(chunk.entries[-1].seq)
            self._last_entry = chunk.entries[-1]
        if chunk.reached:
            reach("capture.before_watermark")
            self._write_watermark(heartbeat=False)
            reach("capture.after_watermark")
        figures = {
            "entries": len(chunk.entries),
            "rows": sum(map(len, chunk.records.values())),
            "bytes": sent_bytes,
            "ms": (self._clock.monotonic_s() - started_s) * 1000,
        }
        self._done(Unit("capture.cut", self._source.name, figures, seq=self._position.seq))

    def _write_watermark(self, *, heartbeat: bool) -> None:
        last = self._outlet.last
        self._outlet.watermark(
            self._position,
            digest=digest(self._last_entry) if self._last_entry else last.digest if last else "",
            fingerprint=self._meta.fingerprint,
            heartbeat=heartbeat,
        )

    def _idle(self) -> bool:
        if self._outlet.heartbeat_due(self._settings.heartbeat_ms):
            self._write_watermark(heartbeat=True)
        now_ms, last = self._clock.monotonic_ms(), self._outlet.last
        if last is not None and now_ms >= self._prune_due_ms and not self._fenced:
            before = self._pruned_to
            self._pruned_to = prune(
                self._source.db,
                upto=last.seq,
                batch_rows=self._settings.prune_batch_rows,
                pruned_to=before,
            )
            self._prune_due_ms = next_prune_ms(
                now_ms,
                before=before,
                after=self._pruned_to,
                upto=last.seq,
                every_ms=self._settings.prune_every_ms,
                pause_ms=self._settings.prune_pause_ms,
            )
        return False

    def close(self) -> None:
        self._source.close()
