"""Do: run several steppers in one process until told to stop; each backs off by itself.

Invariant: only this loop logs a failure of a step, once per cause and again when it is over; a refusal ends the process
with its exit code (trying again without a change would refuse again), everything else is tried again with a growing
pause, while the other steppers go on. Signals take effect between two steps, never inside one.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from types import FrameType
from typing import Protocol

from ops.health import StepperHealth
from ops.telemetry import Telemetry
from schemas.errors import Code, Failed, Refusal, Superseded, TailraceError, Transient
from schemas.ports import Clock

IDLE_MIN_S = 0.002
IDLE_MAX_S = 0.02
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 10.0
BEAT_S = 1.0
MOVED_ON = 3
_PERMANENT = frozenset({Code.SOURCE_CORRUPT, Code.SOURCE_MISSING})


class Stepper(Protocol):
    def step(self) -> bool:
        """One unit of work; True while there is more to do at once."""
        ...

    def close(self) -> None:
        """Give back the connections that only this stepper uses. It is not stepped again."""
        ...


class Ended(Enum):
    """Why the loop returned."""

    STOPPED = "stopped"
    RELOAD = "reload"
    ORPHANED = "orphaned"


class Signals:
    """SIGTERM and SIGINT ask for an end, SIGHUP for a reload. Installed before anything is opened: a signal that comes
    meanwhile is kept, not fatal.

    Args:
        hangup_ends: on a terminal SIGHUP says that the terminal is gone, and nobody asked for a daemon.
    """

    def __init__(self, *, hangup_ends: bool = False) -> None:
        self.stop = False
        self.reload = False
        self._hangup_ends = hangup_ends
        self._heard: Callable[[], None] = lambda: None

    def install(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._received)

    @contextmanager
    def deferred(self, heard: Callable[[], None]) -> Iterator[None]:
        """What is under way ends by itself first: a verb between two sides that are both closed. `heard` says so."""
        before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)}
        self._heard = heard
        self.install()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _received(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP and not self._hangup_ends:
            self.reload = True
        elif self.stop and number == signal.SIGINT:
            raise KeyboardInterrupt  # asked twice: somebody does not want to wait for the step
        else:
            self.stop = True
            self._heard()


@dataclass(slots=True)
class _Slot:
    name: str
    stepper: Stepper
    due_s: float = 0.0
    said: str = ""
    moved_on: int = 0
    """Steps in a row that found the migration moved by somebody."""
    idle_s: float = field(default=IDLE_MIN_S)
    health: StepperHealth = field(default_factory=StepperHealth)


def relax_collector() -> None:
    """Rows and records are freed by their counts alone; the cyclic collector walks every batch in vain, which costs
    capture and sink a third of their rate (bench/stream.py with and without)."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


class Loop:
    """One process's steppers.

    Args:
        beat: called about once a second between two steps, with the health of every stepper.
    """

    def __init__(
        self,
        steppers: Sequence[tuple[str, Stepper]],
        clock: Clock,
        telemetry: Telemetry,
        *,
        signals: Signals | None = None,
        beat: Callable[[Mapping[str, StepperHealth]], None] = lambda steppers: None,  # noqa: ARG005
    ) -> None:
        self._slots = [_Slot(name, stepper) for name, stepper in steppers]
        self._clock = clock
        self._telemetry = telemetry
        self._signals = signals or Signals()
        self._beat = beat
        self._beat_due_s = 0.0

    def stop(self) -> None:
        """Ends the loop between two steps."""
        self._signals.stop = True

    def run(self, *, parent_alive: Callable[[], bool] = lambda: True) -> Ended:
        """Until a signal, `stop` or the parent's death. Raises Refusal."""
        relax_collector()
        signals = self._signals
        look = 0
        while not signals.stop:
            if signals.reload:
                signals.reload = False
                return Ended.RELOAD
            moved = False
            for slot in self._slots:
                self._sign()
                if slot.due_s <= self._clock.monotonic_s() and not signals.stop:
                    moved |= self._one(slot)
            look += 1
            if look % 64 == 0 and not parent_alive():
                self._telemetry.event("loop.orphaned", "the parent process is gone: stopping", level="warning")
                return Ended.ORPHANED
            if not moved and not signals.stop:
                next_s = min(slot.due_s for slot in self._slots)
                self._clock.sleep(min(IDLE_MAX_S, max(IDLE_MIN_S, next_s - self._clock.monotonic_s())))
        return Ended.STOPPED

    def _sign(self) -> None:
        """Before a step, so that the age of the last sign is what the present step takes."""
        now_s = self._clock.monotonic_s()
        if now_s >= self._beat_due_s:
            self._beat_due_s = now_s + BEAT_S
            self._beat({slot.name: slot.health for slot in self._slots})

    def _one(self, slot: _Slot) -> bool:
        health = slot.health
        try:
            moved = slot.stepper.step()
        except Refusal:
            raise
        except TailraceError as error:
            if isinstance(error, Failed) and error.code in _PERMANENT:
                raise
            if error.code is Code.AUTHORITY_MOVED and slot.moved_on < MOVED_ON:
                self._moved_on(slot, error)
            else:
                self._failed(slot, error)
            return False
        except OSError as error:
            # A full disk under our own files: test_a_step_that_meets_a_full_disk_is_tried_again.
            self._failed(slot, Transient(Code.HOST_IO, str(error), hint="tailrace check"))
            return False
        if health.failures:
            self._telemetry.event(
                "loop.recovered", f"{slot.name} works again after {health.failures} failures", source=slot.name
            )
            health.failures, health.failing_since_ms, health.error_code, slot.said = 0, 0, "", ""
        slot.moved_on = 0
        health.step_at_ms = self._clock.now_ms()
        if moved:
            health.state, health.moved_at_ms = "working", health.step_at_ms
            slot.idle_s = IDLE_MIN_S
        else:
            health.state = "idle"
            slot.due_s = self._clock.monotonic_s() + slot.idle_s
            slot.idle_s = min(IDLE_MAX_S, slot.idle_s * 1.5)
        return moved

    def _moved_on(self, slot: _Slot, error: TailraceError) -> None:
        """Somebody switched or returned in the middle of this step, on purpose: no failure, and the next one reads the row
        anew. What finds it moved again and again is one (test_a_move_on_purpose_is_no_failure)."""
        slot.moved_on += 1
        slot.due_s = self._clock.monotonic_s() + 0.5
        self._telemetry.event("loop.moved", f"{slot.name}: {error.message}; it goes on from there", source=slot.name)

    def _failed(self, slot: _Slot, error: TailraceError) -> None:
        health = slot.health
        health.failures += 1
        health.state, health.error_code = "failing", str(error.code)
        health.failing_since_ms = health.failing_since_ms or self._clock.now_ms()
        pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(health.failures - 1, 10))
        if isinstance(error, Superseded):
            pause_s = max(pause_s, 0.5)
        slot.due_s = self._clock.monotonic_s() + pause_s
        if slot.said != error.code:
            slot.said = error.code
            self._telemetry.event("loop.failed", f"{slot.name}: {error}", source=slot.name, level="error")
