"""What a health file says, and what is never taken for healthy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ops.health import HealthFile, StepperHealth, look, reasons_of

NOW_MS = 1_000_000_000


def _document(**changes: Any) -> dict[str, Any]:
    document = {"process": "capture", "state": "running", "pid": 7, "at_ms": NOW_MS - 500, "steppers": {"cases": {}}}
    return {**document, **changes}


def test_one_that_gets_on_has_no_reason_against_it() -> None:
    assert [] == reasons_of(_document(), now_ms=NOW_MS, alive=True, max_age_s=None)


@pytest.mark.parametrize(
    ("changes", "alive", "max_age_s", "reason"),
    [
        ({}, False, None, "process 7 is gone"),
        ({"at_ms": NOW_MS - 61_000}, True, None, "no step has ended for 61 s"),
        ({"at_ms": NOW_MS - 2_000}, True, 1.0, "no step has ended for 2 s"),
        ({"state": "starting"}, True, None, "it is starting"),
        ({"state": "unreadable", "pid": None}, True, None, "it is unreadable"),
        (
            {"steppers": {"cases": {"failing_since_ms": NOW_MS - 31_000, "error_code": "target-unreachable"}}},
            True,
            None,
            "cases has been failing for 31 s with target-unreachable",
        ),
    ],
)
def test_reasons(changes: dict[str, Any], alive: bool, max_age_s: float | None, reason: str) -> None:
    assert [reason] == reasons_of(_document(**changes), now_ms=NOW_MS, alive=alive, max_age_s=max_age_s)


def test_a_long_step_of_the_copy_is_no_illness() -> None:
    document = _document(process="snapshot", at_ms=NOW_MS - 3600_000)
    assert [] == reasons_of(document, now_ms=NOW_MS, alive=True, max_age_s=None)


def test_a_failure_of_a_moment_is_none() -> None:
    steppers = {"cases": {"failing_since_ms": NOW_MS - 5_000, "error_code": "target-busy"}}
    assert [] == reasons_of(_document(steppers=steppers), now_ms=NOW_MS, alive=True, max_age_s=None)


def test_a_file_from_open_to_close(tmp_path: Path) -> None:
    file = HealthFile(tmp_path, "sink")
    file.open()
    assert [["it is starting"]] == [one["reasons"] for one in look(tmp_path, ["sink"], max_age_s=None)]
    file.health.steppers = {"cases": StepperHealth("idle", step_at_ms=1)}
    file.write("running")
    (one,) = look(tmp_path, [], max_age_s=None)
    assert (True, os.getpid(), "idle") == (one["healthy"], one["pid"], one["steppers"]["cases"]["state"])
    assert [["does not run here"]] == [one["reasons"] for one in look(tmp_path, ["capture"], max_age_s=None)]
    file.close()
    assert [["none runs here"]] == [one["reasons"] for one in look(tmp_path, [], max_age_s=None)]


def test_a_killed_daemon_is_ill_until_the_next_one_starts(tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    file = HealthFile(tmp_path, "sink")
    left = {"process": "sink", "state": "running", "pid": gone.pid, "host": file.health.host, "at_ms": 10**14}
    (tmp_path / "sink@old.json").write_text(json.dumps(left))
    assert [f"process {gone.pid} is gone"] == look(tmp_path, [], max_age_s=None)[0]["reasons"]
    file.open()
    assert [file.health.pid] == [one["pid"] for one in look(tmp_path, [], max_age_s=None)]


def test_half_a_file_is_unreadable_and_not_healthy(tmp_path: Path) -> None:
    (tmp_path / "sink@host-1.json").write_text('{"process": "si')
    (one,) = look(tmp_path, ["sink"], max_age_s=None)
    assert not one["healthy"]


def test_another_hosts_daemon_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "sink@other-1.json").write_text(json.dumps({"process": "sink", "host": "other", "state": "running"}))
    assert [["does not run here"]] == [one["reasons"] for one in look(tmp_path, ["sink"], max_age_s=None)]
