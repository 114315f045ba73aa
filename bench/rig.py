"""Do: what every bench needs: a folder, a source of rows, a throw-away PostgreSQL, and one line per figure.

A figure stands beside its floor, measured in the same run: on a shared machine ratios hold, absolute figures do not.
"""

from __future__ import annotations

import os
import random
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from cli.wiring import open_transport
from embedded.kafka import VERSION, EmbeddedKafka, absent
from embedded.postgres import EmbeddedPostgres
from ops.clock import SystemClock
from ops.config import Config, TransportConfig
from ops.loop import relax_collector
from schemas.bookkeeping import statements as bookkeeping
from schemas.ports import Transport
from sink.postgres_target import PostgresTarget
from sink.progress import read_progress
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail

SOURCE = "bench"
TABLE = (
    "CREATE TABLE cases(id INTEGER PRIMARY KEY, reference TEXT NOT NULL, title TEXT, status TEXT, amount REAL, "
    "share REAL, opened TEXT, owner INTEGER, stage INTEGER, notes TEXT)"
)
COLUMNS = 10
JARS = Path(__file__).resolve().parent.parent / ".cache" / f"kafka-{VERSION}"
DRIVERS = ("kafka-python", "confluent")


@dataclass(frozen=True, slots=True)
class Stream:
    """Where the stream lives: a driver's name and a broker's address, or the local log."""

    driver: str = ""
    address: str = ""

    @property
    def name(self) -> str:
        return self.driver or "local log"

    def open(self, where: Path) -> Transport:
        """As the daemons open it."""
        transport = TransportConfig()
        if self.driver:
            transport = TransportConfig("kafka", driver=self.driver, bootstrap_servers=self.address)
        return open_transport(Config({SOURCE: "source.db"}, folder=str(where), transport=transport))


def scaled(number: int) -> int:
    """A bench's size: `make bench SCALE=10` for larger ones."""
    return int(number * float(os.environ.get("SCALE") or 1))


def say(name: str, figure: str, *, floor: str = "", reach: str = "") -> None:
    """One line: what, how much, beside what, and what it should reach."""
    print(f"{name:<46} {figure:>22}  {floor:<40} {reach}", flush=True)


def row(rng: random.Random, number: int) -> tuple[object, ...]:
    return (
        number,
        f"R-{number:08d}",
        f"Title of the case number {rng.randrange(10**6)}",
        rng.choice(("open", "stayed", "closed")),
        rng.random() * 10_000,
        rng.random(),
        f"2024-{rng.randrange(1, 13):02d}-{rng.randrange(1, 29):02d}",
        rng.randrange(1000),
        rng.randrange(5),
        None if rng.random() < 0.5 else "some words about it " * rng.randrange(4),
    )


def fill(path: Path, rows: int, *, first: int = 1, each: int = 0) -> None:
    """A WAL database with `rows` rows in `cases`, in transactions of `each` rows (0: one)."""
    rng = random.Random(first)
    connection = sqlite3.connect(path, isolation_level=None, timeout=30)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=OFF")
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'cases'").fetchone():
        connection.execute(TABLE)
    marks = ", ".join("?" * COLUMNS)
    for start in range(first, first + rows, each or rows):
        stop = min(start + (each or rows), first + rows)
        connection.execute("BEGIN")
        made = (row(rng, number) for number in range(start, stop))
        connection.executemany(f"INSERT INTO cases VALUES ({marks})", made)
        connection.execute("COMMIT")
    connection.close()


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="tailrace-bench-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def stages() -> Iterator[tuple[Path, str, Stream]]:
    """A folder, a PostgreSQL and an empty stream for each kind of stream; one that cannot be had is said by name."""
    with folder() as where, postgres(where) as url:
        yield where, url, Stream()
    if lacking := absent(JARS):
        say("over Kafka", "not measured", floor=lacking)
        return
    for driver in DRIVERS:
        with folder() as where, postgres(where) as url:
            broker = EmbeddedKafka(where / "kafka", jars=JARS)
            try:
                yield where, url, Stream(driver, broker.start())
            finally:
                broker.stop()


@contextmanager
def postgres(where: Path) -> Iterator[str]:
    """URL of a server with its durable default settings."""
    server = EmbeddedPostgres(where / "postgres")
    url = server.start()
    try:
        target = Postgres(url, application_name="bench")
        for statement in bookkeeping():
            target.run(statement)
        target.close()
        yield url
    finally:
        server.stop()


class Line:
    """Capture, copy and sink of one source over one stream, in this process; each with connections of its own."""

    def __init__(self, where: Path, database: Path, url: str, stream: Stream | None = None) -> None:
        self.where, self.database, self.url = where, database, url
        self.stream = stream or Stream()
        relax_collector()
        self.clock = SystemClock()
        self._opened: list[SqliteDatabase | Postgres | Transport] = []
        db = self._sqlite()
        install(db, "bench-identity")
        self.source = SqliteSource(db, SOURCE)

    def _sqlite(self) -> SqliteDatabase:
        made = SqliteDatabase(self.database)
        self._opened.append(made)
        return made

    def _postgres(self) -> Postgres:
        made = Postgres(self.url, application_name="bench")
        self._opened.append(made)
        return made

    def transport(self) -> Transport:
        made = self.stream.open(self.where)
        self._opened.append(made)
        return made

    def capture(self, **settings: int) -> CaptureTail:
        transport = self.transport()
        chosen = CaptureSettings("bench", SOURCE, **settings)  # type: ignore[arg-type]
        registry = TopicRegistry(transport, "bench.schemas")
        return CaptureTail(SqliteSource(self._sqlite(), SOURCE), transport, registry, self.clock, chosen)

    def sink(self) -> SinkTail:
        transport = self.transport()
        registry = TopicRegistry(transport, "bench.schemas")
        settings = SinkSettings("bench", look_ms=20)
        target = PostgresTarget(self._postgres(), registry, SOURCE)
        return SinkTail(SOURCE, target, transport, self.clock, settings, owner="bench")

    def copy(self) -> SnapshotTail:
        reader = SqliteSource(self._sqlite(), SOURCE)
        registry = TopicRegistry(self.transport(), "bench.schemas")
        return SnapshotTail(reader, reader, self._postgres(), registry, self.clock)

    def head(self) -> int:
        return int(self.source.db.rows("SELECT max(seq) FROM _tailrace_log")[0][0])

    def settle(self, *steppers: CaptureTail | SinkTail | SnapshotTail) -> None:
        """Step until the target is consistent at the head."""
        target = self._postgres()
        while True:
            for one in steppers:
                one.step()
            found = read_progress(target, SOURCE)
            if found is not None and found.consistent and found.applied >= self.head():
                return

    def close(self) -> None:
        for one in self._opened:
            one.close()


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started
