"""The backup of a file that others write to."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase

WRITER = """
import sqlite3, sys
app = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
app.execute("PRAGMA synchronous=OFF")
while True:
    app.execute("UPDATE t SET b = 'y' WHERE a = abs(random()) % 20000")
"""


@pytest.mark.timeout(60)
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_backup_ends_under_a_steady_writer(tmp_path: Path, mode: str) -> None:
    path = tmp_path / "busy.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        app.execute(f"PRAGMA journal_mode={mode}")
        app.execute("CREATE TABLE t(a INTEGER PRIMARY KEY, b)")
        app.execute("BEGIN")
        app.executemany("INSERT INTO t(b) VALUES (?)", [(b"x" * 900,) for _ in range(20_000)])
        app.execute("COMMIT")
    # A process of its own: a thread would share the interpreter's lock with the copy and hardly ever get between.
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)])
    source = SqliteDatabase(path, timeout_s=30)
    try:
        time.sleep(0.5)
        started = time.monotonic()
        source.backup(tmp_path / "copy.db")
        took_s = time.monotonic() - started
    finally:
        writer.kill()
        writer.wait()
        source.close()
    with closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
        assert ("ok",) == copy.execute("PRAGMA integrity_check").fetchone()
        assert (20_000,) == copy.execute("SELECT count(*) FROM t").fetchone()
    assert took_s < 30
