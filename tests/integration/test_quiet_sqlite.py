"""The connection of the way back: in a process of its own, on which no trigger fires."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.sqlite_apsw import QuietSqlite
from schemas.errors import Code, Failed, Transient
from schemas.model import BadText


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "quiet.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute("PRAGMA journal_mode=WAL")
        app.executescript(
            "CREATE TABLE t(a INTEGER PRIMARY KEY, b UNIQUE);"
            "CREATE TRIGGER no BEFORE INSERT ON t BEGIN SELECT RAISE(ABORT, 'fenced'); END;"
        )
    return path


@pytest.fixture
def quiet(path: Path) -> Iterator[QuietSqlite]:
    made = QuietSqlite(path)
    yield made
    made.close()


def test_no_process_loads_two_copies_of_sqlite() -> None:
    """Locks belong to the process: what one copy closes, the other one loses. A database that capture had open through both
    was called malformed by the application within minutes."""
    for modules in ("cli.daemons", "cli.cutover, cli.cutover_wiring", "sink.sqlite_target"):
        code = f"import sys, {modules}; sys.exit('apsw' in sys.modules)"
        assert 0 == subprocess.run([sys.executable, "-c", code], check=False).returncode


def test_no_trigger_fires(path: Path, quiet: QuietSqlite) -> None:
    with quiet.write():
        quiet.run("INSERT INTO t VALUES (?, ?)", (1, b"x"))
        quiet.run_all([("INSERT INTO t VALUES (?, CAST(? AS TEXT))", (2, BadText(b"\xff")))])
    with closing(sqlite3.connect(path)) as app:
        assert [(1, "blob"), (2, "text")] == app.execute("SELECT a, typeof(b) FROM t").fetchall()
        with pytest.raises(sqlite3.IntegrityError, match="fenced"):
            app.execute("INSERT INTO t VALUES (3, 3)")


def test_a_constraint_undoes_its_own_part_alone(path: Path, quiet: QuietSqlite) -> None:
    with quiet.write():
        quiet.run("INSERT INTO t VALUES (1, 'a')")
        with pytest.raises(Failed) as caught, quiet.write():
            quiet.run("INSERT INTO t VALUES (2, 'b')")
            quiet.run("INSERT INTO t VALUES (3, 'a')")
        assert Code.SOURCE_CONFLICT == caught.value.code
    assert [(1,)] == quiet.rows("SELECT a FROM t")


def test_a_killed_worker_is_a_rolled_back_transaction(path: Path, quiet: QuietSqlite) -> None:
    with pytest.raises(Transient), quiet.write():
        quiet.run("INSERT INTO t VALUES (1, 'a')")
        assert quiet.pid is not None
        os.kill(quiet.pid, signal.SIGKILL)
        quiet.run("INSERT INTO t VALUES (2, 'b')")
    assert [] == quiet.rows("SELECT a FROM t")
    with quiet.write():
        quiet.run("INSERT INTO t VALUES (3, 'c')")
    assert [(3,)] == quiet.rows("SELECT a FROM t")


def test_a_busy_file_is_told(path: Path) -> None:
    quiet = QuietSqlite(path, timeout_s=0.05)
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute("BEGIN IMMEDIATE")
        with pytest.raises(Transient), quiet.write():
            pass
    quiet.close()
