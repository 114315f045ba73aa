"""The demo over a broker of its own, from the outside; and what it says where no broker can be had."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from embedded.kafka import PID_FILE, absent
from embedded.postgres import arguments_of
from tests.fix_kafka import JARS

DEMO = [sys.executable, "-m", "cli.main", "demo", "--plain", "--cases", "150", "--transport", "kafka"]


@pytest.mark.timeout(900)
def test_the_broker_of_a_killed_demo_is_shut_down(tmp_path: Path) -> None:
    """The whole demo over Kafka, after one that was killed in the middle had left its broker behind."""
    if lacking := absent(JARS):
        pytest.skip(f"embedded Kafka: {lacking}")
    command = [*DEMO, "--folder", str(tmp_path / "run"), "--jars", str(JARS)]
    killed = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert killed.stdout is not None
    assert any("copy, catch up, follow" in line for line in killed.stdout)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    killed.stdout.close()
    assert _gone(lambda: _writers(tmp_path))
    orphan = int((tmp_path / "run" / ".tailrace" / "kafka" / PID_FILE).read_text())
    assert "kafka.Kafka" in arguments_of(orphan)

    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)
    assert (0, "") == (done.returncode, done.stderr)
    assert [] == arguments_of(orphan)
    assert re.search(r"Kafka \S+ runs on 127\.0\.0\.1:\d+ for this demo", done.stdout)
    assert "all equal" in done.stdout
    assert ": 0 times wrong" in done.stdout
    own = int((tmp_path / "run" / ".tailrace" / "kafka" / PID_FILE).read_text())
    assert _gone(lambda: arguments_of(own))


def _writers(folder: Path) -> list[int]:
    """Pids of the sample application's writers in this folder."""
    pids = [int(one.name) for one in Path("/proc").iterdir() if one.name.isdigit()]
    return [
        pid for pid in pids if "examples.legal_cases.writer" in (at := arguments_of(pid)) and str(folder) in str(at)
    ]


def _gone(found: Callable[[], list[Any]]) -> bool:
    deadline = time.monotonic() + 20
    while found() and time.monotonic() < deadline:
        time.sleep(0.1)
    return not found()


def test_without_the_jars_it_says_what_to_do(tmp_path: Path) -> None:
    jars = ["--folder", str(tmp_path / "run"), "--jars", str(tmp_path / "nothing")]
    done = subprocess.run([*DEMO, *jars], capture_output=True, text=True, check=False, timeout=60)
    assert 1 == done.returncode
    assert "[package-missing] the demo cannot start a broker: " in done.stderr
    assert "next: `make demo TRANSPORT=kafka`" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "run").exists()


def test_without_java_it_says_so(tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": str(tmp_path)}
    done = subprocess.run(DEMO, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert 1 == done.returncode
    assert "no Java 17 or newer is installed" in done.stderr
