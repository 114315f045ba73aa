"""Do: a whole pipeline in real processes on the sample application, for tests that kill, pause and cut."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cli.beginning import install_source, prepare_target
from cli.content import verify_source
from cli.look import Looker
from cli.up import Settling
from examples.legal_cases.build import build
from examples.legal_cases.writer import start as start_writers
from ops.config import Config, load, sample
from verify.report import Report

ROLES = ("capture", "sink", "snapshot")


class Pipeline:
    """Sample databases, configuration and daemons in one folder."""

    def __init__(
        self, folder: Path, url: str, *, cases: int = 60, kafka: str = "", driver: str = "kafka-python"
    ) -> None:
        self.folder = folder
        paths = build(folder, seed=7, cases=cases)
        self.config_path = folder / "tailrace.toml"
        names = {path.stem: path.name for path in paths}
        text = sample(names, target_url="${TAILRACE_TEST_TARGET}", bootstrap_servers=kafka)
        if kafka:
            text = text.replace('kind = "kafka"', f'kind = "kafka"\ndriver = "{driver}"')
        self.config_path.write_text(text + "\n", encoding="utf-8")
        self.environment = {**os.environ, "TAILRACE_TEST_TARGET": url}
        os.environ["TAILRACE_TEST_TARGET"] = url
        self.config: Config = load(self.config_path)
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.writers: list[subprocess.Popen[bytes]] = []

    def install(self, *, wal: bool = True) -> None:
        prepare_target(self.config)
        for name in self.config.source_databases:
            install_source(self.config, name, wal=wal)

    def start(self, *roles: str, at: str = "") -> None:
        """Start daemons; `at` arms a fault point, e.g. `sink.after_commit=kill`."""
        for role in roles or ROLES:
            self.start_as(role, role, at=at)

    def start_as(self, name: str, *arguments: str, at: str = "") -> None:
        """One more daemon, known here as `name`."""
        command = [sys.executable, "-m", "cli.main", "-c", str(self.config_path), *arguments, "--quiet"]
        with (self.folder / f"{name}.stderr").open("ab") as said:
            self.processes[name] = subprocess.Popen(command, env={**self.environment, "TAILRACE_AT": at}, stderr=said)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", "-c", str(self.config_path), *arguments]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False, timeout=600)

    def write(self, *, seconds: float, rate: float = 150.0, processes: int = 2, seed: int = 3) -> None:
        """Another `seed` for a second time in one test: a writer's references are its own."""
        self.writers += start_writers(self.folder, processes=processes, seed=seed, seconds=seconds, rate=rate)

    def end_writers(self) -> None:
        for writer in self.writers:
            assert 0 == writer.wait(timeout=60)
        self.writers = []

    def kill(self, role: str) -> None:
        self.processes[role].send_signal(signal.SIGKILL)
        self.processes[role].wait()

    def end(self, *roles: str) -> None:
        """As an operator ends daemons."""
        for role in roles:
            self.processes[role].terminate()
        for role in roles:
            assert 0 == self.processes.pop(role).wait(timeout=60), self.story()

    def wait_killed(self, role: str, *, timeout_s: float = 150.0) -> None:
        """Until the armed point killed the process; a point that is never reached is a failure of the test. Where the
        test writes, writing goes on until then, however slow the machine is."""
        deadline, seed = time.monotonic() + timeout_s, 100
        while (ended := self.processes[role].poll()) is None:
            assert time.monotonic() < deadline, f"{role} was not killed\n{self.story()}"
            if self.writers and all(writer.poll() is not None for writer in self.writers):
                self.end_writers()
                seed += 1
                self.write(seconds=2, seed=seed)
            time.sleep(0.05)
        assert -signal.SIGKILL == ended, self.story()

    def settle(self, *, timeout_s: float = 60.0) -> None:
        """Until everything is copied, indexed, consistent and applied to the head."""
        looker = Looker(self.config, list(self.config.source_databases))
        settling = Settling()
        try:
            deadline = time.monotonic() + timeout_s
            while True:
                document = looker.look()
                if settling.look(document):
                    return
                if time.monotonic() > deadline:
                    pytest.fail(f"not settled: {document['blocking_reasons']}\n{self.story()}")
                time.sleep(0.1)
        finally:
            looker.close()

    def until(self, happened: Callable[[], bool], *, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while True:
            begun_s = time.monotonic()
            if happened():
                return
            asked_s = time.monotonic() - begun_s
            assert time.monotonic() < deadline, self.errors()
            # A question may be a process of its own: it must not take the time of those it waits for.
            time.sleep(max(0.05, asked_s))

    def verify(self) -> list[Report]:
        return [verify_source(self.config, name) for name in self.config.source_databases]

    def story(self) -> str:
        """What the daemons said last, and which of them still run."""
        path = self.folder / "migration.log"
        lines = path.read_text().splitlines()[-25:] if path.exists() else ["no log"]
        for role in self.processes:
            lines += [f"{role}: {line}" for line in (self.folder / f"{role}.stderr").read_text().splitlines()[-5:]]
        alive = {role: process.poll() for role, process in self.processes.items()}
        return "\n".join([*lines, f"exit codes: {alive}"])

    def errors(self) -> str:
        path = self.folder / "error.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        for process in (*self.processes.values(), *self.writers):
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.terminate()
        for process in (*self.processes.values(), *self.writers):
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


@pytest.fixture
def pipeline(tmp_path: Path, database_url: str) -> Iterator[Pipeline]:
    made = Pipeline(tmp_path / "run", database_url)
    yield made
    made.close()
