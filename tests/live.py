"""Do: `up` in real processes on files that a test makes, for tests that watch it from outside."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.look import Looker
from ops.config import load

ROOT = Path(__file__).resolve().parents[1]


class Live:
    """The files that `make` makes, a configuration with `settings` before its first table, and `up` on them."""

    def __init__(self, folder: Path, url: str, make: Callable[[Path], list[Path]], *, settings: str = "") -> None:
        self.folder, self.url = folder, url
        os.environ["TARGET"] = url  # this process looks by itself, too
        self.environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes: list[subprocess.Popen[bytes]] = []
        names = [path.name for path in make(folder)]
        assert 0 == self.run("init", *names, "--target", "${TARGET}").returncode
        self.config = folder / "tailrace.toml"
        self.written = self.config.read_text().replace("exclude_tables = []\n", "")
        self.configure(settings)

    def configure(self, settings: str, *, limits: str = "", transport: str = "") -> None:
        """Top-level settings (tables of their own may follow) and limits."""
        top, _, tables = settings.partition("\n[")
        text = self.written.replace("[source_databases]", f"{top}\n\n[source_databases]")
        text = text.replace("[limits]", f"[limits]\n{limits}")
        text = text.replace("[transport]", f"[transport]\n{transport}")
        self.config.write_text(text + (f"\n[{tables}" if tables else "") + "\n")

    def run(self, *arguments: str, timeout_s: float = 150) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "cli.main", *arguments]
        return subprocess.run(
            command,
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        with (self.folder / "said.txt").open("ab") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=self.folder, env=self.environment, stdout=said, stderr=said
            )
        self.processes.append(process)
        return process

    def status(self) -> dict[str, object]:
        return json.loads(self.run("status", "--json").stdout)  # type: ignore[no-any-return]

    def settle(self, *, timeout_s: float = 240) -> None:
        """Until both sources are consistent and applied to the head, with nothing in quarantine."""
        until = time.monotonic() + timeout_s
        config = load(self.config)
        looker = Looker(config, list(config.source_databases))
        try:
            while not all(
                (one["phase"], one["lag_changes"], one["consistent"], one["quarantined"]) == ("following", 0, True, 0)
                for one in looker.look()["sources"].values()
            ):
                if time.monotonic() > until:
                    pytest.fail(
                        f"not settled: {self.run('status').stdout}\n{(self.folder / 'said.txt').read_text()[-2000:]}"
                    )
                time.sleep(0.1)
        finally:
            looker.close()

    def until(self, happened: Callable[[], bool], *, timeout_s: float = 60) -> None:
        deadline = time.monotonic() + timeout_s
        while not happened():
            assert time.monotonic() < deadline, (self.folder / "said.txt").read_text()[-3000:]
            time.sleep(0.2)

    def up(self) -> subprocess.Popen[bytes]:
        return self.start("cli.main", "up", "--plain", "--no-backup")

    def end(self, process: subprocess.Popen[bytes]) -> None:
        process.send_signal(signal.SIGTERM)
        assert 0 == process.wait(timeout=60)

    def close(self) -> None:
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        for process in self.processes:
            try:
                process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
