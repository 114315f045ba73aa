"""Decide: the few protocols through which siblings meet; adapters and floor-2 classes implement them, cli/ joins them.

Each method says: may it be called twice, what is permanent when it returns, who retries. Retrying is done by one
wrapper per port, built in cli/wiring; no implementation retries by itself. Only `Transient` errors are retried.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from schemas.change import (
    Collapsed,
    Ends,
    Entry,
    Fetched,
    Message,
    Notice,
    Position,
    Progress,
    Record,
    TopicPartition,
    Watermark,
)
from schemas.model import Database, Key, Row, Table, Value


class SqliteStatements(Protocol):
    """What any connection to a SQLite file can do; also the one on which no trigger fires (adapters/sqlite_apsw.py)."""

    @property
    def path(self) -> str: ...

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]: ...

    def run(self, sql: str, params: Sequence[Value] = ()) -> int: ...

    def schema_version(self) -> int: ...


class Sqlite(Protocol):
    """One connection to one SQLite file (adapters/sqlite.py). Not thread-safe; one per thread or process.

    Errors come out as TailraceError: SOURCE_BUSY (Transient), SOURCE_CORRUPT, SOURCE_IO, SOURCE_DISK_FULL (Failed).
    """

    @property
    def path(self) -> str: ...

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """All rows. Text that is not UTF-8 is read again with a factory that keeps the bytes (see `BadText`)."""
        ...

    def batches(
        self, sql: str, params: Sequence[Value] = (), *, batch_rows: int = 1000
    ) -> Generator[list[tuple[Any, ...]], None, None]:
        """The rows a thousand at a time: what is worked on stays in the processor's cache, and whoever reads may stop.
        Close the iterator (contextlib.closing) before the view ends."""
        ...

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        """Run one statement; returns the number of rows changed."""
        ...

    def read_view(self) -> AbstractContextManager[None]:
        """One deferred read transaction whose view is open from the first line of the block (a read is done)."""
        ...

    def write(self) -> AbstractContextManager[None]:
        """One BEGIN IMMEDIATE transaction: committed at the end of the block, rolled back on an exception."""
        ...

    def data_version(self) -> int:
        """PRAGMA data_version: moves when *another* connection commits. Microseconds."""
        ...

    def schema_version(self) -> int: ...

    def sync_wal(self) -> None:
        """What was seen is durable: the `-wal` is synced, or (rollback journal) the folder that the journal left."""
        ...

    def reopen(self) -> None:
        """Close and open again, so that a file restored under us is seen as it is now."""
        ...

    def wal_backlog_bytes(self, *, above_bytes: int) -> int | None:
        """Bytes of the `-wal` that cannot be written back into the database, after trying; 0 while the file is no larger
        than `above_bytes`, None where another connection tries at this moment."""
        ...

    def free_bytes(self) -> int:
        """Free space on the disk that holds the file."""
        ...

    def close(self) -> None: ...


class SourceView(Protocol):
    """What one read transaction sees. Valid only inside the `with` block that made it."""

    def head(self) -> int:
        """Seq of the last entry of the log, or pruned_to when the log is empty."""
        ...

    def mark(self) -> tuple[int, int]:
        """(PRAGMA schema_version, plan generation of `_tailrace_meta`), read in this view."""
        ...

    def entries(self, after: Position, *, limit_rows: int) -> Sequence[Entry]:
        """Entries in seq order after the position."""
        ...

    def rows(self, table: Table, keys: Sequence[Key]) -> Mapping[Key, Row]:
        """Current rows of these keys, compared as BINARY with typeof; a missing key is absent from the mapping.
        Rows are in the order of `table.row_columns`."""
        ...


class Source(Protocol):
    """The side that is captured. Direction-neutral: SQLite and PostgreSQL implement it."""

    def backlog_bytes(self, *, above_bytes: int) -> int | None:
        """What readers that stay long keep the engine from recycling; 0 while its log is no larger than `above_bytes`,
        None where it could not be looked at."""
        ...

    @property
    def name(self) -> str: ...

    def view(self) -> AbstractContextManager[SourceView]: ...

    def make_durable(self) -> None:
        """Called between closing the view and publishing: the stream is never ahead of the source's disk."""
        ...

    def changed(self) -> bool:
        """Cheap: may anything have been committed since the last call? True at the first call."""
        ...


@dataclass(frozen=True, slots=True)
class TopicSettings:
    """What a topic is created with. `compacted`: keep the last record of every key for ever and every version for
    `min_compaction_lag_ms` (the replay window)."""

    partitions: int = 1
    compacted: bool = True
    min_compaction_lag_ms: int = 7 * 24 * 3600 * 1000
    max_message_bytes: int = 16 * 1024 * 1024


