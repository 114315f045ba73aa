"""Do: a whole migration of two sources in one process: both streams, fences, guards, one real target, stepped by a clock
whose sleep steps every daemon. What a test wants to happen in between it hooks into `between`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from adapters.sqlite_apsw import QuietSqlite
from capture import meta as metas
from capture.install import add_columns, install
from capture.postgres_shapes import keep, stamp, void
from capture.postgres_source import PostgresSource
from capture.postgres_tail import PostgresTail, ReverseSettings, Start
from capture.sqlite_source import SqliteSource
from capture.sqlite_triggers import NOW_MS
from capture.tail import CaptureSettings, CaptureTail
from cutover.authority import AuthorityRow
from cutover.checkpoints import Checkpoints
from cutover.drain import Reached, reached_back
from cutover.final import FinalSettings, FinalVerify, Marks
from cutover.objects import Objects, OpenedObjects
from cutover.prepare import prepare_source, prepare_target, prove
from cutover.replay import Replay
from cutover.rollback import Rollback, RollbackSettings
from cutover.source_fence import Group, SourceFence, Writable
from cutover.switch import Switch, SwitchSettings
from cutover.target_guard import TargetGuard
from cutover.way_back import WayBack
from schemas.authority import Authority
from schemas.bookkeeping import statements
from schemas.change import Position
from schemas.checkpoint import Checkpoint
from schemas.errors import TailraceError
from schemas.formats import CONFIGURATION
from schemas.introspect import introspect
from schemas.objects import parents_of, wanted_views
from schemas.plan import TablePlan, plan_from_json
from schemas.ports import Transport
from sink.postgres_target import PostgresTarget
from sink.progress import read_progress
from sink.sqlite_target import SqliteTarget
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail
from tests.fakes.transport import FakeTransport
from tests.model.world import SteppingClock
from verify.verification import Verification

TABLE = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, u TEXT UNIQUE)"


class SteppedClock(SteppingClock):
    def __init__(self, step: Callable[[], None]) -> None:
        super().__init__()
        self._step = step

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        self._step()


class Side:
    """One source with its four streams."""

    def __init__(self, rig: Rig, name: str, ddl: tuple[str, ...]) -> None:
        self.name = name
        self.path = rig.folder / f"{name}.db"
        self.app = rig.sqlite(self.path, create=True)
        self.app.run(f"PRAGMA journal_mode={rig.journal_mode}")
        for statement in ddl:
            self.app.run(statement)
        self.identity = f"identity-{name}"
        install(self.app, self.identity)
        prepare_source(self.app)
        source = SqliteSource(rig.sqlite(self.path), name)
        reader = SqliteSource(rig.sqlite(self.path), name)
        self.capture = CaptureTail(
            source, rig.transport, rig.registry, rig.clock, CaptureSettings("p", name, heartbeat_ms=500)
        )
        target = PostgresTarget(rig.postgres(), rig.registry, name)
        self.sink = SinkTail(name, target, rig.transport, rig.clock, SinkSettings("p", look_ms=1), owner=f"f-{name}")
        self.copy = SnapshotTail(reader, reader, rig.postgres(), rig.registry, rig.clock)
        back_capture = PostgresTail(
            PostgresSource(rig.postgres(), rig.postgres(), name),
            rig.transport,
            rig.registry,
            rig.clock,
            ReverseSettings("p-back", heartbeat_ms=500),
            start_of=lambda: rig.start_of(self),
            lost=lambda token, tables: rig.row.lose(token, tables),
            grown=lambda token, before, grown: keep(rig.target, token, before, grown),
        )
        self.back_capture = WayBack(back_capture, rig.postgres(), name)
        back = SqliteTarget(
            rig.quiet(self.path),
            rig.sqlite(self.path),
            rig.registry,
            name,
            numbers=lambda: {one.name: number for number, one in metas.read(self.app).tables.items()},
            add_columns=add_columns,
            topic_ids=rig.transport.topic_ids,
            now_ms=NOW_MS,
        )
        self.back_target = back
        back_sink = SinkTail(
            name, back, rig.transport, rig.clock, SinkSettings("p-back", group="back", look_ms=1), owner=f"b-{name}"
        )
        self.back_sink = WayBack(back_sink, rig.postgres(), name)


class Rig:
    """`cases` and `auth`, one migration."""

    def __init__(
        self,
        folder: Path,
        url: str,
        *ddl: str,
        stream: Transport | None = None,
        wall_clock: bool = False,
        journal_mode: str = "wal",
    ) -> None:
        self.folder = folder
        self.journal_mode = journal_mode
        self.url = url
        self.opened: list[SqliteDatabase | Postgres | QuietSqlite] = []
        self.clock = SteppedClock(self.step)
        if wall_clock:  # verbs that run beside it look at the real one
            self.clock.ms = time.time_ns() // 1_000_000
        self.transport: Transport = stream or FakeTransport()
        self.registry = TopicRegistry(self.transport, "p.schemas")
        self.target = self.postgres()
        for statement in statements():
            self.target.run(statement)
        self.between: Callable[[], None] = lambda: None
        self.said: list[str] = []
        self.stopped: set[str] = set()
        self.timeline = "00000001"
        self.sides = {name: Side(self, name, ddl or (TABLE,)) for name in ("auth", "cases")}
        self.row = AuthorityRow(self.target, actor="test")

    def sqlite(self, path: Path, *, create: bool = False, timeout_s: float = 0.2) -> SqliteDatabase:
        made = SqliteDatabase(path, create=create, timeout_s=timeout_s)
        self.opened.append(made)
        return made

    def quiet(self, path: Path) -> QuietSqlite:
        made = QuietSqlite(path)
        self.opened.append(made)
        return made

    def postgres(self) -> Postgres:
        made = Postgres(self.url, application_name="rig")
        self.opened.append(made)
        return made

    def step(self) -> None:
        self.between()
        for side in self.sides.values():
            for name in ("capture", "sink", "copy", "back_capture", "back_sink"):
                if name in self.stopped:
                    continue
                try:
                    getattr(side, name).step()
                except TailraceError as error:
                    self.said.append(f"{side.name}.{name}: {error}")

    def settle(self) -> None:
        for _ in range(400):
            self.step()
            if all(
                (found := read_progress(self.target, side.name)) is not None
                and found.consistent
                and found.applied >= side.app.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
                for side in self.sides.values()
            ):
                return
        raise AssertionError(f"not settled: {self.said[-5:]}")

    def settle_back(self) -> None:
        """Until both sources hold what the target's log held when this began."""
        label = self.target.rows(
            "SELECT txid_snapshot_xmax(s) - (SELECT count(*) FROM txid_snapshot_xip(s)) FROM txid_current_snapshot() s"
        )[0][0]
        for _ in range(400):
            self.step()
            if all((one := self.look_back()[name]) is not None and one.applied >= label for name in self.sides):
                return
        raise AssertionError(f"not settled back: {self.said[-5:]}")

    def plans(self) -> list[TablePlan]:
        return [plan_from_json(text) for (text,) in self.target.rows("SELECT plan::text FROM tailrace.tables")]

    def start_of(self, side: Side) -> Start | None:
        row = self.row.read()
        if row.authority not in (Authority.TARGET, Authority.TO_SOURCE) or row.restoring is not None:
            return None
        at = stamp(self.target, side.name)
        plans = tuple(plan for plan in self.plans() if plan.source == side.name)
        return Start(
            row.token,
            Position(row.reverse_label, row.reverse_start),
            "server",
            plans,
            at,
            void(self.target, side.name),
            self.timeline,
        )

    def look(self) -> dict[str, Reached | None]:
        found = {name: read_progress(self.target, name) for name in self.sides}
        return {name: None if one is None else Reached(one.applied, one.consistent) for name, one in found.items()}

    def look_back(self) -> dict[str, Reached | None]:
        return {name: reached_back(side.app) for name, side in self.sides.items()}

    def tables(self) -> dict[str, Writable]:
        found = {name: introspect(side.app) for name, side in self.sides.items()}
        return {name: Writable(one.schema_version, tuple(one.tables)) for name, one in found.items()}

    def fence(self) -> SourceFence:
        names = sorted(self.sides)
        db = self.sqlite(self.sides[names[0]].path)
        schemas = {names[0]: "main"}
        for name in names[1:]:
            db.attach(self.sides[name].path, f"s_{name}")
            schemas[name] = f"s_{name}"
        return SourceFence([Group(db, schemas)])

    def guard(self, target: Postgres | None = None) -> TargetGuard:
        session = target or self.target
        return TargetGuard(session, AuthorityRow(session, actor="test"), self.plans(), self.objects(session))

    def objects(self, session: Postgres) -> OpenedObjects:
        return OpenedObjects(session, self._look_at_objects, lambda action, text: self.said.append(f"{action}: {text}"))

    def _look_at_objects(self) -> list[Objects]:
        found = []
        for name, side in self.sides.items():
            database = introspect(side.app)
            parents = parents_of(database, {plan.table: plan for plan in self.plans() if plan.source == name})
            views, _ = wanted_views(database, parents, "all", schema=name)
            found.append(Objects(parents, views, database.sequences))
        return found

    def install_back(self) -> None:
        prepare_target(self.target)
        assert {} == prove(self.target, self.plans())

    def final(self, *, keys: int = 5000, budget_s: float = 60.0) -> FinalVerify:
        session = self.postgres()
        checks = {}
        for name, side in self.sides.items():
            source = SqliteSource(self.sqlite(side.path), name)
            checks[name] = Verification(source, source, session, self.clock, expected=())
        marks = Marks(session, self.transport, prefix="p")
        return FinalVerify(marks, self.transport, self.registry, checks, self.clock, FinalSettings(keys, budget_s))

    def switch(self, actor: str = "test", final: FinalVerify | None = None, **settings: float) -> Switch:
        session = self.postgres()
        row = AuthorityRow(session, actor=actor)
        return Switch(
            row,
            self.fence(),
            TargetGuard(session, row, self.plans(), self.objects(session)),
            self.clock,
            SwitchSettings(**settings),  # type: ignore[arg-type]
            tables=self.tables,
            look=self.look,
            verify=final.verify if final is not None else None,
            before_open=[("sequences", lambda _: self.objects(session).set_sequences())],
        )

    def rollback(self, actor: str = "test") -> Rollback:
        session = self.postgres()
        row = AuthorityRow(session, actor=actor)
        return Rollback(
            session,
            row,
            self.fence(),
            TargetGuard(session, row, self.plans(), self.objects(session)),
            self.clock,
            RollbackSettings(),
            look_back=self.look_back,
        )

    def checkpoints(self, session: Postgres | None = None) -> Checkpoints:
        target = session or self.target
        return Checkpoints(target, self.transport, list(self.sides), self.clock, actor="test", back_prefix="p-back")

    def checkpoint(self, name: str = "") -> Checkpoint:
        points = self.checkpoints()
        return points.keep(points.look("test", self.row.read()), name)

    def replay(self, *, window_ms: int = 7 * 24 * 3600 * 1000) -> Replay:
        session = self.postgres()
        return Replay(
            session,
            AuthorityRow(session, actor="replay"),
            self.transport,
            self.registry,
            self.checkpoints(session),
            lambda name: SqliteDatabase(self.sides[name].path),
            prefix="p",
            back_prefix="p-back",
            window_ms=window_ms,
            owner="replay",
        )

    def source_rows(self, name: str, sql: str = "SELECT * FROM t ORDER BY id") -> list[tuple[object, ...]]:
        return self.sides[name].app.rows(sql)

    def target_rows(self, name: str, sql: str = "SELECT * FROM {}.t ORDER BY id") -> list[tuple[object, ...]]:
        return self.target.rows(sql.format(name), prepare=False)

    def close(self) -> None:
        for one in self.opened:
            one.close()
        self.transport.close()


