"""Steps pass, fail and pause; nothing rises on what is unknown; writes go back by themselves at most once."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cutover.health import Seen, Thresholds, evaluate
from cutover.reports import Window
from cutover.shift import (
    KEPT_S,
    Analysis,
    ShiftRules,
    ShiftState,
    Stage,
    Verdict,
    What,
    analyse,
    as_json,
    attempted,
    decide,
    from_json,
    next_share,
    share_of,
    unjudged,
)
from schemas.authority import Authority, Migration
from tailrace_router.counts import KEPT_WINDOWS, WINDOW_MS
from tests.unit.cutover.test_health import WELL, side

LIMITS = Thresholds()
RULES = ShiftRules()
NOW_MS = 1_000_000
BAKING = ShiftState(token=4, stage=Stage.BAKING)
TEN = Migration(Authority.SOURCE, 4, read_share=1000)


def analysed(
    seen: Seen = WELL,
    window: Window | None = None,
    *,
    baked_s: float = 300.0,
    share: int = 1000,
    rules: ShiftRules = RULES,
) -> Analysis:
    found = evaluate(seen, LIMITS)
    return analyse(seen.window if window is None else window, found, rules, LIMITS, share=share, baked_s=baked_s)


def test_a_step_passes_after_its_bake() -> None:
    assert Verdict.BAKING == analysed(baked_s=299.0).verdict
    assert Verdict.PASS == analysed().verdict


def test_a_step_fails_at_once_however_long_it_baked() -> None:
    window = Window(0, 1, source=side(1000), target=side(1000, 11))
    assert Verdict.FAIL == analysed(window=window, baked_s=1.0).verdict
    slow = Window(0, 1, source=side(1000, ms=50), target=side(1000, ms=200))
    assert Verdict.FAIL == analysed(window=slow, baked_s=1.0).verdict


def test_a_step_is_compared_with_the_source_at_the_same_time() -> None:
    """Both sides fail alike: the target did not make it worse, and nothing is proven either."""
    window = Window(0, 1, source=side(1000, 30), target=side(1000, 35))
    found = analysed(window=window)
    assert Verdict.INCONCLUSIVE == found.verdict
    assert "3.50 % of 1000 requests failed at the target, 3.00 % of 1000 at the source" == found.reason
    assert Verdict.FAIL == analysed(window=Window(0, 1, source=side(99, 30), target=side(1000, 35))).verdict


@pytest.mark.parametrize(
    ("seen", "window"),
    [
        (WELL, Window(0, 1, source=side(1000), target=side(99, 99))),
        (WELL, Window(0, 1, source=side(99), target=side(1000))),
        (replace(WELL, instances=0), None),
        (replace(WELL, unreadable=("Redis",)), None),
        (replace(WELL, probes={"url 1": None}), None),
        (replace(WELL, target_answers=None), None),
        (replace(WELL, integrity=None), None),
    ],
)
def test_no_step_passes_on_what_is_unknown(seen: Seen, window: Window | None) -> None:
    assert Verdict.INCONCLUSIVE == analysed(seen, window).verdict


def test_at_the_whole_share_nothing_is_left_to_compare_with() -> None:
    window = Window(0, 1, source=side(10), target=side(1000))
    seen = replace(WELL, window=window)
    assert Verdict.INCONCLUSIVE == analysed(seen, share=9000).verdict
    assert Verdict.PASS == analysed(seen, share=10_000).verdict


def test_the_increments_are_walked_through() -> None:
    share, walked = 0, []
    while (found := next_share(RULES, share)) is not None:
        share = found
        walked.append(share)
    assert [1000, 2500, 5000, 7500, 9000, 10_000] == walked
    assert 1250 == share_of(12.5)
    assert 2500 == next_share(RULES, 1250)


PASS = Analysis(Verdict.PASS, "good")


def test_what_follows_from_an_analysis() -> None:
    def what(verdict: Verdict, migration: Migration = TEN, rules: ShiftRules = RULES) -> What:
        return decide(BAKING, migration, (), Analysis(verdict, "why"), rules, now_ms=NOW_MS).what

    assert What.RAISE == what(Verdict.PASS)
    assert 2500 == decide(BAKING, TEN, (), PASS, RULES, now_ms=NOW_MS).share
    assert What.DONE == what(Verdict.PASS, replace(TEN, read_share=10_000))
    assert What.READS_BACK == what(Verdict.FAIL)
    assert What.PAUSE == what(Verdict.FAIL, rules=replace(RULES, auto_rollback_enabled=False))
    assert What.PAUSE == what(Verdict.INCONCLUSIVE)
    assert What.HOLD == what(Verdict.BAKING)


@pytest.mark.parametrize("stage", [Stage.IDLE, Stage.HELD, Stage.DONE, Stage.BROUGHT_BACK])
def test_only_running_steps_rise(stage: Stage) -> None:
    assert What.HOLD == decide(replace(BAKING, stage=stage), TEN, (), PASS, RULES, now_ms=NOW_MS).what


def test_steps_of_the_time_before_a_switch_rest() -> None:
    assert What.HOLD == decide(BAKING, replace(TEN, token=6), (), PASS, RULES, now_ms=NOW_MS).what


@pytest.mark.parametrize("stage", list(Stage))
def test_a_cause_brings_reads_back_in_every_stage(stage: Stage) -> None:
    state = replace(BAKING, stage=stage)
    assert What.READS_BACK == decide(state, TEN, ("bad",), PASS, RULES, now_ms=NOW_MS).what
    nothing = replace(TEN, read_share=0)
    assert What.HOLD == decide(state, nothing, ("bad",), PASS, RULES, now_ms=NOW_MS).what


def test_a_cause_brings_writes_back_once() -> None:
    switched = Migration(Authority.TARGET, 6, read_share=10_000)
    found = decide(BAKING, switched, ("bad",), PASS, RULES, now_ms=NOW_MS)
    assert (What.WRITES_BACK, "bad") == (found.what, found.reason)
    state = attempted(BAKING, 6, now_ms=NOW_MS)
    later_ms = NOW_MS + 900_000
    assert What.TELL == decide(state, switched, ("bad",), PASS, RULES, now_ms=later_ms - 1).what
    assert What.WRITES_BACK == decide(state, switched, ("bad",), PASS, RULES, now_ms=later_ms).what
    # Also after an operator's next switch.
    again = replace(switched, token=10)
    assert What.TELL == decide(state, again, ("bad",), PASS, RULES, now_ms=later_ms - 1).what
    for _ in range(2):
        state = attempted(state, 6, now_ms=NOW_MS)
    assert 3 == state.attempts
    assert What.TELL == decide(state, switched, ("bad",), PASS, RULES, now_ms=later_ms).what
    assert 1 == attempted(state, 10, now_ms=later_ms).attempts


def test_what_may_not_go_back_by_itself_is_told() -> None:
    switched = Migration(Authority.TARGET, 6)
    off = replace(RULES, auto_rollback_enabled=False)
    assert What.TELL == decide(BAKING, switched, ("bad",), PASS, off, now_ms=NOW_MS).what
    lossy = replace(switched, no_rollback={"t": "a column went"})
    assert What.TELL == decide(BAKING, lossy, ("bad",), PASS, RULES, now_ms=NOW_MS).what
    assert What.PAUSE == decide(BAKING, TEN, ("bad",), PASS, off, now_ms=NOW_MS).what
    held = replace(BAKING, stage=Stage.HELD)
    assert What.TELL == decide(held, TEN, ("bad",), PASS, off, now_ms=NOW_MS).what


@pytest.mark.parametrize("authority", [Authority.TO_TARGET, Authority.TO_SOURCE, Authority.COMPLETED])
def test_nothing_is_begun_while_a_move_is_under_way(authority: Authority) -> None:
    migration = Migration(authority, 6, read_share=1000)
    assert What.HOLD == decide(BAKING, migration, ("bad",), PASS, RULES, now_ms=NOW_MS).what


def test_the_state_survives_its_text() -> None:
    state = ShiftState(3, 4, Stage.INCONCLUSIVE, 5, "why", 1, 2, 6)
    assert state == from_json(3, as_json(state))
    assert ShiftState(serial=9) == from_json(9, {})


def test_a_look_too_short_for_its_samples_does_not_hold_the_step() -> None:
    """Performance of the look alone was unknown for ever, however many requests the step had seen."""
    enough = Window(0, 1, source=side(1000), target=side(1000))
    short = replace(WELL, window=Window(0, 1, source=side(40), target=side(40)))
    assert Verdict.PASS == analysed(short, enough).verdict
    slow = replace(WELL, window=Window(0, 1, source=side(1000, ms=50), target=side(1000, ms=200)))
    assert Verdict.INCONCLUSIVE == analysed(slow, enough).verdict


def test_traffic_that_never_fills_a_step_is_named_with_its_figures() -> None:
    window = Window(0, 1, source=side(1000), target=side(60))
    assert "never passes" not in analysed(window=window, baked_s=KEPT_S - 1, rules=replace(RULES, bake_s=1)).reason
    found = analysed(window=window, baked_s=KEPT_S)
    assert Verdict.INCONCLUSIVE == found.verdict
    assert "60 requests reached the target, 100 are needed; no more than the last 300 s count" in found.reason
    assert WINDOW_MS * KEPT_WINDOWS == KEPT_S * 1000


def test_a_look_that_cannot_be_judged_is_named_with_its_figures() -> None:
    def told(requests: int) -> str:
        return unjudged(RULES, LIMITS, Window(0, 1, source=side(requests), target=side(0)), window_s=30.0)

    assert "" == told(0) == told(1000)
    assert "below a share of 25 %" in told(400)
    assert "health.window_s = 75 would hold enough at 10 %" in told(400)
    assert "at any share" in told(99)