class Transport(Protocol):
    """Ordered, partitioned, durable topics. Kafka and the local log implement it; one contract suite runs over both."""

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        """Idempotent; the limit of a message is raised where it is lower, never lowered. Raises Refusal(TOPIC_MISMATCH)
        when a topic exists with another partition count."""
        ...

    def topics(self, prefix: str) -> Mapping[str, int]:
        """Existing topics whose name starts with `prefix`, with their partition counts."""
        ...

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        """The id of each of these topics that exists. It changes when a topic is deleted and created again, and never
        comes back: an id that is the same at two moments was the same all the time between."""
        ...

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        """Append all messages; returns [(partition, offset), ..] in the order given, once **every one is durable**
        (acks=all; local log: committed with synchronous=FULL). Order within a partition is the order given. After an
        error any prefix may be durable: sending again makes duplicates, which labels and floors make harmless.
        Raises Failed(RECORD_TOO_LARGE) before anything is sent, naming the topic."""
        ...

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        """End offsets (offset after the last message). A topic that does not exist raises Failed(TOPIC_MISSING)."""
        ...

    def begins(self, topics: Iterable[str]) -> dict[str, dict[int, int]]: ...

    def fetch(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int | None]],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 8 * 1024 * 1024,
        timeout_s: float = 0.0,
        ids: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Messages with start <= offset < end (end None: whatever is there). Stateless for the caller: the same call
        gives the same messages. Waits up to `timeout_s` for the first message. Always makes progress: at least one
        message is returned, whatever its size, if one exists in any range. Empty ranges tell where the caller will go on.

        Args:
            ids: topic -> id, of a caller that asks `topic_ids` after this call and uses what it got only where they are
                still the same: what was fetched ahead under them is then served without a look beforehand, and where an
                end is open, what is still on its way comes with a later call.
        """
        ...

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        """For ordinary lag tools only; the truth is in the target's progress. May be called twice."""
        ...

    def committed(self, group: str, topics: Iterable[str]) -> dict[TopicPartition, int]: ...

    def close(self) -> None: ...


_TOPIC_CALLS = ("create_topics", "topics", "topic_ids", "ends", "begins")
TRANSPORT_CALLS = (*_TOPIC_CALLS, "send", "fetch", "commit_group", "committed")
"""All idempotent in what they mean: the wiring tries them again while the outside world says "not now"."""


class Registry(Protocol):
    """Avro schemas by id. Ids are positive 31-bit numbers, never reused, the same for equal (subject, schema), and mean
    something only in the registry that gave them.

    Raises Transient(REGISTRY_UNREACHABLE | STREAM_..), Failed(REGISTRY_DENIED), Refusal(REGISTRY_OTHER | REGISTRY_REFUSED).
    """

    def register(self, subject: str, schema: str) -> int:
        """`schema` is canonical JSON text. Durable when it returns. May be called twice: same id. Any schema may follow
        any other: widenings are not compatible in Avro's sense."""
        ...

    def schema(self, schema_id: int) -> str:
        """Text that means what was registered. Raises Failed(SCHEMA_UNKNOWN)."""
        ...

    def latest(self, subject: str) -> str | None:
        """The newest schema of a subject; None for a subject that is not there."""
        ...

    def identity(self) -> Mapping[str, str]:
        """topic -> id of the topic that every id given so far belongs to; empty where no topic gives them."""
        ...


REGISTRY_CALLS = ("register", "schema", "latest")


class SourceReader(Protocol):
    """What snapshot and verify need of a source beyond `Source`: ordered ranges of rows in one view."""

    def database(self) -> Database:
        """Introspection in its own view."""
        ...

    def range(self, table: Table, after: Key | None, *, limit_rows: int, upto: Key | None = None) -> Sequence[Row]:
        """Rows in key order after `after` (None: from the start, rowids below zero included)."""
        ...

    def batches(self, table: Table, after: Key | None, *, limit_rows: int) -> Generator[list[Row], None, None]:
        """As `range`, a thousand rows at a time and only in the caller's view. Close it before the view ends."""
        ...

    def count(self, table: Table) -> int: ...

    def reopen(self) -> None:
        """See `Sqlite.reopen`; called before a copy begins."""
        ...

    def close(self) -> None: ...

    def key_of(self, table: Table, row: Row) -> Key: ...


class Target(Protocol):
    """The side that one source's cuts are applied to. Direction-neutral: PostgreSQL and SQLite implement it."""

    def prepared(self) -> bool:
        """Is its bookkeeping there? While it is not, the sink waits."""
        ...

    def claim(self, owner: str) -> Progress:
        """Take the source's lease for this owner; applies of the former owner lose their compare-and-set from now on.
        Raises Refusal(SINK_OWNED) naming who holds it."""
        ...

    def progress(self) -> Progress | None: ...

    def close(self) -> None:
        """Give the lease back and end the session: the source is free for the next sink once this returns."""
        ...

    def apply(
        self,
        before: Progress,
        watermark: Watermark,
        *,
        offsets: Mapping[TopicPartition, int],
        tables: Mapping[str, Collapsed],
        notices: Sequence[Notice],
        now_ms: int,
    ) -> None:
        """One cut with its progress, all or nothing, behind a compare-and-set on (owner, applied, phase). Raises
        Superseded when that lost; after Unknown the progress must be read first."""
        ...

    def slice(self, before: Progress, applying_to: int, table: str, collapsed: Collapsed) -> None:
        """Rows of a large cut, in a transaction of their own; nothing is consistent until `apply` closes the cut."""
        ...

    def is_unique(self, table: str) -> bool:
        """Does the table carry unique constraints besides its key?"""
        ...

    def decode_key(self, schema_id: int, payload: bytes) -> Key:
        """SQLite values of one key."""
        ...

    def schemas(self) -> Mapping[str, str]:
        """`Registry.identity` of what it reads schemas from."""
        ...


class Clock(Protocol):
    def now_ms(self) -> int:
        """Wall clock, for stamps that people read."""
        ...

    def monotonic_s(self) -> float: ...

    def monotonic_ms(self) -> int: ...  # for every "now and then": nobody sets it back

    def sleep(self, seconds: float) -> None: ...


__all__ = [
    "Clock",
    "Ends",
    "Position",
    "Record",
    "Registry",
    "Source",
    "SourceReader",
    "SourceView",
    "Sqlite",
    "Target",
    "TopicSettings",
    "Transport",
]
