"""The README's section "Daemons", command by command, against real servers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import unquote, urlsplit

from examples.legal_cases.build import build
from examples.legal_cases.writer import start as start_writers
from tests.fix_kafka import fresh_topics

ROOT = Path(__file__).resolve().parent.parent.parent


def _terminals() -> dict[str, list[str]]:
    """Commands by the comment above them."""
    section = re.search(r"^## Daemons\n.*?```sh\n(.*?)```", (ROOT / "README.md").read_text(), re.M | re.S)
    assert section is not None
    terminals: dict[str, list[str]] = {}
    for line in section[1].splitlines():
        if line.startswith("# "):
            commands = terminals[line[2:]] = []
        else:
            commands.append(line.partition(" #")[0].strip())
    return terminals


def _environment(folder: Path, database_url: str) -> dict[str, str]:
    """The environment of somebody who installed the tool and has a password: as the README says, in PGPASSWORD."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    tool = bin_folder / "tailrace"
    tool.write_text(f'#!/bin/sh\nexec {sys.executable} -m cli.main "$@"\n')
    tool.chmod(0o755)
    password = unquote(urlsplit(database_url).password or "")
    return {**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PGPASSWORD": password, "PYTHONPATH": str(ROOT)}


def test_three_terminals_and_six_commands(tmp_path: Path, database_url: str, kafka_address: str) -> None:
    terminals = _terminals()
    assert ["terminal 1", "terminal 2", "terminal 3", "anywhere"] == list(terminals)
    assert 6 >= sum(map(len, terminals.values()))
    fresh_topics(kafka_address).close()
    (cases, _) = build(tmp_path, seed=5, cases=80)
    url = urlsplit(database_url)
    without_password = url._replace(netloc=f"{url.username}@{url.hostname}:{url.port}").geturl()

    def told(command: str) -> list[str]:
        for ours, theirs in (
            ("app.db", cases.name),
            ("postgresql://user@host/db", without_password),
            ("broker:9092", kafka_address),
            ("--for 60s", "--for 3s --timeout 120s"),
        ):
            command = command.replace(ours, theirs)
        return ["sh", "-c", f"exec {command}"]

    writers = start_writers(tmp_path, processes=2, seed=3, seconds=5, rate=60)
    daemons = []
    environment = _environment(tmp_path, database_url)
    try:
        for name in ("terminal 1", "terminal 2", "terminal 3"):
            *before, daemon = terminals[name]
            for command in before:
                subprocess.run(told(command), cwd=tmp_path, env=environment, check=True, timeout=120)
            daemons.append(subprocess.Popen(told(daemon), cwd=tmp_path, env=environment, stderr=subprocess.PIPE))
        assert [0, 0] == [writer.wait(timeout=60) for writer in writers]
        (wait,) = terminals["anywhere"]
        started_s = time.monotonic()
        subprocess.run(told(wait), cwd=tmp_path, env=environment, check=True, timeout=180)
        assert time.monotonic() - started_s > 3
        subprocess.run(["tailrace", "verify"], cwd=tmp_path, env=environment, check=True, timeout=120)
    finally:
        for process in (*daemons, *writers):
            process.send_signal(signal.SIGTERM)
        said = [process.communicate(timeout=60)[1] for process in daemons]
    assert [0] * 3 == [process.returncode for process in daemons], said
    assert all(b"daemon.stopped" in one for one in said)