FILLED = "INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b')"


def configure(folder: Path, url: str, more: str = "") -> Path:
    """The configuration of a rig in this folder, for what reads one; returns its path."""
    path = folder / "tailrace.toml"
    path.write_text(
        f'target_database_url = "{url}"\nformat = {CONFIGURATION.current}\n'
        '[source_databases]\nauth = "auth.db"\ncases = "cases.db"\n[transport]\nprefix = "p"\n' + more
    )
    return path


@contextmanager
def begun(made: Rig, *fills: str) -> Iterator[Rig]:
    """Copied, and ready for a switch. `fills`: what each source runs before, its name for a question mark."""
    try:
        for name, side in made.sides.items():
            for one in fills:
                side.app.run(one, (name,) if "?" in one else ())
        made.settle()
        made.install_back()
        yield made
    finally:
        made.close()


def application(rig: Rig) -> Postgres:
    """A session of the application's own role: the guard binds it."""
    rig.target.run(
        "DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'app'; EXCEPTION WHEN duplicate_object THEN END $$"
    )
    rig.target.run("GRANT USAGE ON SCHEMA auth, cases TO application")
    rig.target.run("GRANT ALL ON ALL TABLES IN SCHEMA auth, cases TO application")
    url = rig.url.split("@")[1]
    made = Postgres(f"postgresql://application:app@{url}", application_name="application")
    rig.opened.append(made)
    return made
