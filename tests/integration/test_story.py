"""The whole story: an application of a hundred users goes to PostgreSQL, back, there and back again, and there for good."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.cutover_wiring import reports_of
from cutover.authority import AuthorityRow
from examples.legal_cases.oracle import acknowledged, judge
from examples.legal_cases.repository import (
    PostgresStore,
    SqliteStore,
    Store,
    login_url,
    prepare_postgres,
    rebuild_search,
)
from examples.legal_cases.routed import STOP_FILE, start
from ops.config import load
from tests.fix_kafka import clear_topics
from tests.fix_pipeline import Pipeline

# A test makes no backup, and its server has one superuser for everybody but the application.
KNOWN = ("--waive", "backup", "--waive", "target role")
# Waived by name once: the full-text index and the view stay in SQLite; the triggers have their counterparts.
OBJECTS = ("--waive", "object:cases.case_search", "--waive", "object:cases.open_case_titles")
WRONG = ("differing", "missing", "extra")
SETTINGS = """
[shift]
increments = [10, 100]
bake_seconds = 1
min_samples = 10
[health]
interval_s = 0.5
window_s = 30
# A loaded machine is slow on both sides, now on this one, now on that.
latency_floor_ms = 10000
"""


class Application:
    """Its processes, and what they said."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.processes: list[subprocess.Popen[bytes]] = []

    def start(self, *, processes: int, threads: int, rate: float) -> None:
        self.processes = start(self.folder, self.url, processes=processes, threads=threads, rate=rate)

    def at(self, side: str) -> int:
        return acknowledged(self.folder).at(side)

    def stop(self) -> None:
        (self.folder / STOP_FILE).touch()
        for process in self.processes:
            assert 0 == process.wait(timeout=120)

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
    made.config_path.write_text(made.config_path.read_text() + SETTINGS)
    made.config = load(made.config_path)
    yield made
    made.close()


def step(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.run(*arguments)
    assert 0 == done.returncode, f"{arguments}: {done.stdout}\n{done.stderr}\n{pipeline.story()}"
    return done.stdout


def switch(pipeline: Pipeline, *waived: str) -> None:
    """On a loaded machine a writer may hold its lock for too long: refused, or taken back, and tried again."""
    for _ in range(10):
        done = pipeline.run("cutover", *waived)
        if done.returncode == 0:
            return
        assert any(word in done.stderr for word in ("writers ", "fence-busy", "source-busy", "drain-timeout")), (
            done.stderr
        )
        time.sleep(1)
    pytest.fail(f"not switched: {done.stdout}\n{done.stderr}\n{pipeline.story()}")


def grows(app: Application, side: str, *, by: int) -> Callable[[], bool]:
    before = app.at(side)
    return lambda: app.at(side) >= before + by


def nothing_is_wrong(app: Application, store: Store, *, ended: bool = False) -> None:
    """Every acknowledged write is at this side exactly once, and what the application's triggers keep is exact."""
    try:
        found = judge(app.folder, store, ended=ended)
    finally:
        store.close()
    assert {} == found.wrong, found.errors[:3]
    assert found.acknowledged.total


def proven_equal(pipeline: Pipeline) -> None:
    """A row that never stands still while it is looked at is not compared, and looked at again; none may differ."""
    for _ in range(4):
        done = pipeline.run("verify", "--json")
        sources = json.loads(done.stdout)["sources"].values()
        wrong = {word: sum(table[word] for one in sources for table in one["tables"]) for word in WRONG}
        assert dict.fromkeys(WRONG, 0) == wrong
        if done.returncode == 0:
            return
    pytest.fail(f"not compared: {done.stdout}")


def well_looked_at(pipeline: Pipeline) -> bool:
    told = json.loads(pipeline.run("shift", "--status", "--json").stdout)
    return bool(told["watched"]) and all(one["outcome"] != "failed" for one in told["health"]["checks"])


@pytest.mark.timeout(1800)
def test_there_and_back_twice_and_there_for_good(moving: Pipeline, database_url: str) -> None:
    """Audit rows and counters stay exact over two rollbacks: each application trigger fires once for a change."""
    pipeline = moving
    app = Application(pipeline.folder, login_url(database_url, "app"))
    try:
        app.start(processes=4, threads=25, rate=20)
        pipeline.until(grows(app, "source", by=20), timeout_s=120)
        pipeline.install()
        pipeline.start()
        pipeline.settle(timeout_s=180)
        prepare_postgres(database_url, "app")
        proven_equal(pipeline)
        pipeline.until(lambda: well_looked_at(pipeline), timeout_s=120)
        step(pipeline, "checkpoint", "before")
        step(pipeline, "shift", "auto")
        assert (0, 10_000) == _reads(database_url)

        switch(pipeline, *KNOWN, *OBJECTS)
        pipeline.until(grows(app, "target", by=50), timeout_s=120)
        assert {_token(database_url)} == _epochs(pipeline)
        nothing_is_wrong(app, PostgresStore(app.url))
        said = step(pipeline, "rollback", "--reason", "a trial")
        assert "cases.case_search: it does not know the rows that were written on PostgreSQL" in said
        rebuild_search(pipeline.folder)
        pipeline.until(grows(app, "source", by=30), timeout_s=120)
        nothing_is_wrong(app, SqliteStore(pipeline.folder))

        step(pipeline, "replay", "--from", "before")
        proven_equal(pipeline)
        switch(pipeline, *KNOWN)
        pipeline.until(grows(app, "target", by=30), timeout_s=120)
        nothing_is_wrong(app, PostgresStore(app.url))
        step(pipeline, "rollback", "--reason", "another trial")
        rebuild_search(pipeline.folder)
        pipeline.until(grows(app, "source", by=30), timeout_s=120)
        nothing_is_wrong(app, SqliteStore(pipeline.folder))

        proven_equal(pipeline)
        switch(pipeline, *KNOWN)
        pipeline.until(grows(app, "target", by=30), timeout_s=120)
        step(pipeline, "complete", "--yes", "COMPLETE")
        pipeline.until(grows(app, "target", by=20), timeout_s=120)
        app.stop()
    finally:
        app.close()
    figures = reports_of(pipeline.config, None)
    assert ((), {}) == (figures.unreadable, dict(figures.instances)), "they ended as they should"
    nothing_is_wrong(app, PostgresStore(app.url), ended=True)


def _epochs(pipeline: Pipeline) -> set[int]:
    deadline = time.monotonic() + 30
    while len(found := {one.epoch for one in reports_of(pipeline.config, None).instances.values()}) > 1:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    return found


def _token(url: str) -> int:
    return _reads(url)[0]


def _reads(url: str) -> tuple[int, int]:
    """(token, share of the reads)"""
    target = Postgres(url, application_name="look")
    try:
        row = AuthorityRow(target, actor="test").read()
        return row.token, row.read_share
    finally:
        target.close()
