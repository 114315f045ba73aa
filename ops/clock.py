"""Do: the machine's clock behind ports.Clock, so that deciders and loops can be run under a simulated one."""

from __future__ import annotations

import time


class SystemClock:
    """Wall clock for stamps, monotonic clock for waiting."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic_s(self) -> float:
        return time.monotonic()

    def monotonic_ms(self) -> int:
        return time.monotonic_ns() // 1_000_000

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
