"""Power loss takes back every commit that was not synced: nothing that the stream has seen may be among them.

The disk is simulated by what was on it at the last sync of the WAL that capture asked for: `synchronous=NORMAL` promises
no more. Restoring exactly that is the worst power loss there is; a torn one keeps any sectors written since as well."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from ops.clock import SystemClock
from schemas.bookkeeping import statements
from schemas.errors import Code, Refusal
from sink.postgres_target import PostgresTarget
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail
from verify.verification import Verification

ROUNDS = int(os.environ.get("TAILRACE_FAULT_ROUNDS", "1"))
SECTOR = 512
WAL_HEADER = 32


class Disk(SqliteDatabase):
    """A source whose durable state is what was there at the last `sync_wal`."""

    honest = True

    def sync_wal(self) -> None:
        super().sync_wal()
        if self.honest:
            self.keep()

    def keep(self) -> None:
        for suffix in ("", "-wal"):
            if Path(self.path + suffix).exists():
                shutil.copy(self.path + suffix, self.path + ".durable" + suffix)

    def lose_power(self, rng: random.Random | None = None) -> None:
        """Back to what was synced. With `rng`: of every sector written since, the disk kept the old or the new one."""
        wal = Path(self.path + "-wal")
        written = wal.read_bytes() if rng is not None and wal.exists() else b""
        if rng is not None:
            assert Path(self.path).read_bytes() == Path(self.path + ".durable").read_bytes()
        self.close()
        for suffix in ("", "-wal", "-shm"):
            Path(self.path + suffix).unlink(missing_ok=True)
        for suffix in ("", "-wal"):
            if Path(self.path + ".durable" + suffix).exists():
                shutil.copy(self.path + ".durable" + suffix, self.path + suffix)
        if rng is not None:
            wal.write_bytes(torn(wal.read_bytes() if wal.exists() else b"", written, rng))
            self.keep()


def torn(synced: bytes, written: bytes, rng: random.Random) -> bytes:
    """A WAL as a power loss may leave it: every sector old or new, each with its own luck, and any length between. But
    its header: SQLite syncs a new one before it overwrites the first frame."""
    length = rng.randrange(len(synced), max(len(written), len(synced)) + 1)
    kept = rng.choice((0.1, 0.5, 0.9, 0.99))
    parts = []
    for at in range(0, length, SECTOR):
        old = synced[at : at + SECTOR].ljust(min(SECTOR, length - at), b"\0")
        new = written[at : at + SECTOR]
        parts.append(new if len(new) == len(old) and rng.random() < kept else old)
    whole = b"".join(parts)[:length]
    return written[:WAL_HEADER] + whole[WAL_HEADER:] if written else whole


class World:
    """One source, one stream, one target, stepped by hand in one process."""

    def __init__(self, folder: Path, url: str) -> None:
        self.path = folder / "app.db"
        with sqlite3.connect(self.path) as app:
            app.execute("PRAGMA journal_mode=WAL")
            app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
        app.close()
        self.log = LocalLog(folder / "stream.db")
        self.registry = TopicRegistry(self.log, "p.schemas")
        self.target = Postgres(url, application_name="sink")
        self.copier = Postgres(url, application_name="copy")
        for statement in statements():
            self.target.run(statement)
        target = PostgresTarget(self.target, self.registry, "s")
        self.sink = SinkTail("s", target, self.log, SystemClock(), SinkSettings("p"), owner="one")
        self.open()
        install(self.db, "identity")
        self.db.keep()

    def open(self) -> None:
        self.db = Disk(self.path)
        # Only a checkpoint writes into the database file itself, and SQLite syncs before and after it.
        self.db.run("PRAGMA wal_autocheckpoint=0")
        source = SqliteSource(self.db, "s")
        self.reader_db = Disk(self.path)  # a sync of the copy is a sync of the same file
        reader = SqliteSource(self.reader_db, "s")
        self.capture = CaptureTail(
            source, self.log, self.registry, SystemClock(), CaptureSettings("p", "s", batch_rows=7)
        )
        self.copy = SnapshotTail(reader, reader, self.copier, self.registry, SystemClock())
        self.check = Verification(reader, reader, self.target, SystemClock(), expected=["t"])

    def write(self, rng: random.Random, count: int) -> None:
        app = sqlite3.connect(self.path, isolation_level=None)
        app.execute("PRAGMA synchronous=NORMAL")
        app.execute("PRAGMA wal_autocheckpoint=0")
        for _ in range(count):
            key = rng.randrange(30)
            if rng.random() < 0.3:
                app.execute("DELETE FROM t WHERE id = ?", (key,))
            else:
                app.execute("INSERT OR REPLACE INTO t VALUES (?, ?)", (key, rng.random()))
        app.close()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.capture.step()
            self.sink.step()
            self.copy.step()

    def settle(self) -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            self.steps(1)
            progress = self.sink._progress
            head = self.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
            if progress is not None and progress.consistent and progress.applied >= head:
                return
        raise AssertionError("not settled")

    def close(self) -> None:
        self.db.close()
        self.reader_db.close()
        self.log.close()
        self.target.close()
        self.copier.close()


@pytest.mark.parametrize("seed", range(4 * ROUNDS))
def test_nothing_lost_and_no_phantom_row(tmp_path: Path, database_url: str, seed: int) -> None:
    rng = random.Random(seed)
    world = World(tmp_path, database_url)
    try:
        lost = 0
        for _ in range(8):
            world.write(rng, rng.randrange(1, 40))
            world.steps(rng.randrange(12))
            world.write(rng, rng.randrange(1, 20))
            before = world.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
            world.reader_db.close()
            world.db.lose_power()
            world.open()
            lost += before - (world.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0] or 0)
        world.settle()
        assert 0 < lost
        report = world.check.run()
        assert report.clean, report
    finally:
        world.close()


@pytest.mark.parametrize("seed", range(6 * ROUNDS))
def test_torn_and_dropped_writes(tmp_path: Path, database_url: str, seed: int) -> None:
    """Whatever part of the unsynced writes reached the disk: what the stream has seen is still there."""
    rng = random.Random(seed)
    world = World(tmp_path, database_url)
    try:
        lost = 0
        for _ in range(8):
            world.write(rng, rng.randrange(1, 40))
            world.steps(rng.randrange(12))
            if rng.random() < 0.4:
                world.db.run(f"PRAGMA wal_checkpoint({rng.choice(('PASSIVE', 'RESTART', 'TRUNCATE'))})")
                world.db.keep()
            world.write(rng, rng.randrange(1, 20))
            before = world.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
            world.reader_db.close()
            world.db.lose_power(rng)
            world.open()
            assert [("ok",)] == world.db.rows("PRAGMA integrity_check")
            lost += before - (world.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0] or 0)
        world.settle()
        assert 0 < lost
        report = world.check.run()
        assert report.clean, report
    finally:
        world.close()


def test_a_disk_that_lies_is_named_by_records_without_a_watermark(tmp_path: Path, database_url: str) -> None:
    """The power goes between the records and their watermark, and takes what was synced: their seqs would name other
    rows, and the records of a history that never was would be applied."""
    rng = random.Random(1)
    world = World(tmp_path, database_url)
    try:
        world.write(rng, 20)
        world.settle()
        world.db.honest = False
        world.write(rng, 3)

        def power_goes(**_: object) -> None:
            raise KeyboardInterrupt

        world.capture._write_watermark = power_goes  # type: ignore[method-assign]
        with pytest.raises(KeyboardInterrupt):
            world.steps(10)
        world.reader_db.close()
        world.db.lose_power()
        world.open()
        with pytest.raises(Refusal) as refused:
            world.steps(1)
        assert Code.SOURCE_REPLACED is refused.value.code
        assert "--accept-history" in refused.value.hint
    finally:
        world.close()


def test_a_disk_that_lies_is_named(tmp_path: Path, database_url: str) -> None:
    """Without the sync (or on a disk that ignores it) the history forks: refused by name, never silently wrong."""
    rng = random.Random(1)
    world = World(tmp_path, database_url)
    try:
        world.write(rng, 20)
        world.settle()
        world.db.honest = False
        world.write(rng, 20)
        world.settle()
        world.reader_db.close()
        world.db.lose_power()
        world.open()
        world.write(rng, 60)
        with pytest.raises(Refusal) as refused:
            world.steps(1)
        assert refused.value.code in (Code.SOURCE_FORKED, Code.SOURCE_REPLACED)
        assert "--accept-history" in refused.value.hint
    finally:
        world.close()
