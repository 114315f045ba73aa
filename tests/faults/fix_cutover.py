"""Do: a whole migration of two files under writers that know nothing of Tailrace, with real daemons and verbs in
processes of their own that may be killed, stopped or cut off at named points; and the oracle that judges what is left."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from ops.config import load, sample
from tests.faults.cutover_writer import SOURCES
from tests.fix_pipeline import Pipeline

WRITERS = (1, 2, 3)
PROBER = 9
LEASE_S = 3.0
APPLICATION = """DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'app';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"""


class Migration(Pipeline):
    """`auth` and `cases`, one table of rows and one of counters each.

    Args:
        reached: what Tailrace is told to connect to, where that is a proxy; writers go to `url`.
    """

    def __init__(self, folder: Path, url: str, *, kafka: str = "", reached: str = "", more: str = "") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.url = url
        for name in SOURCES:
            with closing(sqlite3.connect(folder / f"{name}.db")) as made:
                made.execute("PRAGMA journal_mode=WAL")
                made.execute("CREATE TABLE w(id TEXT PRIMARY KEY NOT NULL, writer INTEGER CHECK (writer >= 0))")
                made.execute("CREATE TABLE c(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
                made.executemany("INSERT INTO c VALUES (?, 0)", [(number,) for number in (*WRITERS, PROBER)])
                made.commit()
        self.config_path = folder / "tailrace.toml"
        text = sample(
            {name: f"{name}.db" for name in SOURCES}, target_url="${TAILRACE_TEST_TARGET}", bootstrap_servers=kafka
        )
        cutover = f"\n[cutover]\nlease_s = {LEASE_S}\ndrain_budget_s = 6.0\n"
        self.config_path.write_text(f"{text}\n{cutover}{more}")
        self.environment = {**os.environ, "TAILRACE_TEST_TARGET": reached or url}
        os.environ["TAILRACE_TEST_TARGET"] = reached or url
        self.config = load(self.config_path)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.writers: list[subprocess.Popen[bytes]] = []
        self.verbs: list[subprocess.Popen[bytes]] = []

    # -- the way there -------------------------------------------------------------------------------------------

    def follow(self) -> None:
        """Installed, copied, settled; the application has a role of its own and writes."""
        self.install()
        self.start()
        self.settle(timeout_s=90)
        proven = self.run("verify")
        assert 0 == proven.returncode, proven.stdout + proven.stderr
        self.admit()
        self.begin_writing()

    def admit(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(APPLICATION)
            for name in SOURCES:
                admin.execute(f"GRANT USAGE ON SCHEMA {name} TO application")
                admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO application")

    def application_url(self) -> str:
        return "postgresql://application:app@" + self.url.split("@")[1]

    def begin_writing(self) -> None:
        module = [sys.executable, "-m", "tests.faults.cutover_writer"]
        for what, number in [*(("write", number) for number in WRITERS), ("probe", PROBER)]:
            command = [*module, what, str(self.folder), str(number), self.application_url()]
            self.writers.append(subprocess.Popen(command))
        self.until(lambda: self.acknowledged() >= 10)

    def acknowledged(self) -> int:
        return len(self.told("a"))

    def told(self, mark: str) -> set[tuple[str, str]]:
        found = set()
        for path in self.folder.glob("writer-*.log"):
            lines = path.read_text().splitlines()
            found |= {(parts[1], parts[2]) for line in lines if len(parts := line.split()) == 3 and parts[0] == mark}
        return found

    def until_written(self, *, within_s: float) -> float:
        """Seconds until the application could write again."""
        begun_s, before = time.monotonic(), self.acknowledged()
        while self.acknowledged() < before + 5:
            assert time.monotonic() - begun_s < within_s, f"nobody can write: {self.row()}\n{self.story()}"
            time.sleep(0.05)
        return time.monotonic() - begun_s

    # -- verbs ---------------------------------------------------------------------------------------------------

    def verb(self, *arguments: str, at: str = "") -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "cli.main", "-c", str(self.config_path), *arguments, *_waived(arguments)]
        with (self.folder / "verbs.out").open("ab") as said:
            made = subprocess.Popen(
                command, env={**self.environment, "TAILRACE_AT": at}, stdout=said, stderr=subprocess.STDOUT
            )
        self.verbs.append(made)
        return made

    def killed_at(self, point: str, *arguments: str) -> None:
        """The verb is killed when it reaches the point."""
        assert -signal.SIGKILL == self.verb(*arguments, at=f"{point}=kill").wait(timeout=60), self.story()

    def stopped_at(self, point: str, *arguments: str) -> subprocess.Popen[bytes]:
        """The verb stands still at the point, until SIGCONT."""
        for _ in range(3):
            made = self.verb(*arguments, at=f"{point}=pause")
            self.until(lambda one=made: _state(one.pid) == "T" or one.poll() is not None, timeout_s=90)  # type: ignore[misc]
            if made.poll() is None:
                return made
            # A machine this slow lost the lease on the way, and the switch was taken back: what it should be.
            self.until_written(within_s=60)
        pytest.fail(f"never stopped at {point}\n{self.story()}")

    def cutover(self, *, within_s: float = 60.0) -> None:
        self.go("cutover", within_s=within_s, want="target")

    def rollback(self, *, within_s: float = 40.0) -> None:
        self.go("rollback", "--reason", "test", within_s=within_s, want="source")

    def go(self, *arguments: str, want: str, within_s: float) -> None:
        """As an operator does it: again, while it is refused for a reason that passes."""
        deadline = time.monotonic() + within_s
        while (done := self.run(*arguments, *_waived(arguments))).returncode != 0:
            if self.row()["authority"] == want:
                return
            if "tailrace verify" in done.stderr:
                self.run("verify")
            assert time.monotonic() < deadline, f"{done.stdout}\n{done.stderr}\n{self.story()}"
            time.sleep(0.3)

    # -- what is ---------------------------------------------------------------------------------------------------

    def row(self) -> dict[str, Any]:
        with psycopg.connect(self.url, autocommit=True, connect_timeout=5) as look:
            found = look.execute("SELECT authority, token FROM tailrace.migration").fetchone()
        assert found is not None
        return {"authority": found[0], "token": found[1]}

    def status(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.run("status", "--json").stdout)
        return found

    def until_authority(self, wanted: str, *, within_s: float) -> None:
        self.until(lambda: self.row()["authority"] == wanted, timeout_s=within_s)

    # -- the oracle ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Ends the writers, waits until the streams rest, and asks every question."""
        self.end_writing()
        self._never_two()
        if self.row()["authority"] == "source":
            self.settle(timeout_s=60)
            self._exactly_once(self._at_source())
            assert self._at_source() == self._at_target()
        else:
            self._exactly_once(self._at_target())

    def end_writing(self) -> None:
        (self.folder / "stop").touch()
        for writer in self.writers:
            assert 0 == writer.wait(timeout=30)
        self.writers = []

    def _exactly_once(self, found: dict[str, tuple[list[Any], list[Any]]]) -> None:
        acknowledged, unknown = self.told("a"), self.told("u")
        present = {(name, key) for name, (rows, _) in found.items() for key, _ in rows}
        assert set() == acknowledged - present, f"lost: {len(acknowledged - present)} of {len(acknowledged)}"
        assert set() == present - acknowledged - unknown, "came from nowhere"
        for name, (rows, counters) in found.items():
            made = {number: sum(1 for _, writer in rows if writer == number) for number in WRITERS}
            assert made == {number: n for number, n in counters if number in WRITERS}, f"doubled or half in {name}"

    def _at_source(self) -> dict[str, tuple[list[Any], list[Any]]]:
        found = {}
        for name in SOURCES:
            with closing(sqlite3.connect(self.config.source_path(name))) as file:
                assert ("ok",) == file.execute("PRAGMA integrity_check").fetchone()
                rows = file.execute("SELECT id, writer FROM w ORDER BY id").fetchall()
                found[name] = (rows, file.execute("SELECT id, n FROM c ORDER BY id").fetchall())
        return found

    def _at_target(self) -> dict[str, tuple[list[Any], list[Any]]]:
        found = {}
        with psycopg.connect(self.url, autocommit=True) as look:
            for name in SOURCES:
                rows = look.execute(f'SELECT id, writer FROM {name}.w ORDER BY id COLLATE "C"').fetchall()
                found[name] = (rows, look.execute(f"SELECT id, n FROM {name}.c ORDER BY id").fetchall())
        return found

    def _never_two(self) -> None:
        """No side took a write from when writes had moved away for certain until they came back."""
        with psycopg.connect(self.url, autocommit=True) as look:
            moves = look.execute(
                "SELECT extract(epoch FROM at)::float8, after FROM tailrace.journal WHERE before <> after ORDER BY seq"
            ).fetchall()
        lines = [line.split() for line in (self.folder / "probe.log").read_text().splitlines()]
        took = [(float(begun), float(ended), side) for begun, ended, side in (one for one in lines if len(one) == 3)]
        assert took
        for begun, ended, side in took:
            during = [after for at, after in moves if begun <= at <= ended]
            before = [after for at, after in moves if at < begun]
            other = {"source": "target", "target": "source"}[side]
            now = before[-1] if before else "source"
            assert now != other or during, f"{side} took a write at {begun:.3f} while writes belonged to {now}: {moves}"

    def close(self) -> None:
        (self.folder / "stop").touch()
        for one in self.verbs:
            if one.poll() is None:
                one.kill()
                one.wait()
        super().close()

    def story(self) -> str:
        path = self.folder / "verbs.out"
        said = path.read_text().splitlines()[-15:] if path.exists() else []
        return "\n".join([*said, super().story(), self.errors()[-1500:]])


def _waived(arguments: tuple[str, ...]) -> list[str]:
    """Backups prove nothing here, and cost seconds in every cell."""
    names = [f"backup {name}" for name in SOURCES] if arguments[0] == "cutover" else []
    return [part for name in names for part in ("--waive", name)]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Iterator[Migration]:
    made = Migration(tmp_path / "run", database_url)
    yield made
    made.close()
