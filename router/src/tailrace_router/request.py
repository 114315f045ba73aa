"""Do: the blocks that an application writes around a read and around a transaction: which side, how long, and did it fail.

Invariant: the error of the application goes on as it was; only the refusal of a closed side becomes WritesMoving, with the
refusal as its cause.
"""

from __future__ import annotations

import time
from types import TracebackType
from typing import TYPE_CHECKING

from tailrace_router.errors import WritesMoving, moved
from tailrace_router.route import Side

if TYPE_CHECKING:
    from tailrace_router.router import Router


class Request:
    """One read: gives its side, and reports how it went."""

    __slots__ = ("_began_s", "_router", "side")

    def __init__(self, router: Router, side: Side) -> None:
        self._router = router
        self.side = side

    def __enter__(self) -> Side:
        self._began_s = time.perf_counter()
        return self.side

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        router, now_ms = self._router, time.time_ns() // 1_000_000
        if error is None or not router._failed(error):
            router.counts.succeeded(self.side, time.perf_counter() - self._began_s, now_ms=now_ms)
        else:
            router.counts.failed(self.side, now_ms=now_ms)


class Write:
    """One transaction: waits for an open side, gives it, and turns its refusal into WritesMoving."""

    __slots__ = ("_began_s", "_epoch", "_router", "_side", "_wait_s")

    def __init__(self, router: Router, wait_s: float) -> None:
        self._router = router
        self._wait_s = wait_s

    def __enter__(self) -> Side:
        self._side, self._epoch = self._router._writable(self._wait_s)
        self._began_s = time.perf_counter()
        return self._side

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        router, now_ms = self._router, time.time_ns() // 1_000_000
        if error is None:
            router.counts.succeeded(self._side, time.perf_counter() - self._began_s, now_ms=now_ms)
            return
        closed = None if isinstance(error, WritesMoving) else moved(error)
        if closed is not None:
            epoch = max(self._epoch, closed)
            router._refuse(self._side, epoch)
            router.counts.moved(self._side, now_ms=now_ms)
            raise WritesMoving(f"the {self._side} takes no writes any more (epoch {epoch})", epoch=epoch) from error
        if router._failed(error) and not isinstance(error, WritesMoving):
            router.counts.failed(self._side, now_ms=now_ms)
