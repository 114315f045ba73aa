"""What `up` says of its daemons' errors."""

from __future__ import annotations

from pathlib import Path

from ops.telemetry import NewErrors, Telemetry


def test_each_error_is_said_once_and_old_ones_are_not(tmp_path: Path) -> None:
    log = Telemetry("sink", folder=tmp_path, terminal=False)
    log.event("loop.failed", "old", level="error")
    errors = NewErrors(tmp_path)
    assert [] == errors.look()
    log.event("loop.failed", "new", level="error")
    log.event("loop.failed", "new", level="error")
    log.event("loop.failed", "an INFO line", level="info")
    assert ["ERROR sink loop.failed: new"] == errors.look()
    log.event("loop.failed", "new", level="error")
    log.event("loop.failed", "another", level="error")
    assert ["ERROR sink loop.failed: another"] == errors.look()


def test_half_a_line_waits_for_its_rest(tmp_path: Path) -> None:
    errors = NewErrors(tmp_path)
    assert [] == errors.look()
    path = tmp_path / "error.log"
    path.write_text("stamp ERROR sink a: b")
    assert [] == errors.look()
    path.write_text("stamp ERROR sink a: b and c\n")
    assert ["ERROR sink a: b and c"] == errors.look()
