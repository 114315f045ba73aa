"""Do: run several steppers in one process until told to stop; each backs off by itself.

Invariant: only this loop logs a failure of a step, once per cause and again when it is over; a refusal ends the process
with its exit code (trying again without a change would refuse again), everything else is tried again with a growing
pause, while the other steppers go on.
"""

from __future__ import annotations

import gc
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from ops.telemetry import Telemetry
from schemas.errors import Code, Failed, Refusal, Superseded, TailraceError
from schemas.ports import Clock

IDLE_MIN_S = 0.002
IDLE_MAX_S = 0.02
BACKOFF_MIN_S = 0.1
BACKOFF_MAX_S = 10.0
_PERMANENT = frozenset({Code.SOURCE_CORRUPT, Code.SOURCE_MISSING})


class Stepper(Protocol):
    def step(self) -> bool:
        """One unit of work; True while there is more to do at once."""
        ...


@dataclass(slots=True)
class _Slot:
    name: str
    stepper: Stepper
    due_s: float = 0.0
    failures: int = 0
    said: str = ""
    idle_s: float = field(default=IDLE_MIN_S)


def relax_collector() -> None:
    """Rows and records are freed by their counts alone; the cyclic collector walks every batch in vain, which costs
    capture and sink a third of their rate (bench/stream.py with and without)."""
    gc.freeze()
    gc.set_threshold(100_000, 50, 50)


class Loop:
    """One process's steppers."""

    def __init__(self, steppers: Sequence[tuple[str, Stepper]], clock: Clock, telemetry: Telemetry) -> None:
        self._slots = [_Slot(name, stepper) for name, stepper in steppers]
        self._clock = clock
        self._telemetry = telemetry
        self._stopping = False

    def stop(self) -> None:
        """Ends the loop between two steps."""
        self._stopping = True

    def run(self, *, parent_alive: Callable[[], bool] = lambda: True) -> None:
        """Until SIGTERM, SIGINT, `stop` or the parent's death. Raises Refusal."""
        relax_collector()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self.stop())
        look = 0
        while not self._stopping:
            moved = False
            now_s = self._clock.monotonic_s()
            for slot in self._slots:
                if slot.due_s <= now_s and not self._stopping:
                    moved |= self._one(slot)
            look += 1
            if look % 64 == 0 and not parent_alive():
                self._telemetry.event("loop.orphaned", "the parent process is gone: stopping", level="warning")
                return
            if not moved and not self._stopping:
                next_s = min(slot.due_s for slot in self._slots)
                self._clock.sleep(min(IDLE_MAX_S, max(IDLE_MIN_S, next_s - self._clock.monotonic_s())))

    def _one(self, slot: _Slot) -> bool:
        try:
            moved = slot.stepper.step()
        except Refusal:
            raise
        except TailraceError as error:
            if isinstance(error, Failed) and error.code in _PERMANENT:
                raise
            self._failed(slot, error)
            return False
        if slot.failures:
            self._telemetry.event(
                "loop.recovered", f"{slot.name} works again after {slot.failures} failures", source=slot.name
            )
            slot.failures, slot.said = 0, ""
        if moved:
            slot.idle_s = IDLE_MIN_S
        else:
            slot.due_s = self._clock.monotonic_s() + slot.idle_s
            slot.idle_s = min(IDLE_MAX_S, slot.idle_s * 1.5)
        return moved

    def _failed(self, slot: _Slot, error: TailraceError) -> None:
        slot.failures += 1
        pause_s = min(BACKOFF_MAX_S, BACKOFF_MIN_S * 2 ** min(slot.failures - 1, 10))
        if isinstance(error, Superseded):
            pause_s = max(pause_s, 0.5)
        slot.due_s = self._clock.monotonic_s() + pause_s
        if slot.said != error.code:
            slot.said = error.code
            self._telemetry.event("loop.failed", f"{slot.name}: {error}", source=slot.name, level="error")
