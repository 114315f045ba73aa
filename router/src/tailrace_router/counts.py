"""Decide: requests, failures and latencies of each side, in windows of five seconds; bounded, and cheap to add to.

Invariant: the document holds all recent windows each time, so one that is lost or read twice changes nothing. A latency is
a bucket of a fixed ladder that whoever reads it can add up over instances.
"""

from __future__ import annotations

import json
import math
import threading
from typing import Any

from tailrace_router.route import Side

FORMAT = 1
WINDOW_MS = 5000
FIRST_MS, GROWTH = 0.05, 1.2
"""Bucket n ends at FIRST_MS * GROWTH ** n."""
MAX_BUCKET = 90
"""Ends at eleven minutes."""
KEPT_WINDOWS = 60
_LOG = math.log(GROWTH)
SHADOW = ("compared", "mismatched", "failed", "dropped")


def bucket_of(seconds: float) -> int:
    times = seconds * 1000 / FIRST_MS
    return 0 if times <= 1 else min(MAX_BUCKET, math.ceil(math.log(times) / _LOG - 1e-9))


class _Window:
    __slots__ = ("failures", "latencies", "moved", "requests", "shadow")

    def __init__(self) -> None:
        self.requests = {Side.SOURCE: 0, Side.TARGET: 0}
        self.failures = {Side.SOURCE: 0, Side.TARGET: 0}
        self.moved = {Side.SOURCE: 0, Side.TARGET: 0}
        self.latencies: dict[Side, dict[int, int]] = {Side.SOURCE: {}, Side.TARGET: {}}
        self.shadow = dict.fromkeys(SHADOW, 0)

    def document(self, from_ms: int) -> dict[str, Any]:
        sides = {
            side.value: {
                "requests": self.requests[side],
                "failures": self.failures[side],
                "moved": self.moved[side],
                "latencies": self.latencies[side],
            }
            for side in Side
            if self.requests[side] or self.moved[side]
        }
        shadow = {"shadow": self.shadow} if any(self.shadow.values()) else {}
        return {"from_ms": from_ms, **sides, **shadow}


class Counts:
    """Of one process."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._windows: dict[int, _Window] = {}
        self._from_ms = -1
        self._current = _Window()

    def succeeded(self, side: Side, seconds: float, *, now_ms: int) -> None:
        number = bucket_of(seconds)
        with self._lock:
            window = self._window(now_ms)
            window.requests[side] += 1
            latencies = window.latencies[side]
            latencies[number] = latencies.get(number, 0) + 1

    def failed(self, side: Side, *, now_ms: int) -> None:
        with self._lock:
            window = self._window(now_ms)
            window.requests[side] += 1
            window.failures[side] += 1

    def moved(self, side: Side, *, now_ms: int) -> None:
        """A write that was told to come again: neither a request that was served nor a failure."""
        with self._lock:
            self._window(now_ms).moved[side] += 1

    def shadowed(self, what: str, *, now_ms: int) -> None:
        with self._lock:
            self._window(now_ms).shadow[what] += 1

    def document(self, *, instance: str, epoch: int, stale: bool, at_ms: int) -> str:
        with self._lock:
            windows = [one.document(from_ms) for from_ms, one in self._windows.items()]
            return json.dumps(
                {
                    "format": FORMAT,
                    "instance": instance,
                    "epoch": epoch,
                    "stale": stale,
                    "at_ms": at_ms,
                    "windows": windows,
                }
            )

    def _window(self, now_ms: int) -> _Window:
        if 0 <= now_ms - self._from_ms < WINDOW_MS and self._from_ms >= 0:
            return self._current
        self._from_ms = now_ms - now_ms % WINDOW_MS
        # A clock that was set back comes to a window that is there already.
        self._current = self._windows.setdefault(self._from_ms, _Window())
        while len(self._windows) > KEPT_WINDOWS:
            del self._windows[min(self._windows)]
        return self._current
