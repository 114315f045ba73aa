"""What a decision of the router costs, beside an empty call in the same run: median and best of several rounds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

from tailrace_router import CallableRoute, Marker, Route, Router, Side

ROUNDS, CALLS = 150, 2_000
"""Many short rounds: one of them meets a quiet moment of a shared machine."""
LIMIT_US = 5.0


def empty(number: int) -> None:
    """What a call costs by itself."""


def measured(call: Callable[[int], object]) -> list[float]:
    """Microseconds a call, for each round."""
    found = []
    for _ in range(ROUNDS):
        began_s = time.perf_counter()
        for number in range(CALLS):
            call(number)
        found.append((time.perf_counter() - began_s) / CALLS * 1e6)
    return found


def main() -> None:
    share = Route(4, "source", 5000, 1, time.time_ns() // 1_000_000, True, 10, {"cases": 10})
    router = Router([CallableRoute(lambda: share.text())], stale_s=3600, poll_s=1.0)
    assert {Side.SOURCE, Side.TARGET} == {router.read_side(number) for number in range(100)}
    marker = Marker(4, Side.SOURCE, 0, {"cases": 9})

    def request(number: int) -> None:
        with router.read(number):
            pass

    def write(number: int) -> None:  # noqa: ARG001
        with router.write():
            pass

    cases: dict[str, Callable[[int], object]] = {
        "empty call": empty,
        "read_side": router.read_side,
        "read_side with a marker": lambda number: router.read_side(number, after=marker),
        "read: decision, time, counts": request,
        "write: decision, time, counts": write,
    }
    base = 0.0
    for name, call in cases.items():
        found = measured(call)
        base = base or min(found)
        verdict = "" if name != "read_side" else f"  (must be below {LIMIT_US:g} us)"
        print(
            f"{name:32} best {min(found):6.2f} us, median {statistics.median(found):6.2f} us, "
            f"{min(found) / base:5.1f} empty calls{verdict}"
        )
    router.wrote("one", Side.SOURCE, {"cases": 1 << 40})
    found = measured(router.read_side)
    print(
        f"{'read_side while keys are pinned':32} best {min(found):6.2f} us, median {statistics.median(found):6.2f} us"
    )
    router.close()


if __name__ == "__main__":
    main()
