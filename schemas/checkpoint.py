"""Decide: what a checkpoint keeps of each source, and whether the topics still lead from there to now; pure.

Invariant: a replay reads what the sink has read since the checkpoint, all of it, in the states it was written in. Whatever
took something out of that stretch, or put something beside it (a copy), ends the checkpoint: it is refused by name, with the
resync that does the same (protocol: rewind, replay, compaction).
Notices are not read again: each was a fact of its moment, and a row that came free since would be kept in quarantine anew.
Cases: test_what_ends_a_checkpoint, test_a_row_in_quarantine_keeps_a_replay_off.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.change import Ends, Progress, TableState, TopicPartition

TABLE = """CREATE TABLE IF NOT EXISTS tailrace.checkpoints(
    name text PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(), actor text NOT NULL, why text NOT NULL,
    authority text NOT NULL, token bigint NOT NULL, sources jsonb NOT NULL, backups jsonb NOT NULL)"""
"""Part of the target's bookkeeping (schemas/bookkeeping.py)."""

SETTLED = frozenset({TableState.CAUGHT_UP, TableState.FOLLOWING, TableState.GONE})


@dataclass(frozen=True, slots=True)
class SourcePoint:
    """One source at a checkpoint: where its sink stood, and in which topics."""

    applied: int
    identity: str
    offsets: Mapping[TopicPartition, int]
    topics: Mapping[str, str]
    """topic -> id, of the topics that the offsets belong to and of the one that gives schema ids."""
    generations: Mapping[str, int]
    """table -> generation of its last copy."""
    unread_ms: int
    """Age of the last cut that was applied: what the sink had not read yet was no older."""
    back: Mapping[TopicPartition, int] = field(default_factory=dict)
    """Ends of the topics of the way back: what the target changes later lies behind them."""
    back_topics: Mapping[str, str] = field(default_factory=dict)
    backup_sha256: str = ""
    """Of the backup that was made with it; one of the release before has it only beside the file."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A named point of the whole migration. `why` says who wanted it; `backups`: what -> file."""

    name: str
    at_ms: int
    actor: str
    why: str
    authority: str
    token: int
    sources: Mapping[str, SourcePoint]
    backups: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Restored:
    """The sources were put back to a checkpoint: what lies between `from_ms` and `at_ms` never happened."""

    checkpoint: str
    from_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True)
class SourceNow:
    """The same source at this moment. `ids` and `begins`: of the topics that the point names and that exist."""

    progress: Progress
    ids: Mapping[str, str]
    begins: Ends
    quarantined: int
    """Rows in quarantine, waived ones included."""


def why_held(progress: Progress) -> str:
    """Why no checkpoint can be taken of this source now; empty: it can."""
    open_tables = sorted(one.table for one in progress.tables.values() if one.state not in SETTLED)
    if open_tables:
        return f"{', '.join(open_tables[:3])} is still being copied: a copy ends the checkpoints before it"
    if is_behind(progress):
        return "a replay is under way"
    return "" if progress.tables else "nothing was copied yet"


def is_behind(progress: Progress) -> bool:
    """Was the sink set back, and is it not there again?"""
    return progress.applied < progress.highest


def why_ended(point: SourcePoint, now: SourceNow, *, at_ms: int, now_ms: int, window_ms: int) -> list[str]:
    """Every reason not to replay this source from there; empty: the topics lead from the point to now.

    Args:
        at_ms, now_ms: by the same clock.
        window_ms: for so long the topics keep every state of a key, and every tombstone.
    """
    found = []
    if point.identity != now.progress.identity:
        found.append("the source is another installation than the one of the checkpoint")
    age_ms = now_ms - at_ms + point.unread_ms
    if age_ms > window_ms:
        found.append(f"it needs the last {_span(age_ms)}, the topics keep every change for {_span(window_ms)}")
    for topic, known in {**point.topics, **point.back_topics}.items():
        if now.ids.get(topic) != known:
            found.append(f"topic {topic} was deleted or made again since")
    for topic, parts in now.begins.items():
        for part, begin in parts.items():
            where = TopicPartition(topic, part)
            if begin > point.offsets.get(where, point.back.get(where, 0)):
                found.append(f"topic {topic} begins at {begin} now: what the checkpoint needs of it is gone")
    for name, one in sorted(now.progress.tables.items()):
        if one.state is TableState.GONE:
            continue
        if one.state not in SETTLED:
            found.append(f"table {name} is being copied")
        elif one.generation != point.generations.get(name):
            found.append(f"table {name} was copied after it: that ended the checkpoints before")
    if now.progress.applied < point.applied:
        found.append(f"the target stands at {now.progress.applied}, before the checkpoint's {point.applied}")
    if now.quarantined:
        found.append(f"{now.quarantined} rows are in quarantine: an older state of theirs would be taken for the last")
    return found


def why_thrown_away(at_ms: int, restores: Iterable[Restored]) -> str:
    """Why a checkpoint of that moment is none any more; empty: it is of the history that went on. Those before the one that
    was restored stay what they were: what followed them is in the topics, the restore among it."""
    found = next((one for one in restores if one.from_ms < at_ms < one.at_ms), None)
    return f"it is of what was thrown away when the sources were put back to {found.checkpoint}" if found else ""


def rewound(point: SourcePoint, now: Progress, notices: str) -> dict[TopicPartition, int]:
    """The offsets to read from. A partition of which nothing had been read then begins at 0."""
    return {where: at if where.topic == notices else point.offsets.get(where, 0) for where, at in now.offsets.items()}


def _span(ms: int) -> str:
    hours = ms / 3_600_000
    return (
        f"{hours / 24:.1f} days"
        if hours >= 48
        else f"{hours:.1f} hours"
        if hours >= 1
        else f"{ms / 60_000:.1f} minutes"
    )
