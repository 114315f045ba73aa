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
    assert f"[{code}" in pipeline.errors()
    assert "--accept-history" in pipeline.errors()


def _accepted(pipeline: Pipeline, *, copied: str = "") -> int:
    """Returns how many keys were touched. `copied`: why every table is copied again; empty: keys are touched, and only the
    table without a key is copied, since SQLite's backup moves the schema version as VACUUM does."""
    dry = pipeline.run("reset", "cases", "--accept-history", "--dry-run", "--json")
    done = pipeline.run("reset", "cases", "--accept-history", "--yes", "cases", "--json")
    assert 0 == done.returncode, done.stderr
    said = json.loads(done.stdout)
    assert json.loads(dry.stdout) == said, dry.stderr
    assert (bool(copied), copied in said.get("why", "")) == ("why" in said, True), said
    assert copied or set(said["resync"]) <= {"audit"}, said
    pipeline.start("capture")
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    return int(said["touched"])


def test_older_copy_restored(pipeline: Pipeline, tmp_path: Path) -> None:
    """What was published since goes back, and nothing else is sent but what lay below the copy's last watermarks."""
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    _write(path, 30)
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    _refused(pipeline, "source-replaced")
    assert 30 <= _accepted(pipeline) < 150


def _live(path: Path, seed: int) -> None:
    """Rows come, go and change, keys and unique values move; other ones for another seed."""
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as app:
        for at in range(seed, seed + 8):
            app.execute("UPDATE ledger SET balance = balance + ? WHERE account = ?", (seed, at))
            app.execute("INSERT INTO audit VALUES ('lived', ?, ?)", (at, f"{seed}"))
        app.execute("DELETE FROM ledger WHERE account = ?", (seed + 9,))
        app.execute("INSERT OR REPLACE INTO ledger VALUES (?, ?)", (1000 + seed % 3, seed))
        app.execute("UPDATE ledger SET account = account + 500 WHERE account = ?", (seed + 10,))
        app.execute("DELETE FROM audit WHERE rowid = (SELECT min(rowid) FROM audit)")


def test_two_older_copies_one_after_the_other(pipeline: Pipeline, tmp_path: Path) -> None:
    """The second copy is of the history that the first one gave up: what undid that history is undone again."""
    path = _settled(pipeline)
    _live(path, 1)
    pipeline.settle()
    _copy(path, tmp_path / "first.db")
    _live(path, 11)
    pipeline.settle()
    _copy(path, tmp_path / "second.db")
    _live(path, 4)
    pipeline.settle()
    for copy, seed in (("first.db", 15), ("second.db", 2), ("first.db", 20)):
        pipeline.kill("capture")
        _restore(tmp_path / copy, path)
        for more in range(4):
            _live(path, seed + more)
        _refused(pipeline, "source-")
        assert 20 < _accepted(pipeline)
        _live(path, seed + 7)
        pipeline.settle()


def test_a_fork_beside_a_schema_change_copies_every_table(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as app:
        app.execute("ALTER TABLE ledger ADD COLUMN note TEXT")
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    _refused(pipeline, "source-replaced")
    _accepted(pipeline, copied="than the stream knows")


def test_a_fork_behind_the_topics_window_copies_every_table(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    _write(path, 5)
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("[transport]", "[transport]\nreplay_window_s = 3600"))
    _refused(pipeline, "source-replaced")
    _accepted(pipeline, copied="before what the topics keep")


def test_older_copy_restored_and_written_past_the_known_position(pipeline: Pipeline, tmp_path: Path) -> None:
    path = _settled(pipeline)
    _copy(path, tmp_path / "old.db")
    _write(path, 30)
    pipeline.settle()
    pipeline.kill("capture")
    _restore(tmp_path / "old.db", path)
    _write(path, 200)
    _refused(pipeline, "source-forked")
    assert 30 <= _accepted(pipeline) < 150


def test_log_rows_deleted_by_hand(pipeline: Pipeline) -> None:
    path = _settled(pipeline)
    pipeline.kill("capture")
    _write(path, 30)
    with closing(sqlite3.connect(path, isolation_level=None)) as hand:
        head = hand.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0]
        hand.execute("DELETE FROM _tailrace_log WHERE seq BETWEEN ? AND ?", (head - 20, head - 10))
        hand.execute("DELETE FROM _tailrace_log WHERE seq < ?", (head - 20,))
    _refused(pipeline, "log-gap")
    _accepted(pipeline, copied="deleted by hand")


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
