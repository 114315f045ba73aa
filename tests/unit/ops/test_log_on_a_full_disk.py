"""The log on a disk that is full."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import telemetry
from ops.telemetry import Telemetry


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A folder whose migration.log cannot take a byte, until it is unlinked."""
    if not Path("/dev/full").exists():
        pytest.skip("needs /dev/full")
    (tmp_path / "migration.log").symlink_to("/dev/full")
    return tmp_path


def test_a_full_disk_under_the_log_ends_nothing(full: Path) -> None:
    log = Telemetry("sink", folder=full, terminal=False)
    log.event("loop.failed", "the disk is full")
    (full / "migration.log").unlink()
    log.event("loop.recovered", "there is room")
    lines = (full / "migration.log").read_text().splitlines()
    assert ["the disk is full", "there is room"] == [line.rpartition(": ")[2] for line in lines if line]


def test_what_was_too_old_to_wait_is_counted(full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "WAITING_LINES", 2)
    log = Telemetry("sink", folder=full, terminal=False)
    for number in range(5):
        log.event("loop.failed", f"number {number}")
    (full / "migration.log").unlink()
    log.event("loop.recovered", "last")
    lines = (full / "migration.log").read_text().splitlines()
    expected = ["number 3", "number 4", "last", "3 lines could not be written here"]
    assert expected == [line.rpartition(": ")[2] for line in lines if line]
