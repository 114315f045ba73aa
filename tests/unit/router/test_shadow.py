"""Reads on both sides, off the request path."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tailrace_router import Router, Shadow, Side
from tests.unit.router.test_router import until


@pytest.fixture
def router() -> Iterator[Router]:
    one = Router([])
    yield one
    one.close()


def counted(router: Router) -> dict[str, int]:
    total = dict.fromkeys(("compared", "mismatched", "failed", "dropped"), 0)
    for window in list(router.counts._windows.values()):
        for name, count in window.shadow.items():
            total[name] += count
    return total


def shadow_of(router: Router, **settings: Any) -> Shadow:
    return Shadow(router, **{"share": 10_000, "recheck_s": 0.05, **settings})


def test_the_request_gets_the_result_of_its_side(router: Router) -> None:
    told: list[object] = []
    shadow = shadow_of(router, mismatch=told.append)
    assert "source" == shadow.read(1, str)
    until(lambda: 1 == counted(router)["mismatched"])
    assert [1] == told
    assert 7 == shadow.read(2, lambda side: 7)
    until(lambda: 2 == counted(router)["compared"])
    assert 1 == counted(router)["mismatched"]
    shadow.close()


def test_a_difference_that_lag_explains_does_not_count(router: Router) -> None:
    shadow = shadow_of(router)
    rows = {Side.SOURCE: 2, Side.TARGET: 1}
    assert 2 == shadow.read(1, lambda side: rows[side])
    time.sleep(0.02)
    rows[Side.TARGET] = 2
    until(lambda: 1 == counted(router)["compared"])
    assert 0 == counted(router)["mismatched"]
    shadow.close()


def test_a_side_that_fails_or_hangs_holds_nobody_up(router: Router) -> None:
    shadow = shadow_of(router, queue=3)
    let_go = threading.Event()

    def query(side: Side) -> str:
        if side is Side.TARGET:
            let_go.wait(30)
            raise RuntimeError
        return "row"

    began_s = time.monotonic()
    assert {"row"} == {shadow.read(number, query) for number in range(50)}
    assert time.monotonic() - began_s < 20
    assert counted(router)["dropped"] >= 46
    let_go.set()
    until(lambda: 3 <= counted(router)["failed"])
    shadow.close()


def test_a_side_that_is_broken_is_left_alone_for_a_while(router: Router) -> None:
    shadow = shadow_of(router)
    asked: list[Side] = []

    def query(side: Side) -> None:
        asked.append(side)
        if side is Side.TARGET:
            raise RuntimeError

    for number in range(5):
        shadow.read(number, query)
    until(lambda: 5 == counted(router)["failed"])
    shadow.read(6, query)
    until(lambda: 1 == counted(router)["dropped"])
    assert 5 == asked.count(Side.TARGET)
    shadow.close()


def test_the_sample_is_another_draw_than_the_route(router: Router) -> None:
    asked: list[int] = []
    shadow = shadow_of(router, share=1000)
    for number in range(1000):
        shadow.read(number, lambda side, number=number: asked.append(number) if side is Side.TARGET else None)
    until(lambda: counted(router)["compared"] > 60)
    from tailrace_router import bucket

    assert any(bucket("user", number) >= 1000 for number in asked)
    shadow.close()
