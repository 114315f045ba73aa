"""What `.ci/run` makes of a service that is missing: the script that runs the tests, with a tox of our own behind it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SKIPPED = "SKIPPED [3] tests/fix_tls.py:150: PostgreSQL with TLS: no server in /usr/lib/postgresql"
NOT_OURS = "SKIPPED [1] tests/integration/test_real_databases.py:81: chinook.sqlite is not part of this project"


def _run(folder: Path, said: str, *, ci: bool, code: int = 0) -> subprocess.CompletedProcess[str]:
    """A copy of the script: the one that runs this very test writes beside itself."""
    (folder / "tests" / "tools").mkdir(parents=True)
    (folder / ".cache").mkdir()
    (folder / "said").write_text(said)
    shutil.copy(ROOT / "tests" / "tools" / "run_tests.sh", folder / "tests" / "tools")
    tox = folder / "tox"
    tox.write_text(f"#!/bin/sh\ncat '{folder}/said'\nexit {code}\n")
    tox.chmod(0o755)
    environment = {name: value for name, value in os.environ.items() if name != "CI"} | ({"CI": "true"} if ci else {})
    command = ["bash", str(folder / "tests" / "tools" / "run_tests.sh"), str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("said", "ci", "code", "expected"),
    [
        (f"{SKIPPED}\n5 passed, 3 skipped in 1.00s\n", True, 0, 1),
        (f"{NOT_OURS}\n{SKIPPED}\n5 passed, 4 skipped in 1.00s\n", True, 0, 1),
        (f"{SKIPPED}\n5 passed, 3 skipped in 1.00s\n", False, 0, 0),
        (f"{NOT_OURS}\n5 passed, 1 skipped in 1.00s\n", True, 0, 0),
        ("5 passed in 1.00s\n", True, 0, 0),
        ("4 passed, 1 failed in 1.00s\n", True, 1, 1),
    ],
    ids=["ci", "ci-both", "elsewhere", "not-ours", "none", "failed"],
)
def test_a_skipped_service_fails_continuous_integration(
    tmp_path: Path, said: str, ci: bool, code: int, expected: int
) -> None:
    done = _run(tmp_path, said, ci=ci, code=code)
    assert expected == done.returncode, done.stdout
    assert "--- skipped, by name ---" in done.stdout
    assert ("no server in /usr/lib/postgresql" in said) == ("no server in /usr/lib/postgresql" in done.stdout)


def test_the_script_of_continuous_integration_sets_it() -> None:
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines.index("export CI=true") < lines.index("make test")


def test_the_soak_runs_whatever_the_tests_leave_out() -> None:
    """Wherever a test is marked, and with everything that it shares with others."""
    recipe = (ROOT / "Makefile").read_text().partition("\nsoak: install\n")[2].partition("\n\n")[0]
    runs = [line.partition(" -m pytest ")[2] for line in recipe.splitlines() if " -m pytest " in line]
    assert any(re.search(r" tests --ignore tests/faults -m soak\b", run) for run in runs), runs
    assert any(re.search(r" tests/faults\b", run) and not re.search(r" -m | -k ", run) for run in runs), runs
    assert (
        "soak" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
    )


def test_pytest_shows_what_was_skipped() -> None:
    """Without -ra pytest names nothing, and nothing would fail."""
    assert "-ra" in tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]["addopts"]
