"""Sticky buckets and routes."""

from __future__ import annotations

import json

import pytest

from tailrace_router.route import NOTHING_KNOWN, Route, Side, bucket, parse

VECTORS = {
    ("user", "1"): 4625,
    ("user", "42"): 1101,
    ("case", "42"): 6099,
    ("user", "Ä"): 6772,
    ("", ""): 9635,
}
"""Of hash version 1: they never change, or every reader would be drawn again."""


@pytest.mark.parametrize(("group", "id"), VECTORS)
def test_pinned_vectors(group: str, id: str) -> None:
    assert VECTORS[group, id] == bucket(group, id)


def test_a_number_and_its_text_are_one_id() -> None:
    assert bucket("user", 42) == bucket("user", "42")


def test_measured_share_is_within_half_a_point() -> None:
    drawn = [bucket("user", number) for number in range(100_000)]
    for share in (1000, 2500, 5000, 7500, 9000, 10_000):
        measured = sum(one < share for one in drawn) / 1000
        assert abs(share / 100 - measured) < 0.5


def test_raising_the_share_moves_nobody_back() -> None:
    inside: set[int] = set()
    for share in (1000, 2500, 5000, 7500, 9000, 10_000):
        now = {number for number in range(20_000) if bucket("user", number) < share}
        assert set() == inside - now
        inside = now
    assert 20_000 == len(inside)


def test_a_route_comes_back_as_it_was() -> None:
    route = Route(7, "target", 10_000, 1, 123, True, 40, {"cases": 9})
    assert route == parse(route.text())
    assert route == parse({**json.loads(route.text()), "of a later release": 1})


@pytest.mark.parametrize(
    "wrong",
    ["", "[]", "{}", '{"format": 1}', Route(1).text().replace('"source"', '"nowhere"'), '{"format": 2, "epoch": 1}'],
)
def test_what_is_no_route_is_refused(wrong: str) -> None:
    with pytest.raises(ValueError):
        parse(wrong)


def test_who_may_write() -> None:
    sides = {
        name: (Route(1, name).writes, Route(1, name).complete_side)
        for name in ("source", "to_target", "target", "to_source", "completed")
    }
    assert {
        "source": (Side.SOURCE, Side.SOURCE),
        "to_target": (None, Side.SOURCE),
        "target": (Side.TARGET, Side.TARGET),
        "to_source": (None, Side.TARGET),
        "completed": (Side.TARGET, Side.TARGET),
    } == sides


def test_an_unknown_lag_or_hash_reads_nothing_at_the_target() -> None:
    good = Route(1, "source", 5000, 1, 0, True, 100)
    assert 5000 == good.share_within(100)
    for wrong in (
        Route(1, "source", 5000, 1, 0, True, 101),
        Route(1, "source", 5000, 1, 0, True, None),
        Route(1, "source", 5000, 1, 0, False, 0),
        Route(1, "source", 5000, 2, 0, True, 0),
        NOTHING_KNOWN,
    ):
        assert 0 == wrong.share_within(100)


def test_order_is_epoch_then_time() -> None:
    assert Route(2, published_at_ms=1).newer_than(Route(1, published_at_ms=9))
    assert Route(2, published_at_ms=2).newer_than(Route(2, published_at_ms=1))
    assert not Route(2, published_at_ms=1).newer_than(Route(2, published_at_ms=1))
    assert not Route(1, published_at_ms=9).newer_than(Route(2, published_at_ms=1))
