"""Decide: what travels. Entries, cuts, records, notices, watermarks and progress, as plain values.

Two numbers must never be mixed (protocol: labels and positions):
- an entry's `seq` is the *position* of capture inside the log;
- a record's `seq` is the *label*: the log head of the view in which the row was read. A row read late carries the
  state of its view, so labelling it with its own entry's seq would put a newer state under an older watermark.
  Test: test_label_below_the_state.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from schemas.model import Key, Row


class Op(StrEnum):
    """Net effect in a cut, informational only: the sink looks at null or not."""

    CREATE = "c"
    UPDATE = "u"
    DELETE = "d"


class Position(NamedTuple):
    """Where capture stands in a change log: ordered by `seq`; `token` is opaque outside the source that made it
    (SQLite: empty; PostgreSQL: the whole pg_snapshot)."""

    seq: int
    token: str = ""


class Entry(NamedTuple):
    """One row of the change log: key columns in the order of `Table.key_columns`."""

    seq: int
    ts_ms: int | None
    table: int
    """Number of the table in `_tailrace_meta`."""
    op: str
    key: Key


class Record(NamedTuple):
    """The state of one key in one view: `row` is None for a tombstone."""

    table: str
    key: Key
    row: Row | None
    seq: int
    op: Op


class TopicPartition(NamedTuple):
    topic: str
    partition: int


class Message(NamedTuple):
    """One message to send. `partition` None: murmur2 of the key bytes modulo the partition count."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    partition: int | None = None


class Stored(NamedTuple):
    """One message as it is read back."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


class Fetched(NamedTuple):
    """Messages in offset order per partition, and for every partition asked the next offset to ask for (which moves
    on over gaps that compaction left)."""

    messages: list[Stored]
    next: dict[TopicPartition, int]


Ends = Mapping[str, Mapping[int, int]]
"""topic -> partition -> end offset (the offset after the last message to read)."""


@dataclass(frozen=True, slots=True)
class Watermark:
    """The end of a cut, in the stream: everything below `ends` is the state of the source at `seq`.

    `digest` is a hash over the last log entry (seq, table, op, key); another entry at that seq later means that the
    file's history was forked. `oldest_ts_ms`: statement time of the oldest entry of the cut, None when idle.
    """

    source: str
    seq: int
    ends: Ends
    captured_at_ms: int
    identity: str
    fingerprint: str
    digest: str
    oldest_ts_ms: int | None = None
    token: str = ""
    topics: Mapping[str, str] = field(default_factory=dict)
    """topic -> id, of every topic in `ends` and of the one that gives schema ids, as they were before the first of these
    records was sent: whoever reads the topics and then finds the same ids has read the very ones that were written."""
    path: str = ""
    """Real path, inode and host of the database file: a copied database that carries our triggers is told by it."""
    heartbeat: bool = False
    format: int = 1


class NoticeKind(StrEnum):
    """What capture tells the sink beside rows, in the stream, in order, under the same watermarks.

    COPY: this generation of the table must be copied from the source (first copy, new table, resync).
    SHAPE: columns were added; the target gets them although no row was written. GONE: the table was dropped at the
    source. QUARANTINE: the row of this key could not be captured or sent.
    """

    COPY = "copy"
    SHAPE = "shape"
    GONE = "gone"
    QUARANTINE = "quarantine"


@dataclass(frozen=True, slots=True)
class Notice:
    """One control record of `<prefix>.<source>.notices` (one partition)."""

    kind: NoticeKind
    source: str
    table: str
    seq: int
    reason: str
    generation: int = 0
    """Raised in `_tailrace_meta` by every resync of the table; makes COPY idempotent."""
    value_schema_id: int = 0
    """Schema of the table's rows at that generation."""
    key_schema_id: int = 0
    key: str = ""
    """QUARANTINE: base64 of the Avro key bytes, framing included."""
    extra: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Collapsed:
    """Last states of one table: framed keys of tombstones; (key, framed value) of upserts, in arrival order."""

    deletes: list[bytes] = field(default_factory=list)
    upserts: list[tuple[bytes, bytes]] = field(default_factory=list)
    highest: int = 0

    def __len__(self) -> int:
        return len(self.deletes) + len(self.upserts)


class TableState(StrEnum):
    """Life of a table in the target. Each transition has exactly one owner (in brackets).

    AWAITED    [reset]                   held, and worth nothing of the stream, until a COPY notice of a newer generation
    REQUESTED  [sink, on a COPY notice]  held: the sink leaves its partitions where they stand
    COPYING    [snapshot, begin]         floor h, generation and first chunk fixed; still held
    COPIED     [snapshot, last chunk or merge]  the sink may read its partitions again, above the floor
    CAUGHT_UP  [sink, first cut that covers `last_head`]
    FOLLOWING  [snapshot, finalise]      indexes built, analysed: counts towards `consistent`
    GONE       [sink, on a GONE notice]  dropped at the source; the target's table is kept and said so
    """

    AWAITED = "awaited"
    REQUESTED = "requested"
    COPYING = "copying"
    COPIED = "copied"
    CAUGHT_UP = "caught-up"
    FOLLOWING = "following"
    GONE = "gone"

    @property
    def held(self) -> bool:
        return self in (TableState.AWAITED, TableState.REQUESTED, TableState.COPYING)


@dataclass(frozen=True, slots=True)
class TableProgress:
    """One row of `tailrace.tables`."""

    table: str
    state: TableState
    generation: int
    floor: int
    """Records of this table with seq <= floor are ignored (they may be older than the copied row)."""
    last_head: int
    """Head of the last chunk view of the copy: the source is not consistent below it."""
    value_schema_id: int
    key_schema_id: int
    quarantined: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """One row of `tailrace.progress` with its tables: what the target holds of one source.

    The floor in force for a table is `floor` while its copy runs and `max(floor, applied)` once the sink follows it.
    """

    source: str
    owner: str
    """Random identity of the sink process that last claimed the source; part of every compare-and-set."""
    applied: int
    applying_to: int | None
    consistent: bool
    identity: str
    offsets: Mapping[TopicPartition, int]
    tables: Mapping[str, TableProgress]
    captured_at_ms: int = 0
    applied_at_ms: int = 0
    highest: int = 0
    """Highest seq ever applied; after a rewind nothing below it is consistent."""
    phase: str = "source"
    open: bool = True
    """May cuts be applied in this phase?"""
    topics: Mapping[str, str] = field(default_factory=dict)
    """topic -> id, of the topics that `offsets` belong to; empty where an older version wrote the row."""

    def floor_of(self, table: str) -> int:
        one = self.tables[table]
        if one.state.held or one.state is TableState.COPIED:
            return one.floor
        return max(one.floor, self.applied)
