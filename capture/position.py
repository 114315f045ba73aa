"""Do: find out from the stream where capture stands, and refuse when the file is not the one the stream knows.

Invariant: start = max(seq of all remaining watermarks, pruned_to); whatever the stream is known to hold beyond that is
read and sent again, which labels and floors make harmless.
What the last watermark says was acknowledged must still be there: the same topics, and ends no lower
(test_a_stream_that_lost_what_was_acknowledged_is_refused). The operator's reset gives that watermark up by its stamp, in the
transaction that makes a copy of every table owed; the next watermark has another stamp and is held to again.
Cases: an older copy of the file was restored (the head lies behind the position); an older copy was restored and written
past the position (another entry at the known seq); a hand deleted log rows (a gap after the position).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from capture.cut import digest
from capture.meta import Meta
from capture.publish import rewound
from capture.sqlite_source import SqliteView
from schemas.change import Ends, Notice, Position, Watermark
from schemas.errors import Code, Refusal
from schemas.ports import Transport
from schemas.streaming import read_tail
from schemas.wire import notice_of, seq_of, watermark_of

WATERMARKS_READ = 2000
"""Watermarks of one source rise, but for a stale process that wrote late: the last few settle it."""

LABELS_READ = 50
"""Of every partition: labels rise, but for a stale process that wrote late."""


@dataclass(frozen=True, slots=True)
class Known:
    """What the stream says of one source."""

    last: Watermark | None
    announced: Mapping[str, int]
    """table -> highest generation of a COPY notice."""
    shapes: Mapping[str, frozenset[int]]
    """table -> value schema ids that a COPY or SHAPE notice of that generation carried."""
    gone: frozenset[str]
    highest: int
    """Highest label among the newest records, under a watermark or not."""


def known_of(transport: Transport, *, watermarks: str, notices: str) -> Known:
    """Read back from the stream."""
    last = last_watermark(transport, watermarks)
    base = watermarks.rpartition(".")[0] + "."
    present = transport.topics(base)
    announced: dict[str, int] = {}
    shapes: dict[str, frozenset[int]] = {}
    gone: set[str] = set()
    for stored in read_tail(transport, notices) if notices in transport.topics(notices) else ():
        notice: Notice = notice_of(stored)
        if notice.kind == "copy" and notice.generation > announced.get(notice.table, 0):
            # Ids of former generations may be of another registry, and mean other schemas.
            shapes[notice.table] = frozenset()
        if notice.kind in ("copy", "shape"):
            shapes[notice.table] = shapes.get(notice.table, frozenset()) | {notice.value_schema_id}
        if notice.kind == "copy":
            announced[notice.table] = max(announced.get(notice.table, 0), notice.generation)
            gone.discard(notice.table)
        elif notice.kind == "gone":
            gone.add(notice.table)
    records = {name: count for name, count in present.items() if name not in (watermarks, notices)}
    return Known(last, announced, shapes, frozenset(gone), _highest_label(transport, records))


def last_watermark(transport: Transport, topic: str) -> Watermark | None:
    """None where there is none, or no topic."""
    last: Watermark | None = None
    if topic in transport.topics(topic):
        for stored in read_tail(transport, topic, last=WATERMARKS_READ):
            one = watermark_of(stored)
            if last is None or one.seq >= last.seq:
                last = one
    return last


def _highest_label(transport: Transport, topics: Mapping[str, int]) -> int:
    highest = 0
    for name, partitions in topics.items():
        for partition in range(partitions):
            for stored in read_tail(transport, name, partition=partition, last=LABELS_READ):
                highest = max(highest, seq_of(stored))
    return highest


def start_position(view: SqliteView, meta: Meta, known: Known, *, source: str) -> Position:
    """Where to go on. Raises Refusal(SOURCE_REPLACED | SOURCE_FORKED | LOG_GAP)."""
    last = known.last
    accept = (
        f"if this file is the one to go on with: tailrace reset {source} --accept-history --yes {source} "
        "(sends again what was published since, or copies all tables)"
    )
    head = view.head()
    if last is not None and last.identity != meta.identity:
        raise Refusal(
            Code.SOURCE_REPLACED,
            "the database is another one than the stream knows: its identity differs",
            source=source,
            hint=f"put the right file back, or give this one a source name of its own; {accept}",
        )
    position = max(last.seq if last else 0, meta.pruned_to)
    _refuse_lost(head, position, known.highest, source=source, accept=accept)
    if last is not None and last.seq > meta.pruned_to:
        entry = view.entry(last.seq)
        if entry is None:
            raise Refusal(
                Code.LOG_GAP,
                f"the log row {last.seq} that the last watermark names was deleted by hand",
                source=source,
                position=last.seq,
                hint=f"changes may be lost; {accept}",
            )
        if digest(entry) != last.digest:
            raise Refusal(
                Code.SOURCE_FORKED,
                f"the log has another entry at {last.seq} than the stream saw: an older copy of the file was restored "
                "and written to, so the history forked",
                source=source,
                position=last.seq,
                hint=accept,
            )
    first = view.entries(Position(position), limit_rows=1)
    if first and first[0].seq != position + 1:
        raise Refusal(
            Code.LOG_GAP,
            f"log rows {position + 1} to {first[0].seq - 1} were deleted by hand before they were captured",
            source=source,
            position=position,
            hint=f"changes are lost; {accept}",
        )
    return Position(position)


def stamp_of(watermark: Watermark | None) -> str:
    """Tells one watermark from every other of its source."""
    return f"{watermark.seq} at {watermark.captured_at_ms}" if watermark else ""


def refuse_lost_stream(
    last: Watermark | None, topics: Mapping[str, str], ends: Ends, *, source: str, void: str = ""
) -> None:
    """Raises Refusal(STREAM_REWOUND) when a topic is not the one the last watermark speaks of, or ends below it. `void`:
    stamp of the watermark that was given up.

    Without a watermark there is nothing to hold the topics against: the sink compares them with what it read.
    """
    if last is None or stamp_of(last) == void:
        return
    for topic, known in last.topics.items():
        if topics.get(topic, known) != known:
            raise rewound(f"topic {topic} was deleted and made again", source)
    for topic, parts in last.ends.items():
        for part, end in parts.items():
            found = ends.get(topic, {}).get(part, end)
            if found < end:
                raise rewound(f"topic {topic} ends at {found}, {end} were acknowledged", source)


def _refuse_lost(head: int, position: int, highest: int, *, source: str, accept: str) -> None:
    """The log ends below what the stream already has of it."""
    if head < position:
        raise Refusal(
            Code.SOURCE_REPLACED,
            f"the change log ends at {head}, behind the known position: an older copy of the file was restored, "
            "or log rows were deleted",
            source=source,
            position=position,
            hint=accept,
        )
    if head < highest:
        # Synced before it was sent, and yet not there: used again, these seqs would name other rows.
        raise Refusal(
            Code.SOURCE_REPLACED,
            f"the change log ends at {head}, but records labelled up to {highest} are in the stream: the disk lost "
            "commits that were synced, or an older copy of the file was restored",
            source=source,
            position=highest,
            hint=accept,
        )
