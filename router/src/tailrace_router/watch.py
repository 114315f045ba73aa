"""Do: keep the newest route that any source gives, and let others wait for the next one.

Invariant: when every source is gone the last route stays: writes go where it says, and a wrong guess meets the fence or
the guard. That state is told, never hidden. A route that nobody renews is no longer fresh, and reads leave the target.
Freshness goes by this process's own monotonic clock, from the moment a route was *seen to move*: the publisher's wall
clock may be wrong. Only the very first route is judged by it, since a file may have lain there for days.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from tailrace_router.route import NOTHING_KNOWN, Route, parse
from tailrace_router.sources import RouteSource

BACK_OFF_S = 1.0
"""A source that failed is left alone for so long: one that hangs must not hide the others."""


class Watcher:
    """`look` is called by the router's thread; everything else by anybody."""

    def __init__(self, sources: Sequence[RouteSource], *, stale_s: float, remember: Path | None) -> None:
        self._sources = list(sources)
        self._stale_s = stale_s
        self._remember = remember
        self._again_at_s: dict[str, float] = {}
        self.failing: dict[str, str] = {}
        self.not_kept: list[str] = []
        self.listeners: list[Callable[[Route], None]] = []
        self.renew_locks()
        self._moves = 0
        self._seen_at_s = 0.0
        self.route = self._remembered()

    def renew_locks(self) -> None:
        """After a fork: whoever held one is not in this process."""
        self._looking = threading.Lock()
        self._taken = threading.Condition(threading.Lock())

    @property
    def gone(self) -> bool:
        """Is every source failing? Without any source nothing can fail: the assumed route is the route."""
        return bool(self._sources) and len(self.failing) == len(self._sources)

    @property
    def fresh_until_s(self) -> float:
        """Monotonic; 0: it is not fresh."""
        if self._moves >= 2 or (self._moves and self._young()):
            return self._seen_at_s + self._stale_s
        return 0.0

    def look(self, *, now_s: float | None = None) -> None:
        """Ask every source once; never raises."""
        with self._looking:
            for number, source in enumerate(self._sources):
                at_s = time.monotonic() if now_s is None else now_s
                key = f"{number} {source.name}"
                if at_s < self._again_at_s.get(key, 0.0):
                    continue
                try:
                    route = source.read()
                except Exception as error:  # noqa: BLE001 - whatever a source raises, requests go on
                    self.failing[key] = f"{source.name}: {type(error).__name__}"
                    self._again_at_s[key] = at_s + BACK_OFF_S
                    continue
                self.failing.pop(key, None)
                self._again_at_s.pop(key, None)
                if route is not None:
                    self._take(route, at_s)

    def wait(self, done: Callable[[Route], bool], *, until_s: float) -> bool:
        """Until a route is one; False when the time has passed first."""
        with self._taken:
            while not done(self.route):
                left_s = until_s - time.monotonic()
                if left_s <= 0:
                    return False
                self._taken.wait(min(left_s, 0.05))
        return True

    def _take(self, route: Route, at_s: float) -> None:
        before = self.route
        if not route.newer_than(before):
            return
        self._moves += 1
        self._seen_at_s = at_s
        with self._taken:
            self.route = route
            self._taken.notify_all()
        for listener in self.listeners:
            listener(route)
        if self._remember is not None and (route.epoch, route.authority) != (before.epoch, before.authority):
            self._keep(self._remember, route)

    def _young(self) -> bool:
        return abs(time.time() * 1000 - self.route.published_at_ms) < self._stale_s * 1000

    def _remembered(self) -> Route:
        if self._remember is None:
            return NOTHING_KNOWN
        try:
            return parse(self._remember.read_bytes())
        except (OSError, ValueError):
            return NOTHING_KNOWN  # the first start, or a file that a dying disk left: the sources will tell

    def _keep(self, path: Path, route: Route) -> None:
        whole = path.with_name(f"{path.name}.{os.getpid()}.tmp")
        try:
            whole.write_text(route.text(), encoding="utf-8")
            whole.replace(path)
            self.not_kept = []
        except OSError as error:
            self.not_kept = [f"{path}: {error.strerror}"]
