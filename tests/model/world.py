"""Do: one source, one stream, one target and their three steppers in one process, under a simulated clock, with crashes,
stale processes, duplicates, resyncs, schema changes, checkpoints and replays at random points; seeded.

What must hold, always: whenever the target says `consistent` at seq S, its rows are the source's rows as they were at S."""

from __future__ import annotations

import bisect
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.install import install, request_resync
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from cutover.authority import AuthorityRow
from cutover.checkpoints import Checkpoints
from cutover.replay import Replay
from schemas.change import Message
from schemas.errors import Code, TailraceError, Transient
from schemas.plan import plan_from_json
from schemas.ports import TopicSettings, Transport
from schemas.rows import RowCodec
from sink.postgres_target import PostgresTarget
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SnapshotTail
from tests.fakes.transport import FakeTransport
from tests.model import sql_workload
from tests.model.application import ApplicationError, ApplicationProcess


class SteppingClock:
    """Every look at it is some milliseconds later."""

    def __init__(self) -> None:
        self.ms = 1_700_000_000_000
        self.set_back_ms = 0
        """By how much somebody set the machine's clock back; what is waited for goes on."""

    def now_ms(self) -> int:
        self.ms += 40
        return self.ms - self.set_back_ms

    def monotonic_ms(self) -> int:
        self.ms += 40
        return self.ms

    def monotonic_s(self) -> float:
        self.ms += 1
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class UnreliableTransport:
    """A stream that sometimes appends twice, sometimes appends a prefix (or all) and then fails."""

    def __init__(self, rng: Random, stream: Transport) -> None:
        self._rng = rng
        self._stream = stream
        self.reliable = False

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if self.reliable or len(messages) == 0:
            return self._stream.send(messages)
        chance = self._rng.random()
        if chance < 0.05:
            self._stream.send(messages)
        elif chance < 0.12:
            self._stream.send(messages[: self._rng.randrange(len(messages) + 1)])
            raise Transient(Code.STREAM_BUSY, "cut off in the middle", hint="again")
        return self._stream.send(messages)


