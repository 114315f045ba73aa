"""The whole story: an application in several processes goes to PostgreSQL, back, and there for good, through the router."""

from __future__ import annotations

import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest

from adapters.postgres import Postgres
from cli.cutover_wiring import reports_of
from cutover.authority import AuthorityRow
from examples.legal_cases.build import LEDGER_TOTAL
from examples.legal_cases.repository import install_triggers
from examples.legal_cases.routed import STOP_FILE, start
from tests.fix_kafka import clear_topics
from tests.fix_pipeline import Pipeline

# A test makes no backup, and its server has one superuser for everybody but the application.
KNOWN = ("--waive", "backup", "--waive", "target role")
# Waived by name once: the full-text index and the view stay in SQLite; the triggers have their counterparts.
OBJECTS = ("--waive", "object:cases.case_search", "--waive", "object:cases.open_case_titles")


class Application:
    """Its processes, and what they said."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, **settings: float) -> None:
        self.processes = start(self.folder, self.url, **settings)  # type: ignore[arg-type]

    def acks(self) -> list[list[str]]:
        found = [line.split() for path in self.folder.glob("routed-*.acks") for line in path.read_text().splitlines()]
        return [line for line in found if len(line) == 3]

    def at(self, side: str) -> int:
        return sum(line[2] == side for line in self.acks())

    def errors(self) -> list[str]:
        return [line for path in self.folder.glob("routed-*.errors") for line in path.read_text().splitlines()]

    def stop(self) -> None:
        (self.folder / STOP_FILE).touch()
        for process in self.processes:
            assert 0 == process.wait(timeout=90)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.fixture(params=["local", pytest.param("kafka", marks=pytest.mark.soak)])
def moving(request: pytest.FixtureRequest, tmp_path: Path, database_url: str) -> Iterator[Pipeline]:
    kafka = ""
    if request.param == "kafka":
        kafka = request.getfixturevalue("kafka_address")
        clear_topics(kafka)
    made = Pipeline(tmp_path / "run", database_url, kafka=kafka)
    yield made
    made.close()


def application(pipeline: Pipeline, url: str) -> Application:
    """A login of its own, as the guard and the application's triggers want it."""
    with psycopg.connect(url, autocommit=True) as admin:
        sink_role = admin.execute("SELECT session_user").fetchone()
        assert sink_role is not None
        admin.execute(
            "DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'app'; EXCEPTION WHEN duplicate_object THEN END $$"
        )
        admin.execute("ALTER ROLE application LOGIN PASSWORD 'app'")
        admin.execute("GRANT USAGE ON SCHEMA auth, cases TO application")
        admin.execute("GRANT ALL ON ALL TABLES IN SCHEMA auth, cases TO application")
        install_triggers(admin, str(sink_role[0]))
    parts = urlsplit(url)
    host = (parts.netloc).rpartition("@")[2]
    return Application(pipeline.folder, urlunsplit(parts._replace(netloc=f"application:app@{host}")))


def step(pipeline: Pipeline, *arguments: str) -> None:
    done = pipeline.run(*arguments)
    assert 0 == done.returncode, f"{arguments}: {done.stdout}\n{done.stderr}\n{pipeline.story()}"


def grows(app: Application, side: str, *, by: int) -> Callable[[], bool]:
    before = app.at(side)
    return lambda: app.at(side) >= before + by


def shift(url: str, share: int) -> None:
    target = Postgres(url, application_name="shift")
    try:
        row = AuthorityRow(target, actor="test")
        row.set(row.read().token, {"read_share": str(share)}, verb="shift", detail={})
    finally:
        target.close()


def once_each(app: Application, url: str) -> None:
    """Every acknowledged write is on PostgreSQL exactly once, and what the application's triggers keep is exact."""
    acked = Counter(name for name, kind, _ in app.acks() if kind != "login")
    logins = {name for name, kind, _ in app.acks() if kind == "login"}
    assert {1} == set(acked.values())
    with psycopg.connect(url, autocommit=True) as db:

        def rows(statement: str) -> list[tuple[object, ...]]:
            return db.execute(statement.encode()).fetchall()

        written = Counter(str(what) for (what,) in rows("SELECT what FROM cases.audit WHERE what LIKE '1-%'"))
        assert acked == Counter({name: written[name] for name in acked})
        assert set() == set(written) - set(acked), "what nobody acknowledged was not written either"
        assert set() == logins - {str(token) for (token,) in rows("SELECT token FROM auth.sessions")}
        assert [(LEDGER_TOTAL,)] == rows("SELECT sum(balance) FROM cases.ledger")
        assert rows("SELECT count(*) FROM cases.cases") == rows("SELECT value FROM cases.counters WHERE name = 'cases'")
        told = "SELECT case_id, count(*) FROM cases.audit WHERE what = '{}' GROUP BY 1"
        added, removed = (dict(db.execute(told.format(what).encode()).fetchall()) for what in ("added", "removed"))
        assert {1} == set(added.values()) | set(removed.values())
        there = {case for (case,) in rows("SELECT id FROM cases.cases")}
        assert there == set(added) - set(removed)


def test_there_and_back_and_there_for_good(moving: Pipeline, database_url: str) -> None:
    pipeline = moving
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    app = application(pipeline, database_url)
    try:
        app.start(processes=3, threads=8, rate=20)
        pipeline.until(grows(app, "source", by=20), timeout_s=120)
        read_before = 0
        for share in (1000, 10_000):
            shift(database_url, share)

            def read_more() -> bool:
                figures = reports_of(pipeline.config, None).between(0, 1 << 60)
                return figures.target.requests > read_before  # noqa: B023

            pipeline.until(read_more, timeout_s=120)
            read_before = reports_of(pipeline.config, None).between(0, 1 << 60).target.requests
        step(pipeline, "verify")
        step(pipeline, "cutover", *KNOWN, *OBJECTS)
        pipeline.until(grows(app, "target", by=30), timeout_s=120)
        assert {_token(database_url)} == _epochs(pipeline)
        step(pipeline, "rollback", "--reason", "a trial")
        pipeline.until(grows(app, "source", by=30), timeout_s=120)
        assert [] == app.errors()
        step(pipeline, "verify")
        step(pipeline, "cutover", *KNOWN)
        pipeline.until(grows(app, "target", by=30), timeout_s=120)
        step(pipeline, "complete", "--yes", "COMPLETE")
        pipeline.until(grows(app, "target", by=20), timeout_s=120)
        app.stop()
    finally:
        app.close()
    assert [] == app.errors()
    figures = reports_of(pipeline.config, None)
    assert ((), {}) == (figures.unreadable, dict(figures.instances)), "they ended as they should"
    once_each(app, database_url)


def _epochs(pipeline: Pipeline) -> set[int]:
    deadline = time.monotonic() + 30
    while len(found := {one.epoch for one in reports_of(pipeline.config, None).instances.values()}) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def _token(url: str) -> int:
    target = Postgres(url, application_name="look")
    try:
        return AuthorityRow(target, actor="test").read().token
    finally:
        target.close()
