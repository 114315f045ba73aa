"""Do: run some reads on the other side as well and compare, off the request path.

Invariant: the request gets the result of its own side, whatever happens here: the queue is bounded (full: the comparison is
dropped and counted), the other side is asked in a thread of its own, and its errors are counted, never raised.
Two sides that are a moment apart are no mismatch: a difference counts only if both sides, asked again after the bound of
the lag, still differ; and then once more (test_a_difference_that_lag_explains_does_not_count).
The sample is drawn by another group than the route, or it would be the very readers that are on the target already.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from typing import Any, Callable, TypeVar

from tailrace_router.route import BUCKETS, Side, bucket
from tailrace_router.router import Router

T = TypeVar("T")
Same = Callable[[Any, Any], bool]
Query = Callable[[Side], Any]
BROKEN_AFTER = 5
PAUSE_S = 5.0


class Shadow:
    """Args:
    share: of 10,000 keys, those whose reads are compared.
    queue: comparisons that may wait.
    recheck_s: how long after a difference both sides are asked again; at least the bound of the lag.
    same: how results are compared; default: equality.
    mismatch: told of each confirmed difference, with the key.
    """

    def __init__(
        self,
        router: Router,
        *,
        share: int = 100,
        queue: int = 1000,
        recheck_s: float = 5.0,
        rechecks: int = 2,
        same: Same = lambda one, other: bool(one == other),
        mismatch: Callable[[object], object] = lambda id: None,  # noqa: ARG005
    ) -> None:
        self._router = router
        self._share = share
        self._room = queue
        self._recheck_s = recheck_s
        self._rechecks = rechecks
        self._same = same
        self._mismatch = mismatch
        self._closed = False
        self._numbers = itertools.count()
        self._queue: list[tuple[float, int, _Comparison]] = []
        self._some = threading.Condition()
        self._broken = 0
        self._rest_until_s = 0.0
        self._thread: threading.Thread | None = None

    def read(self, id: object, query: Callable[[Side], T]) -> T:
        """`query(side)` on the side that the route names. It must change nothing and open its own connection: it may run
        again in another thread, on the other side."""
        with self._router.read(id) as side:
            result = query(side)
        if bucket("shadow", id) < self._share or self._share >= BUCKETS:
            self._put(0.0, _Comparison(id, query, side, result, self._rechecks))
        return result

    def close(self) -> None:
        with self._some:
            self._closed = True
            self._some.notify()
        if self._thread is not None:
            self._thread.join(timeout=5.0)

    def _put(self, due_s: float, one: _Comparison) -> None:
        with self._some:
            if self._closed or len(self._queue) >= self._room:
                self._count("dropped")
                return
            heapq.heappush(self._queue, (due_s, next(self._numbers), one))
            if self._thread is None or not self._thread.is_alive():
                self._thread = threading.Thread(target=self._work, name="tailrace-shadow", daemon=True)
                self._thread.start()
            self._some.notify()

    def _work(self) -> None:
        while True:
            with self._some:
                while not self._closed and not self._ready():
                    self._some.wait(self._until_due())
                if self._closed:
                    return
                _, _, one = heapq.heappop(self._queue)
            self._compare(one)

    def _ready(self) -> bool:
        return bool(self._queue) and self._queue[0][0] <= time.monotonic()

    def _until_due(self) -> float | None:
        return max(0.001, self._queue[0][0] - time.monotonic()) if self._queue else None

    def _compare(self, one: _Comparison) -> None:
        if time.monotonic() < self._rest_until_s:
            self._count("dropped")
            return
        try:
            mine = one.result if one.first else one.query(one.side)
            same = self._same(mine, one.query(one.side.other))
        except Exception:  # noqa: BLE001 - the request was answered long ago
            self._count("failed")
            self._broken += 1
            if self._broken >= BROKEN_AFTER:
                self._broken, self._rest_until_s = 0, time.monotonic() + PAUSE_S
            return
        self._broken = 0
        if same:
            self._count("compared")
        elif one.left:
            self._put(
                time.monotonic() + self._recheck_s, _Comparison(one.id, one.query, one.side, None, one.left - 1, False)
            )
        else:
            self._count("compared")
            self._count("mismatched")
            self._told(one.id)

    def _told(self, id: object) -> None:
        try:
            self._mismatch(id)
        except Exception:  # noqa: BLE001 - it was counted
            self._count("failed")

    def _count(self, what: str) -> None:
        self._router.counts.shadowed(what, now_ms=time.time_ns() // 1_000_000)


class _Comparison:
    __slots__ = ("first", "id", "left", "query", "result", "side")

    def __init__(self, id: object, query: Query, side: Side, result: object, left: int, first: bool = True) -> None:
        self.id = id
        self.query = query
        self.side = side
        self.result = result
        self.left = left
        self.first = first
