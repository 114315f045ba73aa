"""The outside world goes away and comes back: the lag is told truly all the while, and everything recovers by itself."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from tests.fix_pipeline import Pipeline
from tests.fix_postgres import start_server


@pytest.mark.slow
def test_postgresql_gone_and_back(tmp_path: Path) -> None:
    server, url, folder = start_server(settings={"fsync": "on"})
    pipeline = Pipeline(tmp_path / "run", url)
    try:
        pipeline.install()
        pipeline.write(seconds=12)
        pipeline.start()
        pipeline.settle()
        server.kill()
        _remove_stale_lock(folder)
        time.sleep(2)
        document = json.loads(pipeline.run("status", "--json").stdout)
        for one in document["sources"].values():
            assert one["lag_changes"] is None
            assert one["lag_seconds"] is None
        assert not document["can_cutover"]
        server.start()
        pipeline.end_writers()
        pipeline.settle()
        assert all(report.clean for report in pipeline.verify())
        failures = [line for line in pipeline.errors().splitlines() if "target-unreachable" in line]
        assert 1 <= len(failures) <= 12, failures
    finally:
        pipeline.close()
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _remove_stale_lock(folder: Path) -> None:
    """A killed postmaster leaves its pid file; its orphaned children need a moment to go."""
    time.sleep(1.0)
    (folder / "server" / "data" / "postmaster.pid").unlink(missing_ok=True)


@pytest.mark.slow
def test_sink_paused_past_its_lease_cannot_write(pipeline: Pipeline) -> None:
    """SIGSTOP, its connections ended by the server, another sink takes over, SIGCONT: the old one gives up."""
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    old = pipeline.processes["sink"]
    old.send_signal(signal.SIGSTOP)
    from adapters.postgres import Postgres

    admin = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="admin")
    admin.run("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE 'tailrace-sink%%'")
    pipeline.start("sink")
    pipeline.write(seconds=3)
    pipeline.end_writers()
    pipeline.settle()
    owners = admin.rows("SELECT source, owner FROM tailrace.progress ORDER BY source")
    old.send_signal(signal.SIGCONT)
    assert 3 == old.wait(timeout=30)
    assert owners == admin.rows("SELECT source, owner FROM tailrace.progress ORDER BY source")
    admin.close()
    assert all(report.clean for report in pipeline.verify())


@pytest.mark.slow
def test_wal_grows_under_a_long_reader_and_recovers(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    path = pipeline.folder / "cases.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        reader.execute("SELECT count(*) FROM cases").fetchone()
        pipeline.write(seconds=4, rate=0)
        pipeline.end_writers()
        pipeline.settle()
        reader.execute("COMMIT")
    assert all(report.clean for report in pipeline.verify())
    with closing(sqlite3.connect(path)) as connection:
        busy, *_ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert 0 == busy


def test_application_never_sees_busy_because_of_us(pipeline: Pipeline) -> None:
    """busy_timeout=0: the share of SQLITE_BUSY with us is no larger than a few a thousand (pruning and touch)."""
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    busy = done = 0
    with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=0, isolation_level=None)) as app:
        for number in range(1500):
            try:
                app.execute("UPDATE ledger SET balance = balance WHERE account = ?", (number % 40 + 1,))
                done += 1
            except sqlite3.OperationalError:
                busy += 1
            time.sleep(0.001)
    pipeline.settle()
    assert busy <= 3, (busy, done)
