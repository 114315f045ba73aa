"""The file under our feet is not the one we knew: refused, with what happened and the next command; and that command works."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

from tests.fix_pipeline import ROLES, Pipeline


def _settled(pipeline: Pipeline) -> Path:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    return pipeline.folder / "cases.db"


def _copy(path: Path, to: Path) -> None:
    with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(to)) as target:
        source.backup(target)


def _restore(copy: Path, path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    shutil.copy(copy, path)


def _write(path: Path, count: int) -> None:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as app:
        for number in range(count):
            app.execute("UPDATE ledger SET balance = balance + 1 WHERE account = ?", (number % 40 + 1,))


def _refused(pipeline: Pipeline, code: str) -> None:
    pipeline.start("capture")
    assert 3 == pipeline.processes["capture"].wait(timeout=30)
    assert f"[{code}]" in pipeline.errors()
    assert "--accept-history" in pipeline.errors()


def _accepted(pipeline: Pipeline) -> None:
    done = pipeline.run("reset", "cases", "--accept-history", "--yes", "cases")
    assert 0 == done.returncode, done.stderr
    pipeline.start("capture")
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())


def test_older_copy_restored(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    _write(path, 30)
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    _refused(pipeline, "source-replaced")
    _accepted(pipeline)


def test_older_copy_restored_and_written_past_the_known_position(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    _write(path, 30)
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    _write(path, 200)
    _refused(pipeline, "source-forked")
    _accepted(pipeline)


def test_log_rows_deleted_by_hand(pipeline: Pipeline) -> None:
    path = _settled(pipeline)
    pipeline.kill("capture")
    _write(path, 30)
    with closing(sqlite3.connect(path, isolation_level=None)) as hand:
        head = hand.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0]
        hand.execute("DELETE FROM _tailrace_log WHERE seq BETWEEN ? AND ?", (head - 20, head - 10))
        hand.execute("DELETE FROM _tailrace_log WHERE seq < ?", (head - 20,))
    _refused(pipeline, "log-gap")
    _accepted(pipeline)


def test_another_database_in_its_place(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    pipeline.kill("capture")
    with closing(sqlite3.connect(path, isolation_level=None)) as hand:
        hand.execute("UPDATE _tailrace_meta SET value = 'another' WHERE key = 'identity'")
    _refused(pipeline, "source-replaced")


def test_started_over(pipeline: Pipeline) -> None:
    """Uninstalled and installed again: the new log counts from 1, below what the target has applied. That is no lag of
    zero, and its changes are no old ones."""
    path = _settled(pipeline)
    for role in ROLES:
        pipeline.kill(role)
    assert 0 == pipeline.run("uninstall", "--yes").returncode
    _write(path, 20)
    pipeline.install()
    status = json.loads(pipeline.run("status", "--json").stdout)
    for one in status["sources"].values():
        assert "unknown" == one["phase"]
        assert one["lag_changes"] is None
        assert one["consistent"] is None
    assert any("another installation" in reason for reason in status["blocking_reasons"])
    _refused(pipeline, "source-replaced")
    for name in pipeline.config.source_databases:
        done = pipeline.run("reset", name, "--accept-history", "--yes", name)
        assert 0 == done.returncode, done.stderr
    _write(path, 5)
    pipeline.start()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
