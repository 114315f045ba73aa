"""Decide: which reads must stay on the side of a write until the other one has it (read your writes); pure but for a clock.

A marker says where a write went and up to which position of which source database. Positions are exact: the application
asks `SELECT max(seq) FROM _tailrace_log` in the transaction of the write, on the connection that made it; no later change
of that transaction may follow. Without positions a marker holds for a time instead, which is as good as the bound of the lag.

Invariant: when there are more keys than may be kept, the oldest are not forgotten: until the target has reached their
positions, every key that is not kept counts as if it had written (test_too_many_pins_pin_everybody).
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlencode

from tailrace_router.route import Route, Side


@dataclass(frozen=True)
class Marker:
    """Put its `text()` into the session or a cookie when the next read may come to another process."""

    epoch: int
    side: Side
    at_ms: int
    """Wall clock of the application."""
    positions: Mapping[str, int] = field(default_factory=dict)

    def text(self) -> str:
        return f"{self.epoch}:{self.side.value}:{self.at_ms}:{urlencode(self.positions)}"

    @classmethod
    def of(cls, text: str) -> Marker | None:
        """None for what is no marker: a cookie may hold anything."""
        try:
            epoch, side, at_ms, positions = text.split(":", 3)
            found = {name: int(seq) for name, seq in parse_qsl(positions, strict_parsing=bool(positions))}
            return cls(int(epoch), Side(side), int(at_ms), found)
        except ValueError:
            return None

    def side_for(self, route: Route, *, now_ms: int, hold_ms: int) -> Side | None:
        """The side that a read after this write must take; None: any will do.

        Args:
            hold_ms: how long a write without positions stays on its side.
        """
        if self.epoch > route.epoch:
            return self.side  # this process does not know yet where writes went
        if self.side is Side.TARGET or route.complete_side is Side.TARGET:
            return None  # the target holds what it was given; a source that was drained gave it everything
        if not self.positions:
            return Side.SOURCE if now_ms < self.at_ms + hold_ms else None
        applied = all(route.applied.get(name, -1) >= seq for name, seq in self.positions.items())
        return None if applied else Side.SOURCE

    def joined(self, other: Marker) -> Marker:
        """Both writes."""
        later = max(self, other, key=lambda one: (one.epoch, one.at_ms))
        positions = dict(self.positions) if self.positions and other.positions else {}
        for name, seq in other.positions.items() if positions else ():
            positions[name] = max(seq, positions.get(name, 0))
        return Marker(later.epoch, later.side, later.at_ms, positions)


class Pins:
    """The markers of the keys that wrote lately, in this process."""

    def __init__(self, *, limit: int) -> None:
        self._limit = limit
        self._lock = threading.Lock()
        self._kept: OrderedDict[tuple[str, str], Marker] = OrderedDict()
        self._rest: Marker | None = None

    def __bool__(self) -> bool:
        return bool(self._kept) or self._rest is not None

    def __len__(self) -> int:
        return len(self._kept)

    def add(self, key: tuple[str, str], marker: Marker) -> None:
        with self._lock:
            known = self._kept.pop(key, None)
            self._kept[key] = marker if known is None else known.joined(marker)
            while len(self._kept) > self._limit:
                _, oldest = self._kept.popitem(last=False)
                self._rest = oldest if self._rest is None else self._rest.joined(oldest)

    def side_for(self, key: tuple[str, str], route: Route, *, now_ms: int, hold_ms: int) -> Side | None:
        with self._lock:
            marker = self._kept.get(key)
            if marker is None:
                marker = self._rest
                if marker is None:
                    return None
            side = marker.side_for(route, now_ms=now_ms, hold_ms=hold_ms)
            if side is None:
                if marker is self._rest:
                    self._rest = None
                else:
                    del self._kept[key]
            return side

    def sweep(self, route: Route, *, now_ms: int, hold_ms: int, most: int = 1000) -> None:
        """Forget the oldest that need no pin any more; keys that never read again must not fill the room."""
        with self._lock:
            for key in list(_first(self._kept, most)):
                if self._kept[key].side_for(route, now_ms=now_ms, hold_ms=hold_ms) is None:
                    del self._kept[key]


def _first(kept: OrderedDict[tuple[str, str], Marker], most: int) -> list[tuple[str, str]]:
    return [key for key, _ in zip(kept, range(most))]
