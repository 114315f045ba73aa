"""Do: one step of the way back: what one snapshot of the target sees and the last did not, into topics of its own.

The order is the argument, as in capture/tail.py: entries and rows from one snapshot, flushed before they are published,
the watermark last. A snapshot is flushed before any watermark carries it, also where it held no entry: a crash takes back
transactions that ended without a flush (rolled back, or committed asynchronously), and the server gives their numbers out
again: a later write under one of them would be taken for seen
(test_what_an_abandoned_transaction_was_counted_as_is_flushed).
A snapshot is always a whole number of transactions, so every cut reaches its head; its pages share one label. Position
is read back from the stream, and never lies before the snapshot that the open stored: what the target's log holds from
before belongs to the forward stream. What the last watermark says was acknowledged must
still be there, since its entries may be pruned (test_a_topic_of_the_way_back_made_again_is_no_way_back).
A column that was added there goes first and alone: its schemas, a notice, a watermark that closes it, then the memory of the
target, and everything is read anew; a crash between two of them begins with the first again
(test_a_crash_between_the_shape_and_its_rows).
While writes belong to the source this capture rests: whatever the forward sink writes is no change of the target's own.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from capture.outlet import WATERMARKS, Outlet
from capture.position import known_of, refuse_lost_stream, stamp_of
from capture.postgres_shapes import Changes
from capture.postgres_source import LoggedKey, PostgresSource, PostgresView, Read
from capture.publish import Publisher
from ops.points import reach
from schemas.avro import frame, subject_of_value, value_schema
from schemas.back_columns import Grown
from schemas.change import Notice, NoticeKind, Op, Position, Record, Watermark
from schemas.errors import Code, Refusal
from schemas.names import notice_topic, topic_of, watermark_topic
from schemas.plan import TablePlan, read_as
from schemas.policy import Policies
from schemas.ports import Clock, Registry, TopicSettings, Transport
from schemas.rows import RowCodec


@dataclass(frozen=True, slots=True)
class Start:
    """What the authority row and the bookkeeping say while writes belong to the target."""

    token: int
    position: Position
    """The snapshot that the open stored."""
    identity: str
    plans: tuple[TablePlan, ...]
    """As the target's tables are now."""
    stamp: str = ""
    """Of the shapes that these plans belong to, read before them (postgres_shapes.stamp)."""
    void: str = ""
    """Stamp of the watermark that was given up with what it says was acknowledged (cli/back_anew.py)."""
    timeline: str = ""
    """Of the server: a standby that is promoted begins a new one, and may lack what the last watermark has seen."""


@dataclass(frozen=True, slots=True)
class ReverseSettings:
    prefix: str
    """Of the topics of the way back."""
    page_rows: int = 1000
    max_row_bytes: int = 16 * 1024 * 1024
    heartbeat_ms: int = 1000
    prune_every_ms: int = 2000
    prune_batch_rows: int = 2000
    topic: TopicSettings = field(default_factory=TopicSettings)
    policies: Policies = field(default_factory=Policies)


def _marks(start: Start) -> tuple[int, str, str]:
    return start.token, start.stamp, start.timeline


