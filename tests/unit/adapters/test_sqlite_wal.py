"""How much of the -wal cannot be written back."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from adapters.sqlite import SqliteDatabase

HOLD = """
import fcntl, sys
shm = open(sys.argv[1], "r+b")
fcntl.lockf(shm, fcntl.LOCK_EX, 1, 121)
print("held", flush=True)
sys.stdin.read()
"""
"""Byte 121 of the -shm is WAL_CKPT_LOCK (sqlite.org/walformat.html, section 2.3.1)."""


def test_a_checkpoint_of_somebody_else_is_no_recovery(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(SqliteDatabase(path, create=True)) as database, closing(sqlite3.connect(path)) as reader:
        database.run("PRAGMA journal_mode=WAL")
        database.run("CREATE TABLE t (a)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        database.run("INSERT INTO t VALUES (zeroblob(200000))")
        behind = database.wal_backlog_bytes(above_bytes=1000)
        assert behind is not None
        assert behind > 200_000
        holder = subprocess.Popen(
            [sys.executable, "-c", HOLD, f"{path}-shm"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        assert holder.stdout is not None
        assert b"held\n" == holder.stdout.readline()
        assert database.wal_backlog_bytes(above_bytes=1000) is None
        holder.communicate()
        assert behind == database.wal_backlog_bytes(above_bytes=1000)
        reader.execute("ROLLBACK")
        assert 0 == database.wal_backlog_bytes(above_bytes=1000)
