"""`up --embedded` as its user meets it: twice at once, killed, and started again."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from embedded.postgres import discard


class Run:
    """One configuration with one small source."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "app.db"
        self.config = folder / "tailrace.toml"
        self.started: list[subprocess.Popen[bytes]] = []
        with closing(sqlite3.connect(self.path)) as app:
            app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
            app.execute("CREATE TABLE t_pkey (id INTEGER PRIMARY KEY, v)")
            app.execute("CREATE TABLE w (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID")
            app.execute("INSERT INTO w VALUES (1, 2)")
            app.commit()
        assert 0 == self.call("init", str(self.path), "-o", str(self.config), config=False).returncode

    def _command(self, *arguments: str, config: bool = True) -> list[str]:
        chosen = ("-c", str(self.config)) if config else ()
        return [sys.executable, "-m", "cli.main", *chosen, *arguments]

    def call(self, *arguments: str, config: bool = True) -> subprocess.CompletedProcess[str]:
        command = self._command(*arguments, config=config)
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    def up(self) -> subprocess.Popen[bytes]:
        """Started, and waited for until its server answers a status."""
        process = subprocess.Popen(
            self._command("up", "--embedded", "--plain"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.started.append(process)
        deadline = time.monotonic() + 60
        while self.call("lag", "--wait", "--below", "0", "--for", "0s", "--timeout", "2").returncode:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.2)
        return process

    def insert(self, number: int) -> None:
        with closing(sqlite3.connect(self.path, timeout=10)) as app:
            app.execute("INSERT INTO t VALUES (?, ?)", (number, f"row {number}"))
            app.execute("INSERT INTO t_pkey VALUES (?, ?)", (number, f"row {number}"))
            app.commit()


@pytest.fixture
def run() -> Iterator[Run]:
    folder = Path(tempfile.mkdtemp(prefix="tailrace-up-"))
    folder.chmod(0o755)  # as root the server runs as another user
    made = Run(folder)
    yield made
    for process in made.started:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=60)
    shutil.rmtree(folder, ignore_errors=True)


def test_a_second_up_refuses_and_leaves_the_first_alone(run: Run) -> None:
    first = run.up()
    second = run.call("up", "--embedded", "--until", "caught-up")
    assert 3 == second.returncode
    assert f"pid {first.pid}" in second.stderr
    run.insert(1)
    assert 0 == run.call("lag", "--wait", "--below", "0", "--for", "1s", "--timeout", "30").returncode
    assert 0 == run.call("verify").returncode


def test_a_killed_up_starts_again_without_a_manual_step(run: Run) -> None:
    """Its server outlives it; the next one shuts that down and goes on with the same data."""
    run.insert(1)
    first = run.up()
    postmaster = run.config.parent / ".tailrace" / "postgres" / "data" / "postmaster.pid"
    os.kill(first.pid, signal.SIGKILL)
    first.wait()
    assert postmaster.exists()
    run.insert(2)
    again = run.call("up", "--embedded", "--plain", "--until", "caught-up", "--timeout", "60")
    assert 0 == again.returncode, again.stderr
    assert not postmaster.exists()
    run.up()
    assert 0 == run.call("verify").returncode


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's server runs as another user")
def test_root_may_work_in_a_folder_of_its_own(run: Run) -> None:
    """/root is closed to the user that the server runs as: the server then lives elsewhere, and goes on from there."""
    folder = run.config.parent
    folder.chmod(0o700)
    run.insert(1)
    for number in (2, 3):
        done = run.call("up", "--embedded", "--plain", "--until", "caught-up", "--timeout", "60")
        assert 0 == done.returncode, done.stderr
        run.insert(number)
    elsewhere = (folder / ".tailrace" / "postgres" / "elsewhere").read_text()
    run.up()
    assert 0 == run.call("verify").returncode
    for process in run.started:
        process.terminate()
        process.wait(timeout=60)
    discard(folder / ".tailrace" / "postgres")
    assert not Path(elsewhere).exists()
