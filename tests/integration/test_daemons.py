"""Daemons from the outside: opened together, and what they leave in their log when they cannot open."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from ops.config import sample

OPEN = """
import sys
from pathlib import Path
from cli.wiring import open_registry, open_transport
from ops.config import load
config = load(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
transport = open_transport(config)
open_registry(config, transport)
transport.close()
"""


def _config(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "app.db")) as app:
        app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    path = folder / "tailrace.toml"
    path.write_text(sample({"app": "app.db"}) + "\n", encoding="utf-8")
    return path


def test_a_new_log_opened_by_several_at_once(tmp_path: Path) -> None:
    """SQLite refuses a simultaneous switch to WAL without waiting: each of them must still come up."""
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", OPEN, str(_config(folder))]
        daemons = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)]
        for daemon in daemons:
            assert daemon.stdout is not None
            assert b"ready\n" == daemon.stdout.readline()
        for daemon in daemons:
            assert daemon.stdin is not None
            daemon.stdin.write(b"\n")
            daemon.stdin.flush()
        codes = []
        for daemon in daemons:
            daemon.communicate(timeout=60)
            codes.append(daemon.returncode)
        assert [0] * 6 == codes


def test_a_daemon_that_cannot_open_says_so_in_its_log(tmp_path: Path) -> None:
    config = _config(tmp_path)
    (tmp_path / "tailrace-stream.db").write_bytes(b"not a database at all" * 100)
    for role in ("capture", "sink", "snapshot"):
        command = [sys.executable, "-m", "cli.main", "-c", str(config), role, "--quiet"]
        assert 1 == subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=60).returncode
    logs = list(tmp_path.rglob("error.log"))
    assert 1 == len(logs)
    assert 3 == sum("daemon.refused" in line and "SQLITE_NOTADB" in line for line in logs[0].read_text().splitlines())
