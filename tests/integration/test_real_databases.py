"""`init`, then `up --until caught-up` with a writer running, on databases from the real world: exit 0, verify clean."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pyproj.datadir
import pytest

from tests.nasty.meaning import differences

CHINOOK = Path(__file__).resolve().parents[3] / "shared" / "data" / "chinook.sqlite"
PROJ = Path(pyproj.datadir.get_data_dir()) / "proj.db"


def _tailrace(folder: Path, url: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", *arguments],
        cwd=folder,
        env={**os.environ, "TARGET": url, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )


@contextmanager
def _writer(path: Path, statements: list[str]) -> Iterator[list[int]]:
    """Runs the statements round and round in another thread; yields a list that counts them."""
    stop = threading.Event()
    done = [0]

    def write() -> None:
        with closing(sqlite3.connect(path, timeout=10, isolation_level=None)) as connection:
            while not stop.is_set():
                connection.execute(statements[done[0] % len(statements)])
                done[0] += 1
                stop.wait(0.005)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield done
    finally:
        stop.set()
        thread.join()


def _moved(tmp_path: Path, original: Path, url: str, statements: list[str]) -> str:
    path = tmp_path / "source.db"
    shutil.copy(original, path)
    path.chmod(0o644)
    made = _tailrace(tmp_path, url, "init", "source.db", "--target", "${TARGET}")
    assert 0 == made.returncode, made.stderr
    with _writer(path, statements) as done:
        up = _tailrace(tmp_path, url, "up", "--until", "caught-up", "--verify", "--timeout", "100")
        assert 0 == up.returncode, up.stderr + up.stdout
        assert up.stdout.rstrip().endswith("rows compared: equal")
        assert 0 < done[0]
    again = _tailrace(tmp_path, url, "up", "--until", "caught-up", "--timeout", "100", "--no-backup")
    assert 0 == again.returncode, again.stderr
    verified = _tailrace(tmp_path, url, "verify")
    assert 0 == verified.returncode, verified.stdout
    # And value for value by a reader that shares no code with what moved them.
    assert [] == list(differences(path, url, "source"))
    assert url.split(":")[2].split("@")[0] not in "".join(p.read_text() for p in tmp_path.glob("*.log"))
    return verified.stdout


@pytest.mark.slow
def test_chinook(tmp_path: Path, database_url: str) -> None:
    if not CHINOOK.exists():
        pytest.skip("chinook.sqlite is not part of this project")
    out = _moved(
        tmp_path,
        CHINOOK,
        database_url,
        [
            "UPDATE Track SET UnitPrice = UnitPrice + 0.01 WHERE TrackId % 97 = 0",
            "INSERT INTO Artist(Name) VALUES ('new')",
            "DELETE FROM PlaylistTrack WHERE rowid IN (SELECT rowid FROM PlaylistTrack LIMIT 3)",
            "INSERT OR REPLACE INTO Genre VALUES (3, 'Replaced')",
        ],
    )
    assert "11 tables" in out


@pytest.mark.slow
def test_proj_db_no_table_is_refused(tmp_path: Path, database_url: str) -> None:
    out = _moved(
        tmp_path,
        PROJ,
        database_url,
        [
            "UPDATE usage SET object_code = object_code WHERE rowid % 501 = 0",
            "UPDATE scope SET deprecated = 1 - deprecated WHERE code LIKE '%3'",
            "INSERT OR REPLACE INTO metadata VALUES ('written', 'while moving')",
            "DELETE FROM supersession WHERE rowid = (SELECT max(rowid) FROM supersession)",
        ],
    )
    assert "37 tables" in out


def test_plan_of_proj_db_refuses_nothing(tmp_path: Path) -> None:
    shutil.copy(PROJ, tmp_path / "proj.db")
    _tailrace(tmp_path, "postgresql://x:secret@127.0.0.1/x", "init", "proj.db")
    plan = _tailrace(tmp_path, "", "plan", "--json")
    assert 0 == plan.returncode, plan.stderr
    assert '"refused"' not in plan.stdout
    assert 37 == plan.stdout.count('"key_reason"')
