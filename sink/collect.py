"""Decide: which watermark closes the next cut, and which ranges it covers; pure.

Invariant: a cut ends at a watermark whose seq >= the label of every record below its ends; everything from the sink's
offsets to those ends is read, nothing beyond. A held table's partitions stay where they stand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.change import Ends, Progress, TopicPartition, Watermark
from schemas.errors import Code, Failed, Refusal


def candidates(watermarks: Sequence[Watermark], progress: Progress) -> list[Watermark]:
    """Watermarks that may close a cut, the furthest first. One below the applied seq is skipped; one at the applied seq
    only moves offsets and time, or lets a table catch up. After a rewind none closes one below the highest applied seq: the
    target steps from what it holds to a newer state and through no older one, in which a unique value may still belong to
    another row (test_a_replay_steps_over_older_states)."""
    fitting = [one for one in watermarks if one.seq >= max(progress.applied, progress.highest)]
    return sorted(fitting, key=lambda one: (one.seq, one.captured_at_ms), reverse=True)


def distinct(watermarks: Sequence[Watermark]) -> list[Watermark]:
    """Of heartbeats that say the same of seq and ends only the newest: all of them are looked at ten times a second, and an
    idle hour makes thousands (test_an_idle_hour_leaves_one_watermark)."""
    kept: list[Watermark] = []
    for one in watermarks:
        if kept and (kept[-1].seq, kept[-1].ends, kept[-1].identity) == (one.seq, one.ends, one.identity):
            kept[-1] = one
        else:
            kept.append(one)
    return kept


def ranges(
    watermark: Watermark, progress: Progress, tables_of: Mapping[str, str], notices: str
) -> dict[TopicPartition, tuple[int, int | None]]:
    """Partition -> (from, to) of everything this cut must read. `tables_of`: topic -> table.

    A topic that the watermark does not name has nothing to read.
    """
    wanted: dict[TopicPartition, tuple[int, int | None]] = {}
    for topic, ends in watermark.ends.items():
        if topic != notices and not _follows(progress, tables_of, topic):
            continue
        for part, end in ends.items():
            where = TopicPartition(topic, part)
            start = progress.offsets.get(where, 0)
            if start < end:
                wanted[where] = (start, end)
    return wanted


def _follows(progress: Progress, tables_of: Mapping[str, str], topic: str) -> bool:
    table = progress.tables.get(tables_of.get(topic, ""))
    return table is not None and not table.state.held and table.state != "gone"


def beginnings(
    progress: Progress, tables_of: Mapping[str, str], ends: Ends
) -> dict[TopicPartition, tuple[int, int | None]]:
    """Empty ranges where this sink goes on, of the tables that follow."""
    places: dict[TopicPartition, tuple[int, int | None]] = {}
    for topic, parts in ends.items():
        if _follows(progress, tables_of, topic):
            for part in parts:
                at = progress.offsets.get(TopicPartition(topic, part), 0)
                places[TopicPartition(topic, part)] = (at, at)
    return places


def refuse_foreign(watermark: Watermark, progress: Progress) -> None:
    """A file that was installed anew counts from 1 again: its changes would be taken for old ones and ignored, and its head
    below what was applied would look like no lag (test_started_over)."""
    if progress.identity and watermark.identity != progress.identity:
        raise Refusal(
            Code.SOURCE_REPLACED,
            "the target holds the rows of another installation than the stream: the source was uninstalled and "
            "installed again, or the database is another one",
            source=progress.source,
            position=progress.applied,
            hint=f"tailrace reset {progress.source} --accept-history --yes {progress.source} (copies all tables again)",
        )


def reset_hint(source: str) -> str:
    return f"tailrace reset {source} --yes {source} (copies all tables again)"


def missing(topic: str, *, source: str) -> Failed:
    """No refusal: capture makes it again, and then its id says that it is another one."""
    return Failed(
        Code.TOPIC_MISSING,
        f"topic {topic} does not exist any more",
        source=source,
        hint="start the capture of this source; who deleted it?",
    )


def refuse_made_again(ids: Mapping[str, str], progress: Progress) -> None:
    """A topic that was deleted and made again: what was read from it says nothing of what it holds now, however long it
    has become. One that is not there at this moment is not judged: whoever needs it says that it is missing."""
    for topic, known in progress.topics.items():
        if ids.get(topic, known) != known:
            raise Refusal(
                Code.STREAM_REWOUND,
                f"topic {topic} was deleted and made again since it was read: what it held is gone",
                source=progress.source,
                position=progress.applied,
                hint=reset_hint(progress.source),
            )


def refuse_other_schemas(ids: Mapping[str, str], schemas: Mapping[str, str], *, source: str) -> None:
    """`schemas`: topic -> the id it had when this process began to read it."""
    if any(ids.get(topic, known) != known for topic, known in schemas.items()):
        raise Refusal(
            Code.STREAM_REWOUND,
            "the topic of the schemas was made again since this process began",
            source=source,
            hint=f"{reset_hint(source)}; then start this daemon again",
        )


def refuse_rewound(ends: Ends, progress: Progress) -> None:
    """A topic that ends below what was read from it was deleted and made again, or lost its tail."""
    for where, offset in progress.offsets.items():
        end = ends.get(where.topic, {}).get(where.partition)
        if end is not None and end < offset:
            raise Refusal(
                Code.STREAM_REWOUND,
                f"topic {where.topic} ends at {end}, {offset} were already read from it: it was deleted or lost its end",
                source=progress.source,
                position=offset,
                hint=reset_hint(progress.source),
            )
