"""Do: the smallest whole path: one file, one in-memory stream, one real target, stepped by hand under a simulated clock."""

from __future__ import annotations

from pathlib import Path

from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from schemas.bookkeeping import statements
from schemas.change import Progress
from sink.postgres_target import PostgresTarget
from sink.progress import read_progress
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail
from tests.fakes.transport import FakeTransport
from tests.model.world import SteppingClock
from verify.verification import Verification


class Small:
    """`app` writes as the application would; `step`s are the test's to order."""

    def __init__(
        self, folder: Path, url: str, *ddl: str, batch_rows: int = 100, clock: SteppingClock | None = None
    ) -> None:
        self.url = url
        self.path = folder / "small.db"
        self.app = SqliteDatabase(self.path, create=True)
        self.app.run("PRAGMA journal_mode=WAL")
        for statement in ddl:
            self.app.run(statement)
        install(self.app, "identity")
        self.clock = clock or SteppingClock()
        self.transport = FakeTransport()
        self.registry = TopicRegistry(self.transport, "p.schemas")
        self.opened: list[SqliteDatabase | Postgres] = [self.app]
        self.target = self.postgres()
        for statement in statements():
            self.target.run(statement)
        self.capture = self.new_capture(batch_rows=batch_rows)
        self.sink = self.new_sink("one")
        reader = self.source()
        self.copier = self.postgres()
        self.copy = SnapshotTail(reader, reader, self.copier, self.registry, self.clock)
        self.verification = Verification(reader, reader, self.target, self.clock, expected=["t"])

    def source(self) -> SqliteSource:
        db = SqliteDatabase(self.path)
        self.opened.append(db)
        return SqliteSource(db, "s")

    def postgres(self) -> Postgres:
        made = Postgres(self.url, application_name="small")
        self.opened.append(made)
        return made

    def new_capture(self, *, batch_rows: int = 100, **more: int) -> CaptureTail:
        settings = CaptureSettings("p", "s", batch_rows=batch_rows, heartbeat_ms=500, **more)  # type: ignore[arg-type]
        return CaptureTail(self.source(), self.transport, self.registry, self.clock, settings)

    def new_sink(self, owner: str, **settings: int) -> SinkTail:
        self.session = self.postgres()
        chosen = SinkSettings("p", look_ms=10, **settings)
        target = PostgresTarget(self.session, self.registry, "s")
        return SinkTail("s", target, self.transport, self.clock, chosen, owner=owner)

    def run(self, *statements: str) -> None:
        for statement in statements:
            self.app.run(statement)

    def progress(self) -> Progress:
        found = read_progress(self.target, "s")
        assert found is not None
        return found

    def rows(self, sql: str) -> list[tuple[object, ...]]:
        return self.target.rows(sql, prepare=False)

    def settle(self) -> None:
        """Until consistent and applied to the head."""
        for _ in range(400):
            self.capture.step()
            self.sink.step()
            self.copy.step()
            head = self.app.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
            found = read_progress(self.target, "s")
            if found is not None and found.consistent and found.applied >= head:
                return
        raise AssertionError(f"not settled: {found}")

    def close(self) -> None:
        for one in self.opened:
            one.close()