class PostgresTail:
    """Tails one source's tables on the target.

    Args:
        start_of: None while writes do not belong to the target.
        lost: told the token and what the way back no longer carries -> why; must have stored it when it returns.
        grown: told the token, a plan and the wider one that the source was told of; must have stored it when it returns, and
            `start_of` answers with it from then on.
    """

    def __init__(
        self,
        source: PostgresSource,
        transport: Transport,
        registry: Registry,
        clock: Clock,
        settings: ReverseSettings,
        *,
        start_of: Callable[[], Start | None],
        lost: Callable[[int, Mapping[str, str]], None] = lambda token, tables: None,  # noqa: ARG005
        grown: Callable[[int, TablePlan, Grown], None] = lambda token, before, grown: None,  # noqa: ARG005
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
    ) -> None:
        self._source = source
        self._transport = transport
        self._registry = registry
        self._clock = clock
        self._settings = settings
        self._start_of = start_of
        self._lost = lost
        self._grown = grown
        self._say = say
        self._watermarks = watermark_topic(settings.prefix, source.name)
        self._notices = notice_topic(settings.prefix, source.name)
        self._started: Start | None = None
        self._position = Position(0)
        self._behind = True
        self._prune_due_ms = 0

    def step(self) -> bool:
        start = self._start_of()
        if start is None:
            self._started = None
            return False
        if self._started is None or _marks(self._started) != _marks(start):
            self._start(start)
            return True
        self._look()
        if not self._behind and not self._source.changed():
            return self._idle()
        self._behind = True
        with self._source.view() as view:
            if view.stamp() != start.stamp:
                return False  # these plans are old: whoever moved the shapes has read more of the target than this
            changes = view.changed(start.plans, self._mark_of)
            self._leave(start.token, changes)
            if changes.grown:
                self._grow(start, list(changes.grown.values()))
                return True
            any_entry = self._pages(view)
        position = view.position
        if any_entry or self._outlet.last is None or self._outlet.last.seq < self._position.seq:
            reach("reverse.before_watermark")
            self._mark(position)
            reach("reverse.after_watermark")
        self._position = position
        self._behind = False
        return any_entry

    def close(self) -> None:
        self._source.close()

    def _mark(self, position: Position, *, heartbeat: bool = False) -> None:
        if self._outlet.last is None or self._outlet.last.token != position.token:
            self._source.make_durable()
        self._outlet.watermark(position, fingerprint=self._timeline(), heartbeat=heartbeat)

    def _look(self) -> None:
        """A topic that is missing is made by the start that follows, which then looks at its id."""
        try:
            self._outlet.publisher.look(self._clock.monotonic_ms())
        except BaseException:
            self._started = None
            raise

    def _start(self, start: Start) -> None:
        plans = [self._of_back(plan) for plan in start.plans]
        self._transport.create_topics({self._watermarks: WATERMARKS, self._notices: TopicSettings()})
        known = known_of(self._transport, watermarks=self._watermarks, notices=self._notices)
        last, acknowledged = known.last, self._source.acknowledged()
        if acknowledged is not None and (last is None or last.seq < acknowledged.seq):
            last = acknowledged  # the watermarks were lost, alone or with what they speak of
        publisher = Publisher(
            self._transport,
            self._registry,
            notices=self._notices,
            source=self._source.name,
            identity=start.identity,
            settings=self._settings.topic,
            max_row_bytes=self._settings.max_row_bytes,
        )
        publisher.use(plans)
        self._outlet = Outlet(
            self._transport,
            self._clock,
            publisher,
            topic=self._watermarks,
            source=self._source.name,
            identity=start.identity,
            last=last,
        )
        self._source.use(plans)
        self._codecs = {plan.table: RowCodec(read_as(plan)) for plan in plans}
        further = last is not None and last.token and last.seq >= start.position.seq
        self._position = Position(last.seq, last.token) if last is not None and further else start.position
        if further:
            # Of an earlier way back nothing is owed any more, and whoever made its topics again did no harm.
            refuse_lost_stream(last, publisher.topics, publisher.ends, source=self._source.name, void=start.void)
            self._refuse_other_timeline(last, start)
        self._behind = True
        self._started = start

    def _refuse_other_timeline(self, last: Watermark | None, start: Start) -> None:
        """Numbers of transactions that were lost with the old server are given out again, and what is written under them
        would pass for seen (test_a_promoted_standby_is_no_way_back)."""
        known = "" if last is None or stamp_of(last) == start.void else last.fingerprint
        if known and start.timeline and known != start.timeline:
            raise Refusal(
                Code.STREAM_REWOUND,
                f"the target went on as another server (timeline {known}, now {start.timeline}), which may lack "
                "transactions whose changes came back already",
                source=self._source.name,
                position=self._position.seq,
            )

    def _timeline(self) -> str:
        return self._started.timeline if self._started is not None else ""

    def _mark_of(self, table: str, column: str) -> str:
        return self._settings.policies.of(self._source.name, table, column).mark

    def _grow(self, start: Start, grown: Sequence[Grown]) -> None:
        """In the view that saw the columns. The schema is registered for the forward stream as well: when the source has the
        column, its capture takes the plan from there and guesses no type from what is in it."""
        self._source.make_durable()  # a crash must not take back a column that the source has
        wider = [self._of_back(one.plan) for one in grown]
        for one in grown:
            self._registry.register(subject_of_value(one.plan), value_schema(one.plan))
        self._outlet.publisher.use(wider)
        notices = []
        for plan in wider:
            value_id, key_id = self._outlet.publisher.schema_ids(plan.table)
            notice = Notice(NoticeKind.SHAPE, plan.source, plan.table, self._position.seq, "columns were added")
            notices.append(replace(notice, value_schema_id=value_id, key_schema_id=key_id))
        reach("reverse.before_shape")
        self._outlet.send({}, notices)
        reach("reverse.after_shape")
        self._outlet.watermark(self._position, fingerprint=start.timeline)
        reach("reverse.shape_marked")
        known = {plan.table: plan for plan in start.plans}
        for one in grown:
            self._grown(start.token, known[one.plan.table], one)
            names = ", ".join(column.name for column in one.seen)
            self._say("reverse.grown", f"{self._source.name}.{one.plan.table} has {names} on both sides now")
        self._started = None

    def _of_back(self, plan: TablePlan) -> TablePlan:
        return replace(plan, topic=topic_of(self._settings.prefix, plan.source, plan.table))

    def _leave(self, token: int, changes: Changes) -> None:
        """A table that is not the one that opened is carried no further. Said in the row before a watermark passes it:
        nobody may take the source for complete (test_ddl_on_the_target_ends_the_way_back_of_its_table)."""
        changed = {table: why for (_, table), why in changes.lost.items()}
        fresh = {f"{self._source.name}.{table}": why for table, why in changed.items() if table in self._codecs}
        if fresh:
            self._lost(token, fresh)
            for what, why in fresh.items():
                self._say("reverse.lost", f"{what}: {why}: a rollback would lose its changes")
        for table in changed:
            self._codecs.pop(table, None)

    def _pages(self, view: PostgresView) -> bool:
        behind_id, found = 0, False
        while True:
            entries = view.entries(self._position, behind_id=behind_id, limit_rows=self._settings.page_rows)
            if not entries:
                return found
            found = True
            behind_id = entries[-1].id
            self._page(view, entries)

    def _page(self, view: PostgresView, entries: Sequence[LoggedKey]) -> None:
        label = view.position.seq
        records: dict[str, list[Record]] = {}
        notices: list[Notice] = []
        for table in {entry.table for entry in entries if entry.table in self._codecs}:
            ops = {entry.key: entry.op for entry in entries if entry.table == table}
            read = view.rows(table, list(ops))
            records[table] = [Record(table, key, None, label, Op.DELETE) for key in read.gone]
            records[table] += [Record(table, key, row, label, Op.UPDATE) for key, row in read.rows.items()]
            notices += self._refused(table, read, label)
        # After the rows were read: what they show was committed before, and is flushed now.
        self._source.make_durable()
        reach("reverse.before_send")
        self._outlet.send(records, notices, stamps_ms=[entry.ts_ms for entry in entries])
        reach("reverse.after_send")

    def _refused(self, table: str, read: Read, label: int) -> list[Notice]:
        value_id, key_id = self._outlet.publisher.schema_ids(table)
        made = []
        for key, why in read.unrestorable:
            raw = frame(key_id, self._codecs[table].encode_keys([key])[0])
            made.append(
                Notice(
                    NoticeKind.QUARANTINE,
                    self._source.name,
                    table,
                    label,
                    why,
                    value_schema_id=value_id,
                    key_schema_id=key_id,
                    key=base64.b64encode(raw).decode(),
                )
            )
        return made

    def _idle(self) -> bool:
        if self._outlet.heartbeat_due(self._settings.heartbeat_ms):
            self._mark(self._position, heartbeat=True)
        now_ms = self._clock.monotonic_ms()
        if self._outlet.last is not None and now_ms >= self._prune_due_ms:
            last = self._outlet.last
            gone = self._source.prune(last, batch_rows=self._settings.prune_batch_rows)
            more = gone >= self._settings.prune_batch_rows
            self._prune_due_ms = now_ms + (50 if more else self._settings.prune_every_ms)
        return False
