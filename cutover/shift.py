"""Decide: what becomes of the share of reads (and of the writes) after one look: hold, raise, pause, bring back. Pure.

A step passes only once it has baked, with enough requests on both sides, no more errors than the threshold, a p95 that
holds against the source in the same window, and a healthy look. It fails as soon as enough requests say so, and then all
reads go back at once. Everything else is inconclusive: the share stays, somebody is told, and either more requests or an
operator decides. Invariant: no share rises on what is unknown (test_no_step_passes_on_what_is_unknown).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from cutover.health import Evaluation, Outcome, Thresholds, degradation
from cutover.reports import Window
from schemas.authority import BUCKETS, Authority, Migration

KEPT_S = 300.0
"""Routers report the requests of so many seconds at a time (tailrace_router/counts.py): what came before is not counted."""
MAX_ATTEMPTS = 3
"""To bring writes back by itself; a fourth is an operator's."""


class Stage(StrEnum):
    """Where the shift stands; what its process left when it was killed is one of these."""

    IDLE = "idle"
    HELD = "held"
    """An operator chose the share; nothing raises it."""
    BAKING = "baking"
    INCONCLUSIVE = "inconclusive"
    DONE = "done"
    BROUGHT_BACK = "brought-back"
    """A step failed, or an automatic rollback: an operator begins again."""


RUNNING = frozenset({Stage.BAKING, Stage.INCONCLUSIVE})


@dataclass(frozen=True, slots=True)
class ShiftState:
    """What outlives every process, beside the authority row. `serial`: raised by every change, and compared by it."""

    serial: int = 0
    token: int = 0
    """Of the authority row; under another one the steps are of the time before a switch, and rest."""
    stage: Stage = Stage.IDLE
    since_ms: int = 0
    """When this share began to bake."""
    reason: str = ""
    attempts: int = 0
    """To bring writes back by itself, at `attempted_token`."""
    attempted_token: int = -1
    attempted_ms: int = 0


UNTOUCHED = ShiftState()
"""Before anybody shifted anything."""


class Verdict(StrEnum):
    BAKING = "baking"
    PASS = "pass"
    FAIL = "fail"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Analysis:
    verdict: Verdict
    reason: str


class What(StrEnum):
    HOLD = "hold"
    RAISE = "raise"
    DONE = "done"
    PAUSE = "pause"
    READS_BACK = "reads-back"
    WRITES_BACK = "writes-back"
    TELL = "tell"
    """Something must go back and may not by itself: an operator is told."""


@dataclass(frozen=True, slots=True)
class Action:
    what: What
    reason: str = ""
    share: int = 0


@dataclass(frozen=True, slots=True)
class ShiftRules:
    """[shift] of the configuration."""

    increments: tuple[float, ...] = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
    bake_s: float = 300.0
    error_threshold_percent: float = 1.0
    auto_rollback_enabled: bool = True
    cooldown_s: float = 900.0


def share_of(percent: float) -> int:
    """Buckets of 10,000."""
    return round(percent * BUCKETS / 100)


def next_share(rules: ShiftRules, share: int) -> int | None:
    """The first increment above; None: there is none."""
    return next((found for one in rules.increments if (found := share_of(one)) > share), None)


def analyse(
    window: Window, evaluation: Evaluation, rules: ShiftRules, limits: Thresholds, *, share: int, baked_s: float
) -> Analysis:
    """One step. `window`: what was reported since the share was set."""
    target, source = window.target, window.source
    if target.requests >= limits.min_samples and (errors := target.error_percent) is not None:
        if errors > rules.error_threshold_percent:
            told = f"{errors:.2f} % of {target.requests} requests failed at the target"
            beside = source.error_percent
            if beside is not None and source.requests >= limits.min_samples:
                told += f", {beside:.2f} % of {source.requests} at the source"
                if errors - beside <= rules.error_threshold_percent:
                    # Both fail alike: the target did not make it worse, and going on would prove nothing.
                    return Analysis(Verdict.INCONCLUSIVE, told)
            return Analysis(Verdict.FAIL, f"{told} (at most {rules.error_threshold_percent:g} %)")
        outcome, told = degradation(window, limits)
        if outcome is Outcome.FAILED:
            return Analysis(Verdict.FAIL, told)
    if baked_s < rules.bake_s:
        return Analysis(Verdict.BAKING, f"baked for {baked_s:.0f} of {rules.bake_s:g} s")
    if target.requests < limits.min_samples:
        told = f"{target.requests} requests reached the target, {limits.min_samples} are needed"
        if baked_s >= KEPT_S:
            told += (
                f"; no more than the last {KEPT_S:g} s count, so at this traffic the step never passes: lower "
                "shift.min_samples, or set the share by hand (tailrace shift PERCENT)"
            )
        return Analysis(Verdict.INCONCLUSIVE, told)
    # With every read at the target there may be nothing left beside it; the step before was compared.
    alone = share == BUCKETS and source.requests < limits.min_samples
    if outcome is not Outcome.HEALTHY and not alone:
        return Analysis(Verdict.INCONCLUSIVE, f"performance: {told}")
    # Requests were judged above, over the whole step: the last look alone may be too short to hold enough of them, and would
    # be so for ever (test_a_look_too_short_for_its_samples_does_not_hold_the_step). What it found failing still counts.
    lacking = [
        one
        for one in evaluation.checks
        if one.outcome is not Outcome.HEALTHY
        and one.name != "error rate"
        and not (one.name == "performance" and (alone or one.outcome is Outcome.INCONCLUSIVE))
    ]
    if lacking:
        return Analysis(Verdict.INCONCLUSIVE, "; ".join(f"{one.name}: {one.told}" for one in lacking))
    return Analysis(Verdict.PASS, f"{target.requests} requests, {target.error_percent:.2f} % failed")


