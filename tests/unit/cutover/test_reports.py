"""Reports of several routers become one value."""

from __future__ import annotations

import json
from typing import Any

from cutover.reports import FIRST_MS, GROWTH, WINDOW_MS, Report, SideFigures, merged


def document(instance: str, *windows: dict[str, Any], epoch: int = 4) -> str:
    return json.dumps({"format": 1, "instance": instance, "epoch": epoch, "windows": list(windows)})


def side(requests: int, latencies: dict[int, int], failures: int = 0) -> dict[str, Any]:
    return {"requests": requests, "failures": failures, "moved": 1, "latencies": latencies}


def test_windows_of_instances_are_added_up() -> None:
    one = document("a", {"from_ms": 5000, "source": side(10, {3: 10})}, {"from_ms": 10000, "source": side(1, {3: 1})})
    two = document("b", {"from_ms": 5000, "source": side(5, {9: 4}, failures=1), "target": side(2, {1: 2})}, epoch=5)
    found = merged([Report(one, 0.5), Report(two, 1.5)])
    assert [5000, 10000] == [window.from_ms for window in found.windows]
    assert (15, 1, 2) == (
        found.windows[0].source.requests,
        found.windows[0].source.failures,
        found.windows[0].source.moved,
    )
    assert 2 == found.windows[0].target.requests
    assert {"a": (4, 0.5), "b": (5, 1.5)} == {name: (i.epoch, i.age_s) for name, i in found.instances.items()}
    assert 11 == found.between(0, 5000 + 2 * WINDOW_MS).source.requests - 5
    assert 0 == found.between(0, 5000 + WINDOW_MS - 1).source.requests
    assert {"a"} == set(found.alive(within_s=1.0))


def test_the_p95_of_instances_is_that_of_their_requests() -> None:
    """94 fast ones in one, 6 slow ones in the other: the slow ones decide; a mean of two p95 would be half of it."""
    fast, slow = (
        document("a", {"from_ms": 0, "target": side(94, {0: 94})}),
        document("b", {"from_ms": 0, "target": side(6, {30: 6})}),
    )
    assert FIRST_MS * GROWTH**30 == merged([Report(fast, 0), Report(slow, 0)]).windows[0].target.p95_ms
    assert None is SideFigures().p95_ms
    assert None is SideFigures().error_percent
    assert 25.0 == SideFigures(requests=4, failures=1).error_percent


def test_an_unreadable_report_is_named() -> None:
    good = document("a", {"from_ms": 0, "source": side(1, {0: 1})})
    newer = json.dumps({"format": 2, "instance": "c", "epoch": 1, "windows": []})
    found = merged([Report(good, 0), Report("{", 0, "half"), Report(newer, 0, "newer")], unreadable=["Redis"])
    assert ("Redis", "half", "newer") == found.unreadable
    assert {"a"} == set(found.instances)


def test_an_instance_in_two_places_counts_once() -> None:
    older = document("a", {"from_ms": 0, "source": side(1, {0: 1})})
    fresher = document("a", {"from_ms": 0, "source": side(3, {0: 3})})
    for order in ([Report(older, 9), Report(fresher, 1)], [Report(fresher, 1), Report(older, 9)]):
        found = merged(order)
        assert 3 == found.windows[0].source.requests
        assert 1 == found.instances["a"].age_s
