"""Do: a small ring of sizes, read once a minute and kept in a file, so that growth can be told.

Invariant: the file has a bounded number of readings whatever time passes: where it is full, every other one of its older half
goes, so that it reaches further back the longer it runs. Growth that is not known yet, or is too old, is None and never zero.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.ports import Clock

EVERY_MS = 60_000
MOST = 240
WINDOW_MS = 3600_000
"""Growth is told over the last hour, or over what there is of it."""
LEAST_MS = 5 * 60_000
"""A shorter time tells of a batch, not of a trend."""
STALE_MS = 10 * EVERY_MS
DAY_MS = 24 * 3600_000

Reading = dict[str, Any]
"""at_ms, and name -> bytes; None: could not be read then."""


def kept(readings: Sequence[Reading]) -> list[Reading]:
    if len(readings) <= MOST:
        return list(readings)
    half = len(readings) // 2
    return [*readings[:half:2], *readings[half:]]


def per_day(readings: Sequence[Reading], name: str, *, now_ms: int) -> float | None:
    """Bytes a day by which `name` grew over the window; below zero: it shrank. None: unknown."""
    known = [one for one in readings if isinstance(one.get(name), int)]
    if not known or now_ms - known[-1]["at_ms"] > STALE_MS:
        return None
    last = known[-1]
    first = next((one for one in known if last["at_ms"] - one["at_ms"] <= WINDOW_MS), last)
    span_ms = last["at_ms"] - first["at_ms"]
    if span_ms < LEAST_MS:
        return None
    return float((last[name] - first[name]) * DAY_MS / span_ms)


def seconds_to(limit: int, readings: Sequence[Reading], name: str, *, now_ms: int) -> float | None:
    """Until `name` reaches the limit at its present growth; None: unknown, or it does not grow."""
    grows = per_day(readings, name, now_ms=now_ms)
    if grows is None or grows <= 0:
        return None
    size: int = next(one[name] for one in reversed(readings) if isinstance(one.get(name), int))
    return max(0.0, (limit - size) * (DAY_MS / 1000) / grows)


def read(path: Path) -> list[Reading]:
    """Empty when there are none, or none that can be read: growth is unknown then."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return []
    return [one for one in found if isinstance(one, dict) and isinstance(one.get("at_ms"), int)]


class Readings:
    """A stepper that takes a reading now and then. What cannot be written is tried again a minute later."""

    def __init__(self, path: Path, take: Callable[[], Mapping[str, int | None]], clock: Clock) -> None:
        self._path = path
        self._take = take
        self._clock = clock
        self._due_ms = 0

    def step(self) -> bool:
        if self._clock.monotonic_ms() < self._due_ms:
            return False
        self._due_ms = self._clock.monotonic_ms() + EVERY_MS
        now_ms = self._clock.now_ms()
        readings = [one for one in read(self._path) if one["at_ms"] < now_ms]
        readings = kept([*readings, {"at_ms": now_ms, **self._take()}])
        self._path.parent.mkdir(parents=True, exist_ok=True)
        whole = self._path.with_suffix(".tmp")
        whole.write_text(json.dumps(readings), encoding="utf-8")
        whole.replace(self._path)
        return False

    def close(self) -> None:
        """Nothing is open between two steps."""
