"""Do: tell a request where to read and a transaction where to write, and report how it went.

Invariant: nothing here is the authority: the fence of SQLite and the guard of PostgreSQL are, so every answer may be old
and none can split the data. What this adds is that requests go to the right side at once, wait for a moment instead of
failing while writes move, and read what they wrote.
A request meets no network and no file: one thread looks at the sources of routes and sends the reports. After a fork the
child gets its own thread and its own name.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
import uuid
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable, TypeVar

from tailrace_router.counts import Counts
from tailrace_router.errors import RETRY_S, WritesMoving, undone
from tailrace_router.marker import Marker, Pins
from tailrace_router.reports import ReportSink
from tailrace_router.request import Request, Write
from tailrace_router.route import BUCKETS, Route, Side, bucket
from tailrace_router.sources import FileRoute, RouteSource
from tailrace_router.watch import Watcher

T = TypeVar("T")
Failed = Callable[[BaseException], bool]
OnSwitch = Callable[[Side], object]
REPORT_REST_S = 5.0
"""A sink of reports that failed is left alone for so long: one that hangs must not keep the thread from the routes."""


@dataclass(frozen=True)
class State:
    """What the router knows, for a health page of the application. `gone`: no source of routes answers."""

    instance: str
    route: Route
    fresh: bool
    gone: bool
    failing: Sequence[str]
    pins: int
    report_failures: int
    callback_failures: int


class Router:
    """One for each process, made once.

    Args:
        routes: where routes are published; a path stands for its file. The newest of all counts.
        group: beside the id it decides the bucket; another group is another draw.
        wait_s: how long a write waits while both sides are closed, before WritesMoving.
        max_lag_ms: the target is read only while it is no further behind.
        stale_s: a route that nobody renewed for so long no longer sends reads to the target.
        hold_s: how long a write without positions keeps its key's reads on the source; default: stale_s + max_lag_ms.
        remember: file for the last known route, where all sources may be away while the application starts.
        reports: who is told of requests, failures and latencies.
        failed: which errors of a request count as failures of its side; default: all.
    """

    def __init__(
        self,
        routes: str | Path | Sequence[RouteSource],
        *,
        group: str = "user",
        wait_s: float = 2.0,
        max_lag_ms: int = 5000,
        stale_s: float = 5.0,
        hold_s: float | None = None,
        poll_s: float = 0.05,
        max_pins: int = 100_000,
        remember: str | Path | None = None,
        reports: Sequence[ReportSink] = (),
        report_s: float = 2.0,
        failed: Failed = lambda error: isinstance(error, Exception),
    ) -> None:
        sources = [FileRoute(routes)] if isinstance(routes, (str, Path)) else list(routes)
        self._group = group
        self._wait_s = wait_s
        self._max_lag_ms = max_lag_ms
        self._hold_ms = int((stale_s + max_lag_ms / 1000 if hold_s is None else hold_s) * 1000)
        self._poll_s = poll_s
        self._max_pins = max_pins
        self._reports = list(reports)
        self._report_s = report_s
        self._failed = failed
        self._switched: list[OnSwitch] = []
        self._callback_failures = 0
        self._report_failures = 0
        self._report_again_s: dict[int, float] = {}
        self._closed = False
        self._watcher = Watcher(sources, stale_s=stale_s, remember=Path(remember) if remember else None)
        self._last_writes = self._watcher.route.writes or self._watcher.route.complete_side
        self._watcher.listeners.append(self._heard)
        self._watcher.look()
        self._refused: tuple[Side, int] | None = None
        self._born()
        if hasattr(os, "register_at_fork"):
            me = weakref.ref(self)
            os.register_at_fork(after_in_child=lambda: _forked(me))

    # reading

    def read_side(self, id: object, *, group: str | None = None, after: Marker | str | None = None) -> Side:
        """Where this key's read belongs now. `after`: a marker that came with the request, e.g. from its session."""
        watcher = self._watcher
        route = watcher.route
        if after is not None:
            held = self._held(after, route)
            if held is not None:
                return held
        chosen = self._group if group is None else group
        if self._pins:
            held = self._pins.side_for(
                (chosen, str(id)), route, now_ms=time.time_ns() // 1_000_000, hold_ms=self._hold_ms
            )
            if held is not None:
                return held
        if route.complete_side is Side.TARGET:
            return Side.TARGET
        share = route.share_within(self._max_lag_ms)
        if not share or time.monotonic() >= watcher.fresh_until_s:
            return Side.SOURCE
        return Side.TARGET if share >= BUCKETS or bucket(chosen, id) < share else Side.SOURCE

    def read(self, id: object, *, group: str | None = None, after: Marker | str | None = None) -> Request:
        """`with router.read(user_id) as side:`; what the block takes and whether it fails is reported for that side."""
        return Request(self, self.read_side(id, group=group, after=after))

    # writing

    def write(self, *, wait_s: float | None = None) -> Write:
        """`with router.write() as side:` around one whole transaction.

        Raises WritesMoving where both sides are closed for longer than `wait_s`, and in place of the error of a fence or
        guard that the block met. Nothing was written then: run the whole transaction again.
        """
        return Write(self, self._wait_s if wait_s is None else wait_s)

    def retrying(self, transaction: Callable[[Side], T], *, for_s: float = 15.0) -> T:
        """Run one whole transaction, and again while writes move or PostgreSQL took it back (deadlock, serialization). It
        must roll back when it fails."""
        until_s = time.monotonic() + for_s
        while True:
            try:
                with self.write() as side:
                    return transaction(side)
            except Exception as error:
                if not (isinstance(error, WritesMoving) or undone(error)) or time.monotonic() + RETRY_S >= until_s:
                    raise
                time.sleep(RETRY_S * (0.5 + random.random()))

    def wrote(
        self, id: object, side: Side, positions: Mapping[str, int] | None = None, *, group: str | None = None
    ) -> Marker:
        """After the commit: this key's reads stay where it wrote until the other side has it.

        Args:
            side: what `write` gave.
            positions: source database -> `SELECT max(seq) FROM _tailrace_log`, asked in the transaction; none: for a time.
        """
        route = self._watcher.route
        epoch = route.epoch if side is route.complete_side else route.epoch + 1
        marker = Marker(epoch, side, time.time_ns() // 1_000_000, dict(positions or {}))
        if marker.side_for(route, now_ms=marker.at_ms, hold_ms=self._hold_ms) is not None:
            self._pins.add((self._group if group is None else group, str(id)), marker)
        return marker

    # looking after it

    def on_switch(self, callback: OnSwitch) -> None:
        """Called in the router's thread with the new side whenever writes have moved: reset pools, warm caches."""
        self._switched.append(callback)

    def state(self) -> State:
        watcher = self._watcher
        return State(
            self.instance,
            watcher.route,
            time.monotonic() < watcher.fresh_until_s,
            watcher.gone,
            sorted([*watcher.failing.values(), *watcher.not_kept]),
            len(self._pins),
            self._report_failures,
            self._callback_failures,
        )

    def close(self) -> None:
        """Send the last report and end the thread. Not needed at the end of a process."""
        self._closed = True
        self._wake.set()
        self._thread.join(timeout=5.0)
        self._report()
        for sink in self._reports:
            try:
                sink.gone(self.instance)
            except Exception:  # noqa: BLE001 - it expires by itself
                self._report_failures += 1

    def _held(self, after: Marker | str, route: Route) -> Side | None:
        marker = Marker.of(after) if isinstance(after, str) else after
        if marker is None:
            return None
        return marker.side_for(route, now_ms=time.time_ns() // 1_000_000, hold_ms=self._hold_ms)

    def _writable(self, wait_s: float) -> tuple[Side, int]:
        """(side, epoch it was decided by). Blocks while both sides are closed, for `wait_s` at most."""
        route = self._watcher.route
        side = route.writes
        if side is not None and not self._shut(route):
            return side, route.epoch
        self._wake.set()
        if self._watcher.wait(lambda one: one.writes is not None and not self._shut(one), until_s=_in(wait_s)):
            return self._writable(wait_s)
        # Whoever comes next asks the database itself: a route that never comes must not keep an open side closed.
        refused, self._refused = self._refused, None
        if self._watcher.gone:
            # Nobody can say; the databases can. Where one refused, the other one is tried: it refuses too if it is closed.
            guess = refused[0].other if refused is not None else route.writes or route.complete_side
            return guess, route.epoch
        where = "both sides are closed" if side is None else f"the {side} refuses writes"
        raise WritesMoving(
            f"writes are moving (epoch {route.epoch}): {where} for more than {wait_s:g} s", epoch=route.epoch
        )

    def _shut(self, route: Route) -> bool:
        """Did the side that this route names refuse a write, and is the route not newer than that refusal?"""
        refused = self._refused
        return refused is not None and refused[0] is route.writes and route.epoch <= refused[1]

    def _refuse(self, side: Side, epoch: int) -> None:
        self._refused = (side, epoch)
        self._wake.set()

    def _heard(self, after: Route) -> None:
        """In the thread that looked. Only a side that can be written is a switch: the fence alone resets nothing."""
        side = after.writes
        if side is None or side is self._last_writes:
            return
        self._last_writes = side
        for callback in self._switched:
            try:
                callback(side)
            except Exception:  # noqa: BLE001 - one pool that cannot be reset must not keep the others from it
                self._callback_failures += 1

    def _born(self) -> None:
        """What belongs to this process alone."""
        self.instance = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self.counts = Counts()
        self._pins = Pins(limit=self._max_pins)
        self._refused = None
        self._wake = threading.Event()
        self._thread = threading.Thread(target=_run, args=(weakref.ref(self), self._wake), daemon=True)
        self._thread.name = "tailrace-router"
        self._thread.start()

    def _reborn(self) -> None:
        if not self._closed:
            self._watcher.renew_locks()
            self._born()

    def _turn(self, report_due: bool) -> None:
        self._watcher.look()
        if report_due:
            now_ms = time.time_ns() // 1_000_000
            self._pins.sweep(self._watcher.route, now_ms=now_ms, hold_ms=self._hold_ms)
            self._report()

    def _report(self) -> None:
        document = self.counts.document(
            instance=self.instance,
            epoch=self._watcher.route.epoch,
            stale=self._watcher.gone,
            at_ms=time.time_ns() // 1_000_000,
        )
        for sink in self._reports:
            if time.monotonic() < self._report_again_s.get(id(sink), 0.0):
                continue
            try:
                sink.send(self.instance, document)
            except Exception:  # noqa: BLE001 - the next document says it again
                self._report_failures += 1
                self._report_again_s[id(sink)] = time.monotonic() + REPORT_REST_S


def _run(router: weakref.ReferenceType[Router], wake: threading.Event) -> None:
    """The router's thread: ends with it."""
    report_at_s = 0.0
    while True:
        one = router()
        if one is None or one._closed or one._wake is not wake:
            return
        now_s = time.monotonic()
        due = now_s >= report_at_s
        if due:
            report_at_s = now_s + one._report_s
        one._turn(due)
        # While somebody waits for the route, it is looked at more often.
        pause_s = (
            min(one._poll_s, 0.01) if one._refused is not None or one._watcher.route.writes is None else one._poll_s
        )
        del one
        wake.wait(pause_s)
        wake.clear()


def _forked(router: weakref.ReferenceType[Router]) -> None:
    one = router()
    if one is not None:
        one._reborn()


def _in(seconds: float) -> float:
    return time.monotonic() + seconds
