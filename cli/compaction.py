"""Do: keep the local log small: compact it now and then, from the capture process, which is its only writer of records.

A broker compacts by itself; a transport without `compact` is left alone.
"""

from __future__ import annotations

from schemas.ports import Clock, Transport

EVERY_MS = 20_000


class Compaction:
    """A stepper; does nothing until the interval has passed."""

    def __init__(self, transport: Transport, clock: Clock) -> None:
        self._compact = getattr(transport, "compact", None)
        self._clock = clock
        self._due_ms = clock.monotonic_ms() + EVERY_MS

    def step(self) -> bool:
        now_ms = self._clock.monotonic_ms()
        if self._compact is None or now_ms < self._due_ms:
            return False
        self._due_ms = now_ms + EVERY_MS
        self._compact(self._clock.now_ms())
        return False

    def close(self) -> None:
        """The transport is its opener's."""
