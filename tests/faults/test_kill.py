"""kill -9 of each process at every named point, and at random moments, with live writers: nothing is lost, nothing takes
effect twice, no manual step."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing

import pytest

from adapters.postgres import Postgres
from cli.beginning import install_source
from tests.fix_pipeline import ROLES, Pipeline

ROUNDS = int(os.environ.get("TAILRACE_FAULT_ROUNDS", "1"))
POINTS = [
    ("capture", "capture.before_send"),
    ("capture", "capture.after_send"),
    ("capture", "capture.before_watermark"),
    ("capture", "capture.after_watermark"),
    ("capture", "capture.mid_prune"),
    ("sink", "sink.before_apply"),
    ("sink", "sink.before_commit"),
    ("sink", "sink.after_commit"),
    ("snapshot", "snapshot.after_begin"),
    ("snapshot", "snapshot.mid_chunk"),
    ("snapshot", "snapshot.mid_finalise"),
]


def _clean(pipeline: Pipeline) -> None:
    for report in pipeline.verify():
        assert [] == [table.as_json() for table in report.tables if not table.clean]
        assert 0 < sum(table.rows for table in report.tables)


@pytest.mark.parametrize(("role", "point"), POINTS, ids=[point for _, point in POINTS])
def test_killed_at_a_named_point(pipeline: Pipeline, role: str, point: str) -> None:
    pipeline.install()
    pipeline.write(seconds=3)
    pipeline.start(*(other for other in ROLES if other != role))
    # The second time: the first is often the empty start.
    pipeline.start(role, at=f"{point}=kill:2")
    pipeline.wait_killed(role)
    pipeline.start(role)
    pipeline.end_writers()
    pipeline.settle()
    _clean(pipeline)


def test_killed_in_the_middle_of_a_merge(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    pipeline.kill("snapshot")
    pipeline.write(seconds=4)
    assert 0 == pipeline.run("reset", "cases", "--table", "documents", "--yes", "cases").returncode
    pipeline.start("snapshot", at="snapshot.mid_merge=kill")
    pipeline.wait_killed("snapshot")
    pipeline.start("snapshot")
    pipeline.end_writers()
    pipeline.settle()
    _clean(pipeline)


@pytest.mark.parametrize("seed", range(1, 2 * ROUNDS + 1))
def test_killed_at_random_moments_alone_and_together(pipeline: Pipeline, seed: int) -> None:
    rng = random.Random(seed)
    pipeline.install()
    pipeline.write(seconds=8)
    pipeline.start()
    for _ in range(6):
        time.sleep(rng.uniform(0.3, 1.4))
        victims = rng.sample(ROLES, rng.randrange(1, 4))
        for role in victims:
            pipeline.kill(role)
        pipeline.start(*victims)
    pipeline.end_writers()
    pipeline.settle()
    _clean(pipeline)


def test_second_capture_and_second_sink_refuse_naming_the_first(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    capture = pipeline.run("capture")
    assert 3 == capture.returncode
    assert str(pipeline.processes["capture"].pid) in capture.stderr
    sink = pipeline.run("sink")
    assert 3 == sink.returncode
    assert "tailrace-sink" in sink.stderr


def test_installing_again_changes_nothing(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    before = pipeline.run("status", "--json").stdout
    for name in pipeline.config.source_databases:
        install_source(pipeline.config, name, wal=True)
    pipeline.settle()
    assert '"phase": "following"' in before
    _clean(pipeline)


def test_killed_between_two_slices_of_a_large_cut(pipeline: Pipeline) -> None:
    """Applied in slices, killed in the middle: not consistent until the whole cut was written again."""
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("[limits]", "[limits]\nmax_transaction_rows = 60"))
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    pipeline.kill("sink")
    pipeline.write(seconds=3, rate=0)
    pipeline.end_writers()
    pipeline.start("sink", at="sink.mid_slice=kill:3")
    pipeline.wait_killed("sink")
    target = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="test")
    try:
        slices = target.rows(
            "SELECT source, applied, applying_to, consistent FROM tailrace.progress WHERE applying_to > 0"
        )
        assert 1 <= len(slices)
        assert all(applying > applied and not consistent for _, applied, applying, consistent in slices)
    finally:
        target.close()
    pipeline.start("sink")
    pipeline.settle()
    _clean(pipeline)


def test_killed_in_the_middle_of_the_installation(pipeline: Pipeline) -> None:
    """One transaction: a kill leaves nothing of ours, and the next start installs everything."""
    killed = subprocess.run(
        [sys.executable, "-m", "cli.main", "-c", str(pipeline.config_path), "up", "--until", "caught-up"],
        env={**pipeline.environment, "TAILRACE_AT": "capture.mid_install=kill"},
        capture_output=True,
        check=False,
    )
    assert -signal.SIGKILL == killed.returncode
    for name in pipeline.config.source_databases:
        with closing(sqlite3.connect(pipeline.config.source_path(name))) as app:
            ours = app.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%tailrace%'").fetchone()
            assert (0,) == ours
            assert ("ok",) == app.execute("PRAGMA integrity_check").fetchone()
    done = pipeline.run("up", "--until", "caught-up", "--timeout", "60")
    assert 0 == done.returncode, done.stderr
    _clean(pipeline)
