"""Every rule of the health check fires, and none fires on noise or on what is unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.health import (
    Evaluation,
    Integrity,
    Outcome,
    Seen,
    Thresholds,
    causes,
    degradation,
    evaluate,
    in_a_row,
    strangers,
    unreplaced,
)
from cutover.reports import FIRST_MS, GROWTH, Instance, RouterReports, SideFigures, Window

LIMITS = Thresholds()


def side(requests: int, failures: int = 0, *, ms: float = 10.0) -> SideFigures:
    bucket = 0
    while FIRST_MS * GROWTH**bucket < ms:
        bucket += 1
    return SideFigures(requests, failures, 0, {bucket: requests - failures})


WELL = Seen(
    window=Window(0, 60_000, source=side(1000), target=side(1000)),
    instances=2,
    target_answers=True,
    probes={"url 1": ""},
    integrity=Integrity(1000, 1000, 5.0),
)


def outcome(evaluation: Evaluation, name: str) -> Outcome:
    return next(one.outcome for one in evaluation.checks if one.name == name)


def test_all_is_well() -> None:
    found = evaluate(WELL, LIMITS)
    assert (Outcome.HEALTHY, Outcome.HEALTHY) == (found.outcome, found.probed)
    assert () == causes(found, 0, LIMITS)


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (replace(WELL, target_answers=False), "target"),
        (replace(WELL, missing=("web-1",)), "routers"),
        (replace(WELL, strangers={"web-1": 3}), "routers"),
        (replace(WELL, probes={"url 1": "answers 503"}), "url 1"),
    ],
)
def test_a_failed_check_brings_back_only_the_third_time(seen: Seen, name: str) -> None:
    found = evaluate(seen, LIMITS)
    assert Outcome.FAILED == outcome(found, name) == found.probed
    row = 0
    for expected in (1, 2, 3):
        row = in_a_row(row, found)
        assert expected == row
        if not seen.strangers:
            assert (expected == 3) == bool(causes(found, row, LIMITS))
    assert "3 health checks failed in a row" in causes(found, row, LIMITS)[-1]


def test_a_good_check_between_them_forgives_and_one_that_says_nothing_does_not() -> None:
    bad, good = evaluate(replace(WELL, target_answers=False), LIMITS), evaluate(WELL, LIMITS)
    unknown = evaluate(replace(WELL, unreadable=("Redis",)), LIMITS)
    assert 0 == in_a_row(2, good)
    assert 2 == in_a_row(2, unknown)
    assert 3 == in_a_row(2, bad)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        (replace(WELL, window=Window(0, 1, target=side(200, 11))), "error rate 5.5 % is above 5 %"),
        (replace(WELL, integrity=Integrity(949, 1000, 5.0)), "integrity 94.90 % is under 95 %"),
        (replace(WELL, divergence=("cases.notes",)), "rows of cases.notes are proven to differ"),
        (replace(WELL, no_rollback={"cases.notes": "a column went"}), "the way back does not carry cases.notes"),
        (replace(WELL, disk_full=("sink cases: target-disk-full",)), "no room left: sink cases"),
        (replace(WELL, strangers={"web-1": 3}), "instance web-1 follows epoch 3"),
        (replace(WELL, target_answers=False, target_down_s=31.0), "the target was away for 31 s"),
    ],
)
def test_each_cause_brings_back_at_once(seen: Seen, said: str) -> None:
    found = causes(evaluate(seen, LIMITS), 0, LIMITS)
    assert 1 == len(found)
    assert said in found[0]


@pytest.mark.parametrize(
    "seen",
    [
        replace(WELL, window=Window(0, 1, target=side(99, 99))),
        replace(WELL, window=Window(0, 1, source=side(1000, 900), target=side(0))),
        replace(WELL, window=Window(0, 1, target=side(200, 10))),
        replace(WELL, integrity=None),
        replace(WELL, integrity=Integrity(950, 1000, 5.0)),
        replace(WELL, instances=0),
        replace(WELL, unreadable=("Redis",)),
        replace(WELL, probes={"url 1": None}),
        replace(WELL, target_answers=None),
        replace(WELL, target_answers=False, target_down_s=30.0),
    ],
)
def test_noise_with_too_few_samples_brings_nothing_back(seen: Seen) -> None:
    assert () == causes(evaluate(seen, LIMITS), 2, LIMITS)


@pytest.mark.parametrize(
    ("seen", "name"),
    [
        (replace(WELL, window=Window(0, 1, target=side(99))), "error rate"),
        (replace(WELL, window=Window(0, 1, source=side(99), target=side(1000))), "performance"),
        (replace(WELL, integrity=None), "integrity"),
        (replace(WELL, integrity=Integrity(0, 0, 1.0)), "integrity"),
        (replace(WELL, instances=0), "routers"),
        (replace(WELL, unreadable=("Redis",)), "routers"),
        (replace(WELL, probes={"url 1": None}), "url 1"),
        (replace(WELL, target_answers=None), "target"),
    ],
)
def test_unknown_is_never_healthy(seen: Seen, name: str) -> None:
    found = evaluate(seen, LIMITS)
    assert Outcome.INCONCLUSIVE == outcome(found, name)
    assert Outcome.HEALTHY != found.outcome


def test_an_alert_goes_out_above_the_error_rate() -> None:
    assert () == evaluate(replace(WELL, window=Window(0, 1, source=side(1000), target=side(1000, 10))), LIMITS).alerts
    found = evaluate(replace(WELL, window=Window(0, 1, source=side(1000), target=side(1000, 11))), LIMITS)
    assert ("error rate: 1.10 % of 1000 requests (at most 1 %)",) == found.alerts
    assert () == found.rollback


@pytest.mark.parametrize(
    ("source_ms", "target_ms", "expected"),
    [
        (100.0, 145.0, Outcome.HEALTHY),
        (100.0, 200.0, Outcome.FAILED),
        # Twenty times slower and still nothing that anybody could notice.
        (0.1, 2.0, Outcome.HEALTHY),
        (1.0, 40.0, Outcome.FAILED),
    ],
)
def test_the_target_is_compared_with_the_source_of_the_same_window(
    source_ms: float, target_ms: float, expected: Outcome
) -> None:
    window = Window(0, 1, source=side(500, ms=source_ms), target=side(500, ms=target_ms))
    assert expected == degradation(window, LIMITS)[0]


def test_not_compared_counts_as_not_equal() -> None:
    assert 90.0 == Integrity(900, 1000, 1.0).percent


def reports(**ages: float) -> RouterReports:
    return RouterReports(instances={name: Instance(7, age_s) for name, age_s in ages.items()})


def test_a_silent_instance_is_missing() -> None:
    assert ["a"] == unreplaced(reports(a=21.0, b=1.0), {"a": 0, "b": 0}, now_ms=100_000, age_s=20.0)
    assert [] == unreplaced(reports(a=19.0, b=1.0), {"a": 0, "b": 0}, now_ms=100_000, age_s=20.0)


def test_a_worker_that_was_replaced_is_not_missing() -> None:
    seen = {"a": 0, "b": 0, "c": 80_000}
    assert [] == unreplaced(reports(a=25.0, b=1.0, c=1.0), seen, now_ms=100_000, age_s=20.0)
    # One came for two that went.
    assert ["d"] == unreplaced(reports(a=25.0, d=26.0, c=1.0), seen, now_ms=100_000, age_s=20.0)


def test_an_instance_may_follow_the_epoch_before_for_a_moment() -> None:
    alive = {"a": Instance(6, 1.0), "b": Instance(7, 1.0)}
    assert {} == strangers(alive, 7, {"a": 90_000}, bound_ms=80_000)
    assert {"a": 6} == strangers(alive, 7, {"a": 80_000}, bound_ms=80_000)
    assert {} == strangers(alive, 7, {}, bound_ms=80_000)
