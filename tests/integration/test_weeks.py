"""Following for weeks under a simulated clock, on a real file, a real stream file and a real target: nothing grows with time.

Each turn is an hour later: capture prunes and writes a heartbeat, the stream is compacted, the sink applies or ticks.
After a third of the time everything has reached its size; the last third must not need more than the one before it.
"""

from __future__ import annotations

import gc
import os
import sqlite3
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest

from adapters import locallog
from adapters.bookkeeping import bring_up_to_date
from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from cli.compaction import Compaction
from schemas.ports import TopicSettings
from sink.postgres_target import PostgresTarget
from sink.progress import read_progress
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail
from tests.model.world import SteppingClock

TURN_MS = 60 * 60 * 1000
DAY_MS = 24 * 3600 * 1000
TURNS = int(os.environ.get("TAILRACE_WEEKS_TURNS", "240"))
KEYS = 40
WAL_BYTES = (1000 + 4000 + 500) * 4200
"""SQLite's own bound for the source's, adapters/locallog.py's for the stream's, and the batch that goes over it."""
FILE_SLACK_BYTES = 16 * 1024
"""A few pages more or less, by where in its turns a file is looked at."""
MEMORY_SLACK_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Size:
    """What there is at one moment, in bytes."""

    source: int
    stream: int
    wals: int
    """Of both files, before they are written back."""
    bookkeeping: int
    memory: int


class Weeks:
    def __init__(self, folder: Path, url: str, clock: SteppingClock) -> None:
        self.clock = clock
        self.path = folder / "app.db"
        self.app = SqliteDatabase(self.path, create=True)
        self.app.run("PRAGMA journal_mode=WAL")
        self.app.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT)")
        install(self.app, "identity")
        self.stream = LocalLog(folder / "stream.db")
        registry = TopicRegistry(self.stream, "p.schemas")
        self.sessions = [Postgres(url, application_name="weeks") for _ in range(3)]
        self.target = self.sessions[0]
        bring_up_to_date(self.target)
        self.files = [SqliteDatabase(self.path) for _ in range(2)]
        settings = CaptureSettings("p", "s", topic=TopicSettings(min_compaction_lag_ms=DAY_MS))
        self.capture = CaptureTail(SqliteSource(self.files[0], "s"), self.stream, registry, clock, settings)
        applied = PostgresTarget(self.sessions[1], registry, "s")
        self.sink = SinkTail("s", applied, self.stream, clock, SinkSettings("p"), owner="one")
        reader = SqliteSource(self.files[1], "s")
        self.copy = SnapshotTail(reader, reader, self.sessions[2], registry, clock)
        self.compaction = Compaction(self.stream, clock)

    def turn(self, number: int, *, trickle: bool) -> None:
        self.clock.ms += TURN_MS
        if trickle:
            key = number % KEYS
            if number % 7 == 0:
                self.app.run("DELETE FROM t WHERE id = ?", (key,))
            else:
                self.app.run("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, f"value {number} " * 20))
        for _ in range(4):
            self.capture.step()
        for part in (self.sink, self.copy, self.sink, self.compaction):
            part.step()

    def size(self) -> Size:
        # Weeks bring autovacuum by; the seconds of a test do not.
        self.target.run("VACUUM tailrace.progress")
        self.target.run("VACUUM tailrace.tables")
        # A bounded cache of header texts; before it is full it would look like growth.
        locallog._pack.cache_clear()
        locallog._unpack.cache_clear()
        gc.collect()
        files = (self.path, self.path.with_name("stream.db"))
        wals = sum(file.with_name(f"{file.name}-wal").stat().st_size for file in files)
        for file in files:
            # A file has its true size once its WAL, which grows to a fixed number of pages first, is written back.
            with closing(sqlite3.connect(file)) as db:
                db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()
        relations = (
            "SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = "
        )
        return Size(
            files[0].stat().st_size,
            files[1].stat().st_size,
            wals,
            self.target.rows(f"{relations}'tailrace'::regnamespace")[0][0],
            tracemalloc.get_traced_memory()[0],
        )

    def close(self) -> None:
        self.stream.close()
        for one in (self.app, *self.files, *self.sessions):
            one.close()


@pytest.fixture
def weeks(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Weeks]:
    clock = SteppingClock()
    stamps = SimpleNamespace(time_ns=lambda: clock.ms * 1_000_000, monotonic=time.monotonic, sleep=time.sleep)
    # The stream stamps its messages itself, as a broker does: compaction goes by these stamps.
    monkeypatch.setattr("adapters.locallog.time", stamps)
    made = Weeks(tmp_path, database_url, clock)
    yield made
    made.close()


@pytest.mark.parametrize("trickle", [False, True], ids=["heartbeats only", "a steady trickle"])
def test_following_for_weeks_needs_no_more_than_at_first(weeks: Weeks, trickle: bool) -> None:
    tracemalloc.start()
    try:
        began_ms = weeks.clock.ms
        sizes = []
        for number in range(TURNS):
            weeks.turn(number, trickle=trickle)
            if number % (TURNS // 3) == TURNS // 3 - 1:
                sizes.append(weeks.size())
    finally:
        tracemalloc.stop()
    _, middle, last = sizes
    days = (weeks.clock.ms - began_ms) / DAY_MS
    print(f"{days:.1f} days: {middle} then {last}")
    assert TURNS * TURN_MS / DAY_MS <= days
    assert middle.source + FILE_SLACK_BYTES >= last.source
    assert WAL_BYTES >= last.wals
    assert middle.stream + FILE_SLACK_BYTES >= last.stream
    assert middle.bookkeeping >= last.bookkeeping
    assert middle.memory + MEMORY_SLACK_BYTES >= last.memory
    # And it followed all the while.
    progress = read_progress(weeks.target, "s")
    assert progress is not None
    assert progress.consistent
    head = weeks.app.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
    assert head == progress.applied
    assert weeks.app.rows("SELECT count(*) FROM _tailrace_log")[0][0] <= 2
    found = weeks.target.rows("SELECT id, v FROM s.t ORDER BY id", prepare=False)
    assert weeks.app.rows("SELECT id, v FROM t ORDER BY id") == found
