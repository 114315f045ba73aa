"""Do: one step of the sink: watermarks, the records below one of them, collapse, apply.

The order is the argument: progress (with the state of every table) is read before the ranges are chosen, and the apply's
compare-and-set fails if another sink moved it since; offsets are committed to the transport's group some time after the
target committed, since they serve lag tools and nothing else.

Topics are looked at *after* the records were read: a watermark names the ids of its topics as they were before its first
record was sent, an id never comes back, so an id that is the same afterwards was the same all the time between, and what
was read is what was written. A watermark of other topics closes no cut; progress of other topics is refused
(test_a_topic_made_again_that_outgrew_the_old_offset_is_refused).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from ops.units import Done, Unit, unheard
from schemas.change import Notice, Progress, Stored, TableState, TopicPartition, Watermark
from schemas.errors import Code, Failed, Refusal, Superseded, Transient, Unknown
from schemas.names import notice_topic, topic_of, watermark_topic
from schemas.ports import Clock, Target, Transport
from schemas.wire import notice_of, seq_of, watermark_of
from sink.collapse import collapse
from sink.collect import (
    beginnings,
    candidates,
    distinct,
    missing,
    ranges,
    refuse_foreign,
    refuse_made_again,
    refuse_other_schemas,
    refuse_rewound,
    reset_hint,
)
from sink.group_offsets import GroupOffsets
from sink.large import LargeCut

WATERMARKS_READ = 2000
BEAT_S = 1.0
"""How often the target hears of us while a large cut is read: a silent session loses its lease (adapters/lease.py)."""
TOPICS_MS = 1000
"""How often an idle sink looks whether its topics are still the same."""


@dataclass(frozen=True, slots=True)
class SinkSettings:
    prefix: str
    group: str = "tailrace-sink"
    tick_ms: int = 1000
    """How often an idle cut moves offsets and time on the target."""
    max_transaction_rows: int = 200_000
    """A cut that covers more records is collapsed on disk and applied in slices."""
    look_ms: int = 100
    """How often the states of tables are read again while no watermark is new."""


class SinkTail:
    """Applies one source. `step()` returns True while there is more to do at once."""

    def __init__(
        self,
        source: str,
        target: Target,
        transport: Transport,
        clock: Clock,
        settings: SinkSettings,
        *,
        owner: str,
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        done: Done = unheard,
    ) -> None:
        self._source = source
        self._target = target
        self._transport = transport
        self._clock = clock
        self._settings = settings
        self._owner = owner
        self._say = say
        self._done = done
        self._watermark_topic = watermark_topic(settings.prefix, source)
        self._notices = notice_topic(settings.prefix, source)
        self._progress: Progress | None = None
        self._looked_at_ms = 0
        self._beat_at_s = 0.0
        self._next_watermark: int | None = None
        self._watermarks: list[Watermark] = []
        self._watermark_id = ""
        self._usable_topics: Mapping[str, str] = {}
        self._topics_at_ms = 0
        self._group = GroupOffsets(transport, clock, settings.group)

    def step(self) -> bool:
        if self._progress is None and not self._start():
            return False
        self._group.tell()
        fresh = self._poll_watermarks()
        elapsed_ms = self._clock.monotonic_ms()
        if not fresh and elapsed_ms - self._looked_at_ms < self._settings.look_ms:
            return False
        progress = self._target.progress()
        self._looked_at_ms = elapsed_ms
        if progress is None or progress.owner != self._owner:
            self._progress = None
            raise Superseded(
                Code.PROGRESS_LOST, "another sink took this source over", source=self._source, hint="stop one of them"
            )
        if self._progress is None or self._progress.phase != progress.phase:
            self._usable_topics = {}  # while this one rested, topics may have been made again
        self._progress = progress
        if not progress.open:
            return False
        if elapsed_ms - self._topics_at_ms >= TOPICS_MS:
            self._look_at_topics(progress, [])
        now_ms = self._clock.now_ms()
        return any(self._cut(progress, watermark, now_ms) for watermark in candidates(self._watermarks, progress))

    def _start(self) -> bool:
        if not self._target.prepared() or self._watermark_topic not in self._transport.topics(self._watermark_topic):
            return False
        progress = self._target.claim(self._owner)
        self._look_at_topics(progress, [])
        known = self._transport.topics(f"{self._settings.prefix}.")
        refuse_rewound(ends := self._transport.ends({w.topic for w in progress.offsets} & known.keys()), progress)
        # The first read of a consumer takes most of a second: not the first cut's.
        self._transport.fetch(beginnings(progress, self._tables_of(progress), ends))
        self._progress = progress
        self._group.owed = progress.offsets
        self._next_watermark = None
        self._watermarks = []
        return True

    def _look_at_topics(self, progress: Progress, others: Iterable[str]) -> dict[str, str]:
        """The ids that the topics of `progress` and `others` have now. Raises Refusal(STREAM_REWOUND)."""
        found = self._transport.topic_ids({*progress.topics, *others, self._watermark_topic})
        refuse_made_again(found, progress)
        self._topics_at_ms = self._clock.monotonic_ms()
        watermarks = found.get(self._watermark_topic, "")
        if watermarks != self._watermark_id:
            # Watermarks speak for other topics: nothing is lost with them, but where they are read from begins anew.
            self._watermark_id = watermarks
            self._next_watermark = None
            self._watermarks = []
        return found

    def _usable(self, progress: Progress, watermark: Watermark) -> bool:
        """Are the topics this watermark speaks of, and the schema ids in them, the ones that are there now? Raises Refusal
        where the progress itself belongs to others."""
        found = self._look_at_topics(progress, watermark.topics)
        for topic, known in watermark.topics.items():
            if topic not in found:
                raise missing(topic, source=self._source)
            if found[topic] != known:
                return False
        refuse_other_schemas(found, self._target.schemas(), source=self._source)
        self._usable_topics = watermark.topics
        return True

    @contextmanager
    def _reading(self, progress: Progress) -> Iterator[None]:
        """What is asked for and no longer held is refused, never stepped over."""
        try:
            yield
        except Failed as error:
            if error.code is not Code.STREAM_REWOUND:
                raise
            self._look_at_topics(progress, ())
            raise Refusal(
                error.code, error.message, source=self._source, position=progress.applied, hint=reset_hint(self._source)
            ) from error

    def _poll_watermarks(self) -> bool:
        """Read new watermarks; True if there was one."""
        if self._next_watermark is None:
            end = self._transport.ends([self._watermark_topic])[self._watermark_topic][0]
            self._next_watermark = max(0, end - WATERMARKS_READ)
        where = TopicPartition(self._watermark_topic, 0)
        looked = {self._watermark_topic: self._watermark_id}  # and looked at again before a cut is applied
        try:
            fetched = self._transport.fetch({where: (self._next_watermark, None)}, ids=looked)
        except Failed as error:
            if error.code is not Code.STREAM_REWOUND:
                raise
            self._next_watermark = None  # made again or shortened: the look at the topics that follows judges it
            return False
        self._next_watermark = fetched.next[where]
        if not fetched.messages:
            return False
        fresh = [watermark_of(stored) for stored in fetched.messages]
        if self._progress is not None:
            refuse_foreign(fresh[-1], self._progress)
        applied = self._progress.applied if self._progress else 0
        self._watermarks = distinct([w for w in self._watermarks + fresh if w.seq >= applied])[-WATERMARKS_READ:]
        return True

    def _cut(self, progress: Progress, watermark: Watermark, now_ms: int) -> bool:
        """Apply everything below one watermark. False: nothing to do, or this watermark may not close the cut."""
        wanted = ranges(watermark, progress, tables_of := self._tables_of(progress), self._notices)
        advances = watermark.seq > progress.applied
        if not wanted and not advances and not self._ticks(progress, watermark, now_ms):
            return False
        started_s = self._clock.monotonic_s()
        if watermark.topics != self._usable_topics and not self._usable(progress, watermark):
            return False
        mine = {where: bounds for where, bounds in wanted.items() if where.topic == self._notices}
        with self._reading(progress):
            notices = [notice_of(stored) for batch in self._batches(mine, watermark) for stored in batch]
        held = {
            notice.table
            for notice in notices
            if notice.kind == "copy" and self._generation(progress, notice.table) < notice.generation
        }
        records = {where: bounds for where, bounds in wanted.items() if tables_of.get(where.topic, "") not in held}
        records = {where: bounds for where, bounds in records.items() if where not in mine}
        offsets = dict(progress.offsets)
        offsets.update({where: end for where, (_, end) in {**mine, **records}.items() if end is not None})
        covered = sum((end or 0) - start for start, end in records.values())
        if covered > self._settings.max_transaction_rows:
            if not self._apply_large(progress, watermark, records, tables_of, offsets, notices, now_ms):
                return False
            self._tell("sink.large", watermark, started_s, records=covered, notices=len(notices))
            return True
        by_topic: dict[str, list[Stored]] = {}
        with self._reading(progress):
            for batch in self._batches(records, watermark):
                for stored in batch:
                    by_topic.setdefault(stored.topic, []).append(stored)
        if any(seq_of(stored) > watermark.seq for some in by_topic.values() for stored in some):
            return False
        if not self._usable(progress, watermark):
            return False
        collapsed = {
            tables_of[topic]: collapse(
                some, floor=progress.floor_of(tables_of[topic]), decode_key=self._target.decode_key
            )
            for topic, some in by_topic.items()
        }
        with self._losing_progress():
            self._target.apply(progress, watermark, offsets=offsets, tables=collapsed, notices=notices, now_ms=now_ms)
        self._group.owed = offsets
        if wanted or advances:
            rows = sum(map(len, collapsed.values()))
            weight = sum(len(one.value or b"") for some in by_topic.values() for one in some)
            self._tell(
                "sink.apply", watermark, started_s, records=covered, notices=len(notices), rows=rows, bytes=weight
            )
        return True

    def _tables_of(self, progress: Progress) -> dict[str, str]:
        return {topic_of(self._settings.prefix, self._source, name): name for name in progress.tables}

    def _tell(self, action: str, watermark: Watermark, started_s: float, **figures: float) -> None:
        ms = (self._clock.monotonic_s() - started_s) * 1000
        self._done(Unit(action, self._source, {**figures, "ms": ms}, seq=watermark.seq))

    def _apply_large(
        self,
        progress: Progress,
        watermark: Watermark,
        records: Mapping[TopicPartition, tuple[int, int | None]],
        tables_of: Mapping[str, str],
        offsets: dict[TopicPartition, int],
        notices: list[Notice],
        now_ms: int,
    ) -> bool:
        """A cut beyond `max_transaction_rows`: memory stays flat, the target is not consistent until its last slice."""
        large = LargeCut(self._target, slice_rows=max(1, self._settings.max_transaction_rows // 4))
        try:
            with self._reading(progress):
                for batch in self._batches(records, watermark):
                    if any(seq_of(stored) > watermark.seq for stored in batch):
                        return False
                    for topic in {stored.topic for stored in batch}:
                        table = tables_of[topic]
                        some = [stored for stored in batch if stored.topic == topic]
                        large.add(table, some, floor=progress.floor_of(table))
            if not self._usable(progress, watermark):
                return False
            self._say("sink.large_cut", f"{self._source}: a cut up to {watermark.seq} is applied in slices")
            with self._losing_progress():
                large.apply(progress, watermark, offsets=offsets, notices=notices, now_ms=now_ms)
        finally:
            large.close()
        self._group.owed = offsets
        return True

    @contextmanager
    def _losing_progress(self) -> Iterator[None]:
        """After a lost compare-and-set or an unknown commit nothing in memory is believed any more."""
        try:
            yield
        except (Superseded, Unknown):
            self._progress = None
            raise

    def _generation(self, progress: Progress, table: str) -> int:
        one = progress.tables.get(table)
        return -1 if one is None or one.state is TableState.GONE else one.generation

    def _ticks(self, progress: Progress, watermark: Watermark, now_ms: int) -> bool:
        """Does an empty cut say something new: later time, or a table or a consistency that can move on?"""
        if any(one.state is TableState.COPIED and one.last_head <= watermark.seq for one in progress.tables.values()):
            return True
        settled = progress.tables and all(
            one.state in (TableState.FOLLOWING, TableState.GONE)
            and one.last_head <= watermark.seq
            and not one.quarantined
            for one in progress.tables.values()
        )
        if bool(settled) != progress.consistent and watermark.seq >= progress.highest:
            return True
        later = watermark.captured_at_ms > progress.captured_at_ms
        # A stamp from ahead: the machine's clock was set back meanwhile.
        return later and not 0 <= now_ms - progress.applied_at_ms < self._settings.tick_ms

    def _beat(self) -> None:
        now_s = self._clock.monotonic_s()
        if now_s - self._beat_at_s >= BEAT_S:
            self._target.progress()
            self._beat_at_s = now_s

    def _batches(
        self, wanted: Mapping[TopicPartition, tuple[int, int | None]], watermark: Watermark
    ) -> Iterator[list[Stored]]:
        """Everything in these ranges, in batches bounded by rows and bytes; `_usable` looks at their topics afterwards."""
        left = dict(wanted)
        while left:
            self._beat()
            fetched = self._transport.fetch(left, max_messages=20_000, ids=watermark.topics)
            moved = False
            for where, (start, end) in list(left.items()):
                at = fetched.next[where]
                moved |= at > start
                assert end is not None
                if at >= end:
                    del left[where]
                else:
                    left[where] = (at, end)
            if fetched.messages:
                yield fetched.messages
            if not moved:
                raise Transient(
                    Code.STREAM_BUSY, "the stream does not hold yet what its watermark covers", source=self._source
                )

    def close(self) -> None:
        """The source is free for the next sink once this returns."""
        self._target.close()
