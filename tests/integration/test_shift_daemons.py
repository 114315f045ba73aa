"""The watch in the real capture daemon: steps on after a kill, brings reads back, and the writes after the switch."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.backup import backup_source
from ops.config import load
from ops.telemetry import Telemetry
from tests.fix_pipeline import Pipeline

SETTINGS = """
[shift]
increments = [50, 100]
bake_seconds = 1
min_samples = 20
[health]
interval_s = 0.3
window_s = 6
"""


class Router:
    """Writes what a router would report: windows of five seconds that overlap, so that no test waits for their beginning."""

    def __init__(self, folder: Path, target: Postgres) -> None:
        self._path = folder / "router" / "web-1.json"
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._target = target
        self.failures = 0
        self._windows: dict[int, dict[str, object]] = {}
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ended.wait(0.3):
            from_ms = time.time_ns() // 1_000_000 - 5000
            good = 100 - self.failures
            self._windows[from_ms] = {
                "from_ms": from_ms,
                "source": {"requests": 100, "failures": 0, "latencies": {"10": 100}},
                "target": {"requests": 100, "failures": self.failures, "latencies": {"10": good}},
            }
            self._windows = dict(list(self._windows.items())[-60:])
            epoch = self._target.rows("SELECT token FROM tailrace.migration")[0][0]
            document = {"format": 1, "instance": "web-1", "epoch": epoch, "windows": list(self._windows.values())}
            whole = self._path.with_suffix(".tmp")
            whole.write_text(json.dumps(document))
            whole.replace(self._path)

    def close(self) -> None:
        self._ended.set()
        self._thread.join()


@pytest.fixture
def watched(pipeline: Pipeline, database_url: str) -> Iterator[tuple[Pipeline, Router]]:
    pipeline.config_path.write_text(pipeline.config_path.read_text() + SETTINGS)
    pipeline.config = load(pipeline.config_path)
    pipeline.install()
    session = Postgres(database_url, application_name="simulated router")
    router = Router(pipeline.config.path(pipeline.config.run_folder), session)
    yield pipeline, router
    router.close()
    session.close()


def said(pipeline: Pipeline, *arguments: str) -> dict[str, object]:
    done = pipeline.run(*arguments, "--json")
    assert 0 == done.returncode, done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def row(database_url: str) -> tuple[str, int]:
    session = Postgres(database_url, application_name="test")
    try:
        return session.rows("SELECT authority, read_share FROM tailrace.migration")[0]  # type: ignore[return-value]
    finally:
        session.close()


def refused(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.run(*arguments)
    assert 3 == done.returncode, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize("point", ["shift.raised", pytest.param("shift.before_raise", marks=pytest.mark.soak)])
def test_a_watch_killed_at_any_point_leaves_a_named_stage(
    watched: tuple[Pipeline, Router], database_url: str, point: str
) -> None:
    pipeline, router = watched
    assert "nothing copied yet" in refused(pipeline, "shift", "10")
    pipeline.start("capture", at=f"{point}=kill")
    pipeline.start("sink", "snapshot")
    pipeline.settle()
    assert "were not proven equal" in refused(pipeline, "shift", "10")
    assert 0 == pipeline.run("verify").returncode
    pipeline.until(lambda: said(pipeline, "shift", "--status")["watched"] is True)
    assert "baking" == said(pipeline, "shift", "auto", "--detach")["stage"]
    pipeline.wait_killed("capture")
    state = said(pipeline, "shift", "--status")
    # Before the first whole window is there, the step is inconclusive and not over.
    assert state["stage"] in ("baking", "inconclusive")
    assert (1.0 if point == "shift.raised" else 0.5) == state["read_share"]
    pipeline.until(lambda: said(pipeline, "shift", "--status")["watched"] is False)
    assert "health unknown" in pipeline.run("status").stdout
    assert "nobody has looked" in refused(pipeline, "shift", "auto", "--dry-run")
    pipeline.start("capture")
    pipeline.until(lambda: said(pipeline, "shift", "--status")["watched"] is True)
    done = pipeline.run("shift", "auto")
    assert 0 == done.returncode, done.stdout + done.stderr
    assert "100 %: done" in done.stdout
    router.failures = 50
    pipeline.until(lambda: ("source", 0) == row(database_url))
    assert "shift.brought_back" in (pipeline.folder / "rollback.log").read_text()
    assert "performance.window" in (pipeline.folder / "performance.log").read_text()
    state = said(pipeline, "shift", "--status")
    assert ("brought-back", 0.0) == (state["stage"], state["read_share"])


def test_writes_come_back_by_themselves_in_a_process_of_its_own(
    watched: tuple[Pipeline, Router], database_url: str
) -> None:
    pipeline, router = watched
    pipeline.start()
    pipeline.settle()
    assert 0 == pipeline.run("verify").returncode
    pipeline.until(lambda: said(pipeline, "shift", "--status")["watched"] is True)
    for name in pipeline.config.source_databases:
        backup_source(pipeline.config, name, Telemetry("test", terminal=False))
    gates = json.loads(pipeline.run("cutover", "--dry-run", "--json").stdout)["gates"]
    red = [one["gate"] for one in gates if one["verdict"] not in ("pass", "waived")]
    done = pipeline.run("cutover", *(word for name in red for word in ("--waive", name)))
    assert 0 == done.returncode, done.stdout + done.stderr
    session = Postgres(database_url, application_name="application")
    session.run("UPDATE cases.ledger SET balance = balance + 5 WHERE account = 1")
    session.close()
    assert ("target", 10_000) == row(database_url)
    router.failures = 50
    pipeline.until(lambda: ("source", 0) == row(database_url), timeout_s=60)
    pipeline.until(lambda: "rollback.automatic_done" in (pipeline.folder / "rollback.log").read_text())
    assert "rollback.automatic: error rate" in (pipeline.folder / "rollback.log").read_text()
    pipeline.settle()
    assert 0 == pipeline.run("verify").returncode