def unjudged(rules: ShiftRules, limits: Thresholds, window: Window, *, window_s: float) -> str:
    """Below which share no look can judge the target's requests at this traffic; empty: it can from the first step on, or
    nothing was reported. `window`: what all routers reported within one look."""
    requests = window.source.requests + window.target.requests
    first = min(rules.increments, default=100.0)
    if not requests or requests * first / 100 >= limits.min_samples:
        return ""
    share = 100 * limits.min_samples / requests
    where = f"below a share of {share:.0f} %" if share <= 100 else "at any share"
    enough_s = math.ceil(window_s * share / first)
    return (
        f"{requests} requests come within health.window_s = {window_s:g} s: {where} fewer than shift.min_samples = "
        f"{limits.min_samples} of them reach the target, its error rate and performance stay unknown to a look and bring "
        f"nothing back by themselves; health.window_s = {enough_s} would hold enough at {first:g} %"
    )


def decide(
    state: ShiftState,
    migration: Migration,
    causes: Sequence[str],
    analysis: Analysis,
    rules: ShiftRules,
    *,
    now_ms: int,
) -> Action:
    """One action. Raising still asks for what blocks: whoever carries it out does."""
    reason = "; ".join(causes)
    match migration.authority:
        case Authority.TARGET if causes:
            return _writes(state, migration, reason, rules, now_ms=now_ms)
        case Authority.SOURCE if migration.read_share:
            running = state.stage in RUNNING and state.token == migration.token
            if not causes and not running:
                return Action(What.HOLD)
            if not causes:
                return _step(migration, analysis, rules)
            if rules.auto_rollback_enabled:
                return Action(What.READS_BACK, reason)
            return Action(What.PAUSE if running else What.TELL, f"{reason} (auto_rollback_enabled = false)")
        case _:
            return Action(What.HOLD)


def _writes(state: ShiftState, migration: Migration, reason: str, rules: ShiftRules, *, now_ms: int) -> Action:
    if not rules.auto_rollback_enabled:
        return Action(What.TELL, f"{reason} (auto_rollback_enabled = false)")
    if migration.no_rollback:
        return Action(What.TELL, f"{reason} (a rollback would lose something)")
    again = state.attempted_token == migration.token
    if again and state.attempts >= MAX_ATTEMPTS:
        return Action(What.TELL, f"{reason} ({state.attempts} attempts failed)")
    if state.attempted_ms and now_ms - state.attempted_ms < rules.cooldown_s * 1000:
        return Action(What.TELL, f"{reason} (within {rules.cooldown_s:g} s of the last automatic rollback)")
    return Action(What.WRITES_BACK, reason)


def _step(migration: Migration, analysis: Analysis, rules: ShiftRules) -> Action:
    match analysis.verdict:
        case Verdict.FAIL if rules.auto_rollback_enabled:
            return Action(What.READS_BACK, analysis.reason)
        case Verdict.FAIL:
            return Action(What.PAUSE, f"{analysis.reason} (auto_rollback_enabled = false)")
        case Verdict.INCONCLUSIVE:
            return Action(What.PAUSE, analysis.reason)
        case Verdict.PASS:
            share = next_share(rules, migration.read_share)
            return Action(What.DONE, analysis.reason) if share is None else Action(What.RAISE, analysis.reason, share)
        case Verdict.BAKING:
            return Action(What.HOLD)


def attempted(state: ShiftState, token: int, *, now_ms: int) -> ShiftState:
    """Written before an attempt begins: whoever is killed in it does not begin it anew for ever."""
    attempts = state.attempts + 1 if state.attempted_token == token else 1
    return replace(state, attempts=attempts, attempted_token=token, attempted_ms=now_ms)


def as_json(state: ShiftState) -> dict[str, Any]:
    return {name: getattr(state, name) for name in ShiftState.__dataclass_fields__ if name != "serial"}


def from_json(serial: int, found: dict[str, Any]) -> ShiftState:
    known = {name: value for name, value in found.items() if name in ShiftState.__dataclass_fields__}
    return ShiftState(**{**known, "serial": serial, "stage": Stage(known.get("stage", Stage.IDLE))})
