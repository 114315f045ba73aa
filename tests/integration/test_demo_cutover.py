"""The demo's second flow from the outside: there, back and there again, and an exit code that tells what it found."""

from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from embedded.kafka import absent
from tests.fix_kafka import JARS

DEMO = [sys.executable, "-m", "cli.main", "demo", "--plain", "--flow", "cutover", "--cases", "150"]
LOCAL = ["--transport", "local"]
KAFKA = ["--transport", "kafka", "--jars", str(JARS)]


def told(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [*DEMO, "--folder", str(folder), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=500)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("transport", [LOCAL, pytest.param(KAFKA, marks=pytest.mark.soak)], ids=["local", "kafka"])
def test_the_demo_of_the_cutover_finds_nothing_lost(tmp_path: Path, transport: list[str]) -> None:
    if transport is KAFKA and (lacking := absent(JARS)):
        pytest.skip(f"embedded Kafka: {lacking}")
    done = told(tmp_path / "run", *transport)
    assert (0, "") == (done.returncode, done.stderr), done.stdout
    assert 3 == len(re.findall(r"nobody could write for \d+ ms", done.stdout))
    assert 3 == len(re.findall(r"acknowledged in all, 0 are lost and 0 doubled there", done.stdout))
    assert re.search(r"acknowledged, [\d,]+ by SQLite and [\d,]+ by PostgreSQL: lost 0, doubled 0", done.stdout)
    assert re.search(r"looks at a session on whichever side: 0 failed", done.stdout)
    assert "exact" in done.stdout
    assert "WRONG" not in done.stdout


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_write_that_is_nowhere_ends_the_demo_with_4(tmp_path: Path) -> None:
    """Somebody was told that a write is done, and no side has it."""
    folder, ended = tmp_path / "run", threading.Event()

    def claim() -> None:
        while not ended.wait(0.2):
            if (folder / "routed-0.acks").exists():
                (folder / "routed-9.acks").write_text("1-9-9-00001 money source\n")
                return

    claiming = threading.Thread(target=claim)
    claiming.start()
    try:
        done = told(folder)
    finally:
        ended.set()
        claiming.join()
    assert 4 == done.returncode, done.stderr
    assert "WRONG: lost 1" in done.stdout
