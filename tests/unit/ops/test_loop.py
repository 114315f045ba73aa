"""The loop under a simulated clock: signals between two steps, failures counted, health told."""

from __future__ import annotations

import copy
import errno
from collections.abc import Mapping
from pathlib import Path

import pytest

from ops.health import StepperHealth
from ops.loop import Ended, Loop, Signals
from ops.telemetry import Telemetry
from schemas.errors import Code, Superseded, Transient


class Clock:
    def __init__(self) -> None:
        self.at_s = 100.0

    def now_ms(self) -> int:
        return int(self.at_s * 1000)

    def monotonic_ms(self) -> int:
        return int(self.monotonic_s() * 1000)

    def monotonic_s(self) -> float:
        return self.at_s

    def sleep(self, seconds: float) -> None:
        self.at_s += seconds


class Steps:
    """A stepper that does what it is told: one action a step, then asks for an end."""

    def __init__(self, signals: Signals, *actions: object) -> None:
        self.signals = signals
        self.actions = list(actions)
        self.taken = 0

    def step(self) -> bool:
        self.taken += 1
        if not self.actions:
            self.signals.stop = True
            return False
        action = self.actions.pop(0)
        if isinstance(action, BaseException):
            raise action
        if action == "reload":
            self.signals.reload = True
        return bool(action)

    def close(self) -> None: ...


def _run(tmp_path: Path, *actions: object) -> tuple[Ended, list[dict[str, StepperHealth]], str]:
    signals, told = Signals(), []

    def beat(steppers: Mapping[str, StepperHealth]) -> None:
        told.append(copy.deepcopy(dict(steppers)))

    events = Telemetry("sink", folder=tmp_path, terminal=False)
    loop = Loop([("cases", Steps(signals, *actions))], Clock(), events, signals=signals, beat=beat)
    ended = loop.run()
    log = tmp_path / "migration.log"
    return ended, told, log.read_text() if log.exists() else ""


def test_a_reload_ends_the_loop_after_the_step_it_came_in(tmp_path: Path) -> None:
    ended, _, _ = _run(tmp_path, True, "reload", True)
    assert Ended.RELOAD == ended


def test_a_stop_wins_over_a_reload(tmp_path: Path) -> None:
    signals = Signals()
    signals.stop = signals.reload = True
    loop = Loop([("cases", Steps(signals))], Clock(), Telemetry("sink", terminal=False), signals=signals)
    assert Ended.STOPPED == loop.run()


def test_a_failure_is_said_once_told_to_health_and_recovered_from(tmp_path: Path) -> None:
    gone = Transient(Code.TARGET_UNREACHABLE, "gone")
    ended, told, log = _run(tmp_path, *[gone] * 8, True)
    assert Ended.STOPPED == ended
    assert 1 == log.count(" ERROR sink loop.failed: cases: [target-unreachable] gone")
    assert 1 == log.count("loop.recovered: cases works again after 8 failures")
    failing = [one["cases"] for one in told if one["cases"].failures]
    assert {"target-unreachable"} == {one.error_code for one in failing}
    assert 1 == len({one.failing_since_ms for one in failing})
    assert "failing" == failing[-1].state


def test_a_move_on_purpose_is_no_failure(tmp_path: Path) -> None:
    """After a rollback error.log had a line of it, and whoever was on duty asked what was wrong."""
    moved = Superseded(Code.AUTHORITY_MOVED, "token 3 is no longer the one in force", hint="tailrace status")
    _, told, log = _run(tmp_path, moved, True, moved, True)
    assert 2 == log.count(" INFO sink loop.moved: cases: token 3 is no longer the one in force")
    assert "loop.failed" not in log
    assert "loop.recovered" not in log
    assert {0} == {one["cases"].failures for one in told}
    assert not (tmp_path / "error.log").exists() or "" == (tmp_path / "error.log").read_text()


def test_what_finds_the_migration_moved_again_and_again_has_failed(tmp_path: Path) -> None:
    moved = Superseded(Code.AUTHORITY_MOVED, "token 3 is no longer the one in force", hint="tailrace status")
    _, _, log = _run(tmp_path, *[moved] * 6, True)
    assert 3 == log.count("loop.moved")
    assert 1 == log.count(" ERROR sink loop.failed: cases: [authority-moved]")


def test_a_step_that_meets_a_full_disk_is_tried_again(tmp_path: Path) -> None:
    """The growth readings of the capture daemon ended it, and with it the way back."""
    full = OSError(errno.ENOSPC, "No space left on device")
    ended, _, log = _run(tmp_path, full, full, True)
    assert Ended.STOPPED == ended
    assert 1 == log.count("loop.failed: cases: [host-io]")
    assert 1 == log.count("loop.recovered: cases works again after 2 failures")


def test_beats_come_about_once_a_second(tmp_path: Path) -> None:
    _, told, _ = _run(tmp_path, *[False] * 500)
    assert 5 < len(told) < 20


def test_a_hang_up_is_a_reload_for_a_daemon_and_an_end_on_a_terminal() -> None:
    import signal

    daemon, terminal = Signals(), Signals(hangup_ends=True)
    daemon._received(signal.SIGHUP, None)
    terminal._received(signal.SIGHUP, None)
    assert (False, True) == (daemon.stop, daemon.reload)
    assert (True, False) == (terminal.stop, terminal.reload)


def test_a_second_interrupt_does_not_wait_for_the_step() -> None:
    import signal

    signals = Signals()
    signals._received(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt):
        signals._received(signal.SIGINT, None)
