"""Do: a whole migration of two files under writers that know nothing of Tailrace, with real daemons and verbs in
processes of their own that may be killed, stopped or cut off at named points; and the oracle that judges what is left."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cli.look import Looker
from ops.config import load, sample
from tests.faults.cutover_writer import SOURCES
from tests.fix_pipeline import Pipeline

WRITERS = (1, 2, 3)
PROBER = 9
LEASE_S = 5.0
APPLICATION = """DO $$ BEGIN CREATE ROLE application LOGIN PASSWORD 'app';
    EXCEPTION WHEN duplicate_object OR unique_violation THEN END $$"""


class Migration(Pipeline):
    """`auth` and `cases`, one table of rows and one of counters each.

    Args:
        reached: what Tailrace is told to connect to, where that is a proxy; writers go to `url`.
        more: further lines of the configuration.
        notes: what writers and verbs said, beside everything that Tailrace writes.
        rows: so many are there before the first writer.
    """

    def __init__(
        self,
        folder: Path,
        url: str,
        *,
        kafka: str = "",
        reached: str = "",
        more: str = "",
        notes: Path | None = None,
        rows: int = 0,
        journal: str = "wal",
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.notes = notes or folder.parent / f"{folder.name}-notes"
        self.notes.mkdir()
        self._wal = journal == "wal"
        self.url = url
        for name in SOURCES:
            with closing(sqlite3.connect(folder / f"{name}.db")) as made:
                made.execute(f"PRAGMA journal_mode={journal}")
                made.execute("CREATE TABLE w(id TEXT PRIMARY KEY NOT NULL, writer INTEGER CHECK (writer >= 0))")
                made.execute("CREATE TABLE c(id INTEGER PRIMARY KEY, n INTEGER NOT NULL)")
                made.executemany("INSERT INTO c VALUES (?, 0)", [(number,) for number in (*WRITERS, PROBER)])
                made.executemany("INSERT INTO w VALUES (?, 0)", [(f"0-{number}",) for number in range(rows)])
                made.commit()
        self.config_path = folder / "tailrace.toml"
        text = sample(
            {name: f"{name}.db" for name in SOURCES}, target_url="${TAILRACE_TEST_TARGET}", bootstrap_servers=kafka
        )
        cutover = f"\n[cutover]\nlease_s = {LEASE_S}\ndrain_budget_s = 20.0\n"
        self.config_path.write_text(f"{text}\n{cutover}{more}")
        self.environment = {**os.environ, "TAILRACE_TEST_TARGET": reached or url}
        os.environ["TAILRACE_TEST_TARGET"] = reached or url
        self._before = {(name, f"0-{number}") for name in SOURCES for number in range(rows)}
        self.config = load(self.config_path)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.writers: list[subprocess.Popen[bytes]] = []
        self.verbs: list[subprocess.Popen[bytes]] = []

    # -- the way there -------------------------------------------------------------------------------------------

    def follow(self, *, up: bool = False) -> None:
        """Installed, copied, settled, proven; the application has a role of its own and writes.

        Args:
            up: everything in one supervised run, instead of daemons of their own.
        """
        if up:
            self.start_up()
        else:
            self.install(wal=self._wal)
            self.start()
        self.prove()
        self.admit()
        self.begin_writing()

    def start_up(self) -> None:
        command = [sys.executable, "-m", "cli.main", "-c", str(self.config_path), "up", "--plain", "--no-backup"]
        with (self.folder / "up.stderr").open("ab") as said:
            self.processes["up"] = subprocess.Popen(command, env=self.environment, stdout=said, stderr=said)

    def follows(self) -> bool:
        """With writers that go on, the head is always a little ahead of what was applied."""
        sources = self.status()["sources"].values()
        return all(one["phase"] == "following" and one["consistent"] for one in sources)

    def prove(self) -> None:
        self.until(self.follows, timeout_s=180)
        # A row that is written all the time may move under every look: not compared, and never differing.
        for _ in range(5):
            proven = self.run("verify")
            if proven.returncode == 0:
                return
            assert " 0 differing, 0 missing, 0 extra, " in proven.stdout, proven.stdout + proven.stderr + self.story()
        pytest.fail(proven.stdout + proven.stderr + self.story())

    def role(self) -> None:
        with psycopg.connect(self.url, autocommit=True) as admin:
            admin.execute(APPLICATION)

    def admit(self) -> None:
        self.role()
        with psycopg.connect(self.url, autocommit=True) as admin:
            for name in SOURCES:
                admin.execute(f"GRANT USAGE ON SCHEMA {name} TO application")
                admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO application")

    def reconfigure(self, **values: object) -> None:
        """Lines of the sample configuration with other values."""
        text = self.config_path.read_text()
        for name, value in values.items():
            text, count = re.subn(rf"(?m)^{name} = .*$", f"{name} = {value}", text)
            assert 1 == count, name
        self.config_path.write_text(text)
        self.config = load(self.config_path)

    def stands(self, role: str) -> bool:
        """Has it stopped at its point? Fails when it ended."""
        assert self.processes[role].poll() is None, self.story()
        return _state(self.processes[role].pid) == "T"

    def application_url(self) -> str:
        return "postgresql://application:app@" + self.url.split("@")[1]

    def begin_writing(self) -> None:
        module = [sys.executable, "-m", "tests.faults.cutover_writer"]
        for what, number in [*(("write", number) for number in WRITERS), ("probe", PROBER)]:
            command = [*module, what, str(self.folder), str(number), self.application_url(), str(self.notes)]
            self.writers.append(subprocess.Popen(command))
        self.until(lambda: self.acknowledged() >= 10, timeout_s=90)

    def acknowledged(self) -> int:
        return len(self.told("a"))

    def told(self, mark: str) -> set[tuple[str, str]]:
        found = set()
        for path in self.notes.glob("writer-*.log"):
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
        with (self.notes / "verbs.out").open("ab") as said:
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
            self.until(lambda one=made: _state(one.pid) == "T" or one.poll() is not None, timeout_s=180)  # type: ignore[misc]
            if made.poll() is None:
                return made
            # A machine this slow lost the lease on the way, and the switch was taken back: what it should be.
            self.until_written(within_s=60)
        pytest.fail(f"never stopped at {point}\n{self.story()}")

    def cutover(self, *, within_s: float = 180.0) -> None:
        self.go("cutover", within_s=within_s, want="target")

    def rollback(self, *, within_s: float = 180.0) -> None:
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
        """What `status --json` says, without a process for it."""
        looker = Looker(self.config, list(self.config.source_databases))
        try:
            return looker.look()
        finally:
            looker.close()

    def until_authority(self, wanted: str, *, within_s: float) -> None:
        self.until(lambda: self.row()["authority"] == wanted, timeout_s=within_s)

    # -- the oracle ------------------------------------------------------------------------------------------------

    def judge(self) -> None:
        """Ends the writers, waits until the streams rest, and asks every question."""
        self.end_writing()
        self._never_two()
        if self.row()["authority"] == "source":
            self.settle(timeout_s=120)
            self._exactly_once(self._at_source())
            assert self._at_source() == self._at_target()
        else:
            self._exactly_once(self._at_target())

    def end_writing(self) -> None:
        (self.notes / "stop").touch()
        for writer in self.writers:
            assert 0 == writer.wait(timeout=30)
        self.writers = []

    def _exactly_once(self, found: dict[str, tuple[list[Any], list[Any]]]) -> None:
        acknowledged, unknown = self.told("a") | self._before, self.told("u")
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
        lines = [line.split() for line in (self.notes / "probe.log").read_text().splitlines()]
        took = [(float(begun), float(ended), side) for begun, ended, side in (one for one in lines if len(one) == 3)]
        assert took
        for begun, ended, side in took:
            during = [after for at, after in moves if begun <= at <= ended]
            before = [after for at, after in moves if at < begun]
            other = {"source": "target", "target": "source"}[side]
            now = before[-1] if before else "source"
            assert now != other or during, f"{side} took a write at {begun:.3f} while writes belonged to {now}: {moves}"

    def close(self) -> None:
        (self.notes / "stop").touch()
        for one in self.verbs:
            if one.poll() is None:
                one.kill()
                one.wait()
        super().close()

    def story(self) -> str:
        path = self.notes / "verbs.out"
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