class World:
    """See the module. `story` holds what happened, for a failure's message.

    Args:
        application: the process on the newest SQLite whose connections write; None: the standard library's, here.
        stream: where the topics are; None: in memory.
        replays: checkpoints are kept and replayed from. Off, a seed's history is the one it always was.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        seed: int,
        application: ApplicationProcess | None = None,
        stream: Transport | None = None,
        *,
        replays: bool = False,
    ) -> None:
        self.rng = Random(seed)
        self.replays = replays
        self.replayed = 0
        self.url = url
        self.name = f"m{seed}"
        self.story: list[str] = []
        # Every other world is calm: no resync and no schema change, so that it is consistent most of the time.
        self.calm = seed % 2 == 1
        # With several, the tombstone of 1 and the row of 1.0 travel on different ways.
        self.partitions = 1 if seed % 3 else 3
        self.clock = SteppingClock()
        self.transport: Any = UnreliableTransport(self.rng, stream or FakeTransport())
        self.path = folder / f"{self.name}.db"
        # Two connections of the application, as two of its processes would have them, each with its own pragmas.
        self.apps = [self._connected(application) for _ in range(2)]
        self.app = self.apps[0]
        self.app.execute("PRAGMA journal_mode=WAL").fetchall()
        for one in self.apps:
            one.execute("PRAGMA synchronous=OFF")
            for pragma in ("foreign_keys", "recursive_triggers"):
                one.execute(f"PRAGMA {pragma}={self.rng.randrange(2)}")
        for statement in (*sql_workload.schema(self.rng), "CREATE TABLE z(a PRIMARY KEY NOT NULL, b)"):
            self.app.execute(statement)
        for _ in range(12):
            self._try(sql_workload.statement(self.rng))
        if self.app.in_transaction:
            self._try("COMMIT")
        if self.app.in_transaction:
            self._try("ROLLBACK")
        db = SqliteDatabase(self.path)
        install(db, f"identity-{seed}")
        db.close()
        self.admin = Postgres(url, application_name="model")
        self.opened: list[SqliteDatabase | Postgres] = [self.admin]
        self.stale: list[CaptureTail | SinkTail] = []
        self.seqs: list[int] = []
        self.states: list[list[dict[str, list[str]]]] = []
        """States seen at each head: several where the schema changed, which moves no seq."""
        self.checked = 0
        self.extra = 0
        self.remember()
        self.open_capture()
        self.open_sink()
        self.open_copy()
        if replays:
            # Else most of a short history is its first copy, which no checkpoint is taken of.
            self.settle()
            self.transport.reliable = False

    # -- the parts -----------------------------------------------------------------------------------------------

    def _source(self) -> SqliteSource:
        db = SqliteDatabase(self.path)
        self.opened.append(db)
        return SqliteSource(db, self.name)

    def _postgres(self) -> Postgres:
        made = Postgres(self.url, application_name="model")
        self.opened.append(made)
        return made

    def _registry(self) -> TopicRegistry:
        return TopicRegistry(self.transport, f"p{self.name}.schemas")

    def open_capture(self) -> None:
        settings = CaptureSettings(
            f"p{self.name}",
            self.name,
            batch_rows=self.rng.choice((1, 2, 5, 50)),
            heartbeat_ms=500,
            prune_every_ms=self.rng.choice((100, 2000)),
            prune_batch_rows=self.rng.choice((1, 7, 1000)),
            topic=TopicSettings(partitions=self.partitions),
        )
        self.capture = CaptureTail(self._source(), self.transport, self._registry(), self.clock, settings)

    def open_sink(self) -> None:
        self.sink_session = self._postgres()
        settings = SinkSettings(f"p{self.name}", max_transaction_rows=self.rng.choice((3, 1000)), look_ms=20)
        self.sink = SinkTail(
            self.name,
            PostgresTarget(self.sink_session, self._registry(), self.name),
            self.transport,
            self.clock,
            settings,
            owner=str(self.rng.random()),
        )

    def open_copy(self) -> None:
        source = self._source()
        self.copy_session = self._postgres()
        self.copy = SnapshotTail(source, source, self.copy_session, self._registry(), self.clock)

    def _connected(self, application: ApplicationProcess | None) -> Any:
        if application is not None:
            return application.open(str(self.path))
        return sqlite3.connect(self.path, isolation_level=None)

    # -- the source ----------------------------------------------------------------------------------------------

    def _try(self, statement: str) -> None:
        try:
            self.app.execute(statement)
        except (sqlite3.Error, ApplicationError) as error:
            self.story.append(f"   ({error})")

    def write(self) -> None:
        """One application transaction, often with a savepoint that goes away, sometimes rolled back."""
        self.app = self.rng.choice(self.apps)
        if self.rng.random() < 0.1:
            self._try(f"PRAGMA {self.rng.choice(('foreign_keys', 'recursive_triggers'))}={self.rng.randrange(2)}")
        self.app.execute("BEGIN IMMEDIATE")
        for _ in range(self.rng.randrange(1, 5)):
            self._some_statement()
        if self.app.in_transaction:
            self._try("ROLLBACK" if self.rng.random() < 0.1 else "COMMIT")
        if self.app.in_transaction:
            self._try("ROLLBACK")  # a deferred foreign key refused the COMMIT
        self.remember()

    def _some_statement(self) -> None:
        if self.rng.random() < 0.25:
            a, b = self.rng.choice(sql_workload.VALUES), self.rng.choice(sql_workload.VALUES)
            statement = self.rng.choice(
                (
                    f"INSERT OR REPLACE INTO z VALUES ({a}, {b})",
                    f"DELETE FROM z WHERE a = {a}",
                    f"UPDATE OR IGNORE z SET a = {a}",
                )
            )
        else:
            statement = sql_workload.statement(self.rng)
        self.story.append(statement)
        if self.rng.random() < 0.15:
            for one in ("SAVEPOINT undone", statement, "ROLLBACK TO undone", "RELEASE undone"):
                self._try(one)
        else:
            self._try(statement)

    def drift(self) -> None:
        self.extra += 1
        number = self.extra
        change = self.rng.choice(
            (
                [f"ALTER TABLE t ADD COLUMN n{number}"],
                [f"ALTER TABLE z ADD COLUMN n{number} DEFAULT 5"],
                [
                    f"CREATE TABLE x{number}(a INTEGER PRIMARY KEY, b)",
                    f"INSERT INTO x{number} VALUES (1, 1), (-1, 'x')",
                ],
                ["VACUUM"],
                [
                    "BEGIN IMMEDIATE",
                    f"CREATE TABLE z{number}(a PRIMARY KEY NOT NULL, c)",
                    f"INSERT INTO z{number} SELECT a, b FROM z",
                    "DROP TABLE z",
                    f"ALTER TABLE z{number} RENAME TO z",
                    "INSERT OR IGNORE INTO z VALUES (99, 99)",
                    "COMMIT",
                ],
                [f"CREATE TRIGGER late{number} AFTER UPDATE ON z WHEN NEW.a = 1 BEGIN DELETE FROM z WHERE a = 2; END"],
                [f"CREATE INDEX i{number} ON t(w)"],
            )
        )
        self.story += change
        for statement in change:
            self._try(statement)
        if self.app.in_transaction:
            self.app.execute("ROLLBACK")
        self.remember(schema_changed=True)

    def remember(self, *, schema_changed: bool = False) -> None:
        """The state of the source at the head of its log."""
        head = self.app.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0] or 0
        state = self.source_state()
        if not self.seqs or self.seqs[-1] != head:
            self.seqs.append(head)
            self.states.append([state])
        elif self.states[-1][-1] != state:
            assert schema_changed or self._window(), self._told(f"a change at {head} was not logged")
            self.states[-1].append(state)

    def _window(self) -> bool:
        """Between a schema change and capture's rebuild a table made anew has no triggers: copied again, not logged."""
        known = self.app.execute("SELECT value FROM _tailrace_meta WHERE key = 'schema_version'").fetchone()[0]
        return int(known) != self.app.execute("PRAGMA schema_version").fetchone()[0]

    def source_state(self) -> dict[str, list[str]]:
        names = self.app.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE '\\_tailrace%' ESCAPE '\\' "
            "AND name NOT LIKE 'sqlite%'"
        ).fetchall()
        state = {}
        for (name,) in names:
            columns = [row[1] for row in self.app.execute(f"PRAGMA table_xinfo({name})")]
            rows = self.app.execute(f"SELECT {', '.join(columns)} FROM {name}").fetchall()
            state[name] = sorted(repr(sorted(zip(columns, row, strict=True))) for row in rows)
        return state

    # -- what must hold ------------------------------------------------------------------------------------------

    def check(self, *, whole: bool = False) -> bool:
        """Compare when the target calls itself consistent; True if it did."""
        with self.admin.snapshot():
            found = self.admin.rows("SELECT applied, consistent FROM tailrace.progress WHERE source = %s", (self.name,))
            if not found or not found[0][1]:
                return False
            applied = found[0][0]
            target = self._target_state()
        possible = self.states[bisect.bisect_right(self.seqs, applied) - 1]
        wrong = [[name for name, rows in target.items() if state.get(name) != rows] for state in possible]
        assert [] in wrong, self._told(f"tables {wrong} at {applied}")
        if whole:
            assert set(possible[-1]) <= set(target), self._told(f"tables {set(possible[-1])} at {applied}")
        self.checked += 1
        return True

    def _target_state(self) -> dict[str, list[str]]:
        state = {}
        for name, text in self.admin.rows(
            "SELECT \"table\", plan::text FROM tailrace.tables WHERE source = %s AND state <> 'gone'", (self.name,)
        ):
            plan = plan_from_json(text)
            columns = ", ".join(f'"{column.target}"' for column in plan.columns)
            found = self.admin.rows(
                f'SELECT {columns} FROM "{plan.target_schema}"."{plan.target_table}"', prepare=False
            )
            names = [column.name for column in plan.columns]
            rows = [
                [(column, value) for column, value in zip(names, row, strict=True) if column != "_tailrace_rowid"]
                for row in RowCodec(plan).rows_from_pg(found)
            ]
            state[name] = sorted(repr(sorted(row, key=lambda pair: pair[0])) for row in rows)
        return state

    def _told(self, what: str) -> str:
        return f"seed {self.name[1:]}: {what}\n" + "\n".join(self.story[-60:])

    # -- what happens --------------------------------------------------------------------------------------------

    def step(self, part: CaptureTail | SinkTail | SnapshotTail) -> None:
        try:
            part.step()
        except TailraceError as error:
            self.story.append(f"   [{type(part).__name__}: {error.code}]")

    def happen(self) -> None:
        if self.replays and self.rng.random() < 0.06:
            self._checkpoint_or_replay()
        chance = self.rng.random()
        if chance < 0.30:
            self.write()
        elif chance < 0.84:
            part = self.rng.choice((self.capture, self.sink, self.copy))
            self.step(part)
            if self.calm and part is self.sink:
                self.check()
        elif chance < 0.88:
            self._crash()
        elif chance < 0.92 and self.stale:
            self.story.append("stale process steps")
            self.step(self.rng.choice(self.stale))
        elif chance < 0.94 and not self.calm:
            self._resync()
        elif chance < 0.96 and not self.calm:
            self.drift()
        else:
            self.check()

    def _crash(self) -> None:
        """A part is gone and begins anew; half of the time the old one wakes up again later."""
        which = self.rng.choice(("capture", "sink", "copy"))
        self.story.append(f"{which} begins anew")
        if which == "capture":
            if self.rng.random() < 0.5:
                self.stale.append(self.capture)
            self.open_capture()
        elif which == "sink":
            # Its lease is lost with its session, whether it is dead or only paused.
            self.sink_session.close()
            if self.rng.random() < 0.5:
                self.stale.append(self.sink)
            self.open_sink()
        else:
            self.copy_session.close()
            self.open_copy()

    def _resync(self) -> None:
        db = SqliteDatabase(self.path)
        try:
            request_resync(db, self.rng.choice(("t", "z")))
            self.story.append("resync")
        except TailraceError as error:
            self.story.append(f"   [resync: {error.code}]")
        finally:
            db.close()

    def _checkpoint_or_replay(self) -> None:
        row = AuthorityRow(self.admin, actor="model")
        points = Checkpoints(self.admin, self.transport, [self.name], self.clock, actor="model", back_prefix="back")
        mine = [one for one in points.all() if set(one.sources) == {self.name}]
        try:
            if not mine or self.rng.random() < 0.4:
                points.keep(points.look("model", row.read()), f"{self.name}-{len(mine)}")
                return
            chosen = self.rng.choice(mine)
            Replay(
                self.admin,
                row,
                self.transport,
                self._registry(),
                points,
                lambda _: SqliteDatabase(self.path),
                prefix=f"p{self.name}",
                back_prefix="back",
                window_ms=24 * 3600 * 1000,
                owner=f"replay {self.rng.random()}",
            ).run(chosen)
            self.replayed += 1
            self.story.append(f"replay from {chosen.name} at {chosen.sources[self.name].applied}")
        except TailraceError as error:
            self.story.append(f"   [replay: {error.code}]")

    def settle(self) -> None:
        """No more writes, no more trouble: everything must come to rest, consistent and equal."""
        self.story.append("-- settling")
        self.transport.reliable = True
        for part in self.stale:
            self.step(part)
        self.stale = []
        for session in self.opened[1:]:
            if isinstance(session, Postgres):
                session.close()
        self.open_capture()
        self.open_sink()
        for _ in range(1500):
            for part in (self.capture, self.sink, self.copy):
                self.step(part)
            head = self.app.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0]
            found = self.admin.rows("SELECT applied, consistent FROM tailrace.progress WHERE source = %s", (self.name,))
            if found and found[0][1] and found[0][0] >= head:
                assert self.check(whole=True)
                return
        states = self.admin.rows('SELECT "table", state, reason FROM tailrace.tables WHERE source = %s', (self.name,))
        bad = self.admin.rows(
            'SELECT "table", key_text, reason FROM tailrace.quarantine WHERE source = %s', (self.name,)
        )
        raise AssertionError(self._told(f"not settled: {found} {head} {states} {bad}"))

    def close(self) -> None:
        for connection in self.apps:
            connection.close()
        for one in self.opened[1:]:
            one.close()
        self.admin.run(f'DROP SCHEMA IF EXISTS "{self.name}" CASCADE')
        for table in ("progress", "tables", "copies", "quarantine"):
            self.admin.run(f"DELETE FROM tailrace.{table} WHERE source = %s", (self.name,))
        self.admin.run("DELETE FROM tailrace.checkpoints WHERE sources ? %s", (self.name,))
        self.admin.close()
