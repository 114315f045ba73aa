"""Do: the embedded log, one SQLite file with the offsets and partitions of a broker, so that one machine needs none.

Invariant: `send` returns once the whole batch is on disk (synchronous=FULL, one commit a batch); offsets of a partition
are gap-free at append and never reused; a crash leaves a batch whole or absent (test_kill_in_the_middle_of_send).
Messages of one partition lie together in the primary key, so that a fetch is one range scan.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path

from schemas.change import Fetched, Message, Stored, TopicPartition
from schemas.errors import Code, Failed, Refusal, TailraceError, Transient
from schemas.formats import LOCAL_LOG, refuse_unreadable
from schemas.partition import partition_of
from schemas.ports import TopicSettings

_POLL_S = 0.002
_DELETE_RETENTION_MS = 7 * 24 * 3600 * 1000
"""As long as the replay window: a replay that starts at its far end still meets the tombstone."""
_DDL = (
    "CREATE TABLE IF NOT EXISTS meta(key TEXT PRIMARY KEY, value) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS topics(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, uuid TEXT NOT NULL, "
    "partitions INTEGER NOT NULL, settings TEXT NOT NULL)",
    "CREATE TABLE IF NOT EXISTS ends(topic INTEGER NOT NULL, part INTEGER NOT NULL, first INTEGER NOT NULL, "
    "next INTEGER NOT NULL, PRIMARY KEY(topic, part)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS messages(topic INTEGER NOT NULL, part INTEGER NOT NULL, offs INTEGER NOT NULL, "
    "ts INTEGER NOT NULL, key BLOB, value BLOB, headers BLOB, PRIMARY KEY(topic, part, offs)) WITHOUT ROWID",
    "CREATE TABLE IF NOT EXISTS groups(name TEXT NOT NULL, topic TEXT NOT NULL, part INTEGER NOT NULL, "
    "offs INTEGER NOT NULL, PRIMARY KEY(name, topic, part)) WITHOUT ROWID",
)


class LocalLog:
    """Implements ports.Transport on one file. Several processes may hold one each."""

    def __init__(self, path: str | Path, *, timeout_s: float = 10.0) -> None:
        self._path = str(path)
        Path(self._path).parent.mkdir(parents=True, exist_ok=True)
        os.close(os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600))
        with self._translated():
            self._db = sqlite3.connect(self._path, timeout=timeout_s, isolation_level=None, check_same_thread=False)
        try:
            self._prepare()
        except BaseException:
            self._db.close()
            raise
        self._topics: dict[str, tuple[int, int, TopicSettings]] = {}

    def _prepare(self) -> None:
        """Settings and tables. Idempotent: processes that open a new log at once meet here, and the switch to WAL is
        the one step that SQLite answers with BUSY without waiting (test_a_new_log_opened_by_several_at_once)."""
        with self._translated():
            if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute("PRAGMA wal_autocheckpoint=4000")
            self._refuse_unreadable()
            with self._write():
                for statement in _DDL:
                    self._db.execute(statement)
                self._db.execute("INSERT OR IGNORE INTO meta VALUES ('format', ?)", (LOCAL_LOG.current,))

    def _refuse_unreadable(self) -> None:
        """Before anything is written into it."""
        if self._db.execute("SELECT 1 FROM sqlite_master WHERE name = 'meta'").fetchone():
            for found in self._db.execute("SELECT value FROM meta WHERE key = 'format'").fetchall():
                refuse_unreadable(LOCAL_LOG, int(found[0]), self._path)

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        with self._write():
            for name, settings in topics.items():
                found = self._db.execute("SELECT partitions FROM topics WHERE name = ?", (name,)).fetchone()
                if found is None:
                    self._create(name, settings)
                elif found[0] != settings.partitions:
                    told = f"topic {name} has {found[0]} partitions, {settings.partitions} are configured"
                    raise Refusal(Code.TOPIC_MISMATCH, told, hint="it never changes: set transport.partitions back")
                else:  # up, never down: readers inside the replay window were promised it
                    parts = [f"'$[{at}]', max(json_extract(settings, '$[{at}]'), ?)" for at in (1, 2)]
                    raised = f"UPDATE topics SET settings = json_set(settings, {', '.join(parts)}) WHERE name = ?"
                    self._db.execute(raised, (settings.min_compaction_lag_ms, settings.max_message_bytes, name))
                    self._topics.pop(name, None)

    def _create(self, name: str, settings: TopicSettings) -> None:
        text = json.dumps([settings.compacted, settings.min_compaction_lag_ms, settings.max_message_bytes])
        sql = "INSERT INTO topics(name, uuid, partitions, settings) VALUES (?, ?, ?, ?)"
        topic = self._db.execute(sql, (name, uuid.uuid4().hex, settings.partitions, text)).lastrowid
        self._db.executemany("INSERT INTO ends VALUES (?, ?, 0, 0)", [(topic, at) for at in range(settings.partitions)])

    def topics(self, prefix: str) -> dict[str, int]:
        with self._translated():
            found = self._db.execute("SELECT name, partitions FROM topics").fetchall()
        return {name: count for name, count in found if name.startswith(prefix)}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        with self._translated():
            known = dict(self._db.execute("SELECT name, uuid FROM topics").fetchall())
        return {name: known[name] for name in topics if name in known}

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        for message in messages:
            limit = self._topic(message.topic)[2].max_message_bytes
            if (length := len(message.key or b"") + len(message.value or b"")) > limit:
                raise Failed(
                    Code.RECORD_TOO_LARGE,
                    f"a message of {length} bytes is above the {limit} bytes of topic {message.topic}",
                    hint="raise transport.max_message_bytes",
                )
        if not messages:
            return []
        now_ms = time.time_ns() // 1_000_000
        placed: list[tuple[int, int]] = []
        with self._write():
            next_offset: dict[tuple[int, int], int] = {}
            rows = []
            for message in messages:
                topic, partitions, _ = self._topic(message.topic)
                part = message.partition if message.partition is not None else partition_of(message.key, partitions)
                where = (topic, part)
                if where not in next_offset:
                    next_offset[where] = self._next(message.topic, where)
                offset = next_offset[where]
                next_offset[where] = offset + 1
                headers = _pack(message.headers) if message.headers else None
                rows.append((topic, part, offset, now_ms, message.key, message.value, headers))
                placed.append((part, offset))
            self._db.executemany("INSERT INTO messages VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
            self._db.executemany(
                "UPDATE ends SET next = ? WHERE topic = ? AND part = ?",
                [(offset, topic, part) for (topic, part), offset in next_offset.items()],
            )
        return placed

    def _next(self, name: str, where: tuple[int, int]) -> int:
        row = self._db.execute("SELECT next FROM ends WHERE topic = ? AND part = ?", where).fetchone()
        if row is None:
            raise Failed(Code.TOPIC_MISMATCH, f"topic {name} has no partition {where[1]}", hint="check the partitions")
        return int(row[0])

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return self._bounds(topics, "next")

    def begins(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return self._bounds(topics, "first")

    def _bounds(self, topics: Iterable[str], column: str) -> dict[str, dict[int, int]]:
        result: dict[str, dict[int, int]] = {}
        with self._translated(), self._view():
            for name in topics:
                topic = self._topic(name)[0]
                result[name] = dict(
                    self._db.execute(f"SELECT part, {column} FROM ends WHERE topic = ?", (topic,)).fetchall()
                )
        return result

    def fetch(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int | None]],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 8 * 1024 * 1024,
        timeout_s: float = 0.0,
        ids: Mapping[str, str] | None = None,  # noqa: ARG002
    ) -> Fetched:
        deadline, version = time.monotonic() + timeout_s, -1
        while True:
            with self._translated():
                seen = self._db.execute("PRAGMA data_version").fetchone()[0]
                if seen != version:
                    version = seen
                    # One view for the messages and the ends: an end read later than the messages would step over
                    # what was appended between the two (test_append_between_messages_and_end).
                    with self._view():
                        fetched = self._fetch_now(wanted, max_messages, max_bytes)
                    if fetched.messages or timeout_s <= 0:
                        return fetched
            if time.monotonic() >= deadline:
                return fetched
            time.sleep(_POLL_S)

    def _fetch_now(
        self, wanted: Mapping[TopicPartition, tuple[int, int | None]], max_messages: int, max_bytes: int
    ) -> Fetched:
        messages: list[Stored] = []
        positions: dict[TopicPartition, int] = {}
        taken_bytes = 0
        for where, (start, end) in wanted.items():
            positions[where] = start
            room = max_messages - len(messages)
            if room <= 0 or taken_bytes >= max_bytes or (end is not None and start >= end):
                continue
            topic = self._topic(where.topic)[0]
            cursor = self._db.execute(
                "SELECT offs, ts, key, value, headers FROM messages WHERE topic = ? AND part = ? AND offs >= ? "
                "AND offs < ? ORDER BY offs LIMIT ?",
                (topic, where.partition, start, end if end is not None else 1 << 62, room),
            )
            full = False
            count = 0
            for offset, ts, key, value, headers in cursor:
                messages.append(
                    Stored(where.topic, where.partition, offset, ts, key, value, _unpack(headers) if headers else ())
                )
                positions[where] = offset + 1
                count += 1
                taken_bytes += len(key or b"") + len(value or b"")
                if taken_bytes >= max_bytes:
                    full = True
                    break
            if not full and count < room:
                # The range was read to its end: go on over what compaction took out at its tail.
                known = self._next(where.topic, (topic, where.partition))
                positions[where] = max(positions[where], known if end is None else min(known, end))
        return Fetched(messages, positions)

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        with self._write():
            self._db.executemany(
                "INSERT OR REPLACE INTO groups VALUES (?, ?, ?, ?)",
                [(group, where.topic, where.partition, offset) for where, offset in offsets.items()],
            )

    def committed(self, group: str, topics: Iterable[str]) -> dict[TopicPartition, int]:
        names = set(topics)
        with self._translated():
            rows = self._db.execute("SELECT topic, part, offs FROM groups WHERE name = ?", (group,)).fetchall()
        return {TopicPartition(topic, part): offset for topic, part, offset in rows if topic in names}

    def size_bytes(self) -> int:
        """Bytes of the file and its `-wal` together, for the size bound that the operator sets."""
        return sum(Path(name).stat().st_size for name in (self._path, f"{self._path}-wal") if Path(name).exists())

    def compact(self, now_ms: int, *, delete_retention_ms: int = _DELETE_RETENTION_MS, batch_rows: int = 1000) -> int:
        """Take out what a compacted topic need not keep; returns the messages removed. Offsets never move.

        Kept: every message younger than the topic's lag, the last older one of every key, messages without a key, and
        a last tombstone until `delete_retention_ms` after the lag. May be called twice; a crash leaves it half done,
        which is as good as a smaller compaction.
        """
        with self._translated():
            parts = self._db.execute(
                "SELECT t.name, e.topic, e.part, e.next FROM ends e JOIN topics t ON t.id = e.topic"
            ).fetchall()
        removed = 0
        for name, topic, part, end in parts:
            settings = self._topic(name)[2]
            if settings.compacted:
                old_ms = now_ms - settings.min_compaction_lag_ms
                removed += self._compact_part((topic, part, end), old_ms, old_ms - delete_retention_ms, batch_rows)
        return removed

    def _compact_part(self, where: tuple[int, int, int], old_ms: int, dead_ms: int, batch_rows: int) -> int:
        with self._translated():
            # The horizon is the first young offset, not "every old time stamp": a clock that stepped back must not
            # let a later message be judged before an earlier one.
            horizon = self._db.execute(
                "SELECT coalesce(min(offs), ?3) FROM messages WHERE topic = ?1 AND part = ?2 AND ts > ?4",
                (*where, old_ms),
            ).fetchone()[0]
            self._db.execute("DROP TABLE IF EXISTS temp.gone")
            # In offset order: a tombstone goes only after (or with) everything of its key that lies before it.
            self._db.execute(
                "CREATE TEMP TABLE gone AS SELECT offs FROM (SELECT offs, ts, value, max(offs) OVER (PARTITION BY key) "
                "AS last FROM messages WHERE topic = ?1 AND part = ?2 AND offs < ?3 AND key IS NOT NULL) "
                "WHERE offs < last OR (value IS NULL AND ts <= ?4) ORDER BY offs",
                (where[0], where[1], horizon, dead_ms),
            )
            gone = self._db.execute("SELECT count(*) FROM temp.gone").fetchone()[0]
        for start in range(1, gone + 1, batch_rows):
            with self._write():
                self._db.execute(
                    "DELETE FROM messages WHERE topic = ? AND part = ? AND offs IN "
                    "(SELECT offs FROM temp.gone WHERE rowid BETWEEN ? AND ?)",
                    (where[0], where[1], start, start + batch_rows - 1),
                )
        return int(gone)

    def close(self) -> None:
        self._db.close()

    def _topic(self, name: str) -> tuple[int, int, TopicSettings]:
        found = self._topics.get(name)
        if found is None:
            row = self._db.execute("SELECT id, partitions, settings FROM topics WHERE name = ?", (name,)).fetchone()
            if row is None:
                raise _missing(name)
            compacted, lag_ms, limit = json.loads(row[2])
            found = self._topics[name] = (row[0], row[1], TopicSettings(row[1], compacted, lag_ms, limit))
        return found

    @contextmanager
    def _view(self) -> Iterator[None]:
        """One read transaction: every statement in the block sees the same commits."""
        self._db.execute("BEGIN")
        try:
            yield
        finally:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")

    @contextmanager
    def _write(self) -> Iterator[None]:
        with self._translated():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            finally:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise _translate(error, self._path) from error


def _missing(topic: str) -> TailraceError:
    return Failed(Code.TOPIC_MISSING, f"topic {topic} does not exist", hint="start the capture of this source first")


def _translate(error: sqlite3.Error, path: str) -> TailraceError:
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    message = f"{path}: {getattr(error, 'sqlite_errorname', type(error).__name__)}: {error}"
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Transient(Code.STREAM_BUSY, message, hint="another process writes to the stream; it is tried again")
    if code == sqlite3.SQLITE_FULL:
        return Failed(Code.STREAM_FULL, message, hint="free space on this disk, then start again: nothing is lost")
    return Failed(Code.STREAM_IO, message, hint="check the disk and the permissions of the stream file")


@lru_cache(maxsize=1024)  # one batch repeats a few header sets
def _pack(headers: tuple[tuple[str, bytes], ...]) -> bytes:
    return json.dumps([[name, value.decode("latin-1")] for name, value in headers], separators=(",", ":")).encode()


@lru_cache(maxsize=1024)
def _unpack(raw: bytes) -> tuple[tuple[str, bytes], ...]:
    return tuple((name, value.encode("latin-1")) for name, value in json.loads(raw))
