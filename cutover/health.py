"""Decide: is the application well on the side that it reads or writes, and is there a reason to bring it back? Pure.

Invariant: unknown is never healthy and never a failure: too few requests, reports that cannot be read, a probe that has
not answered yet make a check inconclusive, which neither raises a share nor brings anything back
(test_noise_with_too_few_samples_brings_nothing_back).
A share of requests is judged only from `min_samples` on. Terms: error rate is failed of all requests that the routers
reported in the window; integrity is rows proven equal of rows that must be compared, where not compared is not equal.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cutover.reports import Instance, RouterReports, SideFigures, Window

NO_WINDOW = Window(0, 0)


class Outcome(StrEnum):
    HEALTHY = "healthy"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


@dataclass(frozen=True, slots=True)
class Thresholds:
    """Percent, seconds and counts; [health] and [shift] of the configuration."""

    error_rate: float = 1.0
    """Above it an alert goes out."""
    auto_rollback_error_percent: float = 5.0
    data_integrity: float = 95.0
    performance_degradation: float = 50.0
    latency_floor_ms: float = 20.0
    """A difference of the two p95 below this is none: a file read takes microseconds, and any network many times that."""
    min_samples: int = 100
    failed_checks: int = 3
    target_down_s: float = 30.0
    instance_age_s: float = 20.0
    """Routers report every five seconds: one that was silent for longer is missing."""
    epoch_grace_s: float = 20.0
    """For so long after a move an instance may follow the epoch before."""


@dataclass(frozen=True, slots=True)
class Integrity:
    """From the last verdict of every table."""

    equal_rows: int
    must_rows: int
    age_s: float
    """Of the oldest verdict."""

    @property
    def percent(self) -> float | None:
        return 100 * self.equal_rows / self.must_rows if self.must_rows else None


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look found; None and absence: could not be known."""

    window: Window = NO_WINDOW
    """What the routers reported lately."""
    instances: int = 0
    missing: tuple[str, ...] = ()
    """Instances that fell silent and that no new one replaced."""
    strangers: Mapping[str, int] = field(default_factory=dict)
    """instance -> epoch that it follows although another one is in force for longer than the grace."""
    unreadable: tuple[str, ...] = ()
    target_answers: bool | None = None
    target_down_s: float = 0.0
    probes: Mapping[str, str | None] = field(default_factory=dict)
    """URL or command -> what is wrong with it; empty: nothing; None: no answer yet."""
    integrity: Integrity | None = None
    divergence: tuple[str, ...] = ()
    """Tables of which a verification proved rows to differ."""
    no_rollback: Mapping[str, str] = field(default_factory=dict)
    disk_full: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Check:
    """One line. `probing`: one of the health checks, of which several in a row bring back."""

    name: str
    outcome: Outcome
    told: str
    probing: bool = False


@dataclass(frozen=True, slots=True)
class Evaluation:
    """One look, judged."""

    checks: tuple[Check, ...]
    critical: tuple[str, ...]
    error_percent: float | None
    """Of the target, from `min_samples` requests on."""
    integrity_percent: float | None
    window: Window = NO_WINDOW
    rollback: tuple[str, ...] = ()
    """Causes in this look alone; failed checks in a row are counted by whoever looks again and again."""
    alerts: tuple[str, ...] = ()

    @property
    def outcome(self) -> Outcome:
        return _worst([one.outcome for one in self.checks])

    @property
    def probed(self) -> Outcome:
        return _worst([one.outcome for one in self.checks if one.probing])

    def as_json(self) -> dict[str, Any]:
        return {
            "outcome": self.outcome,
            "checks": [{"check": one.name, "outcome": one.outcome, "told": one.told} for one in self.checks],
            "critical": list(self.critical),
            "error_percent": self.error_percent,
            "integrity_percent": self.integrity_percent,
            "p95_ms": {"source": self.window.source.p95_ms, "target": self.window.target.p95_ms},
            "requests": {"source": self.window.source.requests, "target": self.window.target.requests},
        }


def evaluate(seen: Seen, limits: Thresholds) -> Evaluation:
    """Every check of one look."""
    critical = _critical(seen, limits)
    error_percent = _rate(seen.window.target, limits)
    integrity = seen.integrity.percent if seen.integrity else None
    rollback = [f"critical: {one}" for one in critical]
    if error_percent is not None and error_percent > limits.auto_rollback_error_percent:
        rollback.append(f"error rate {error_percent:.1f} % is above {limits.auto_rollback_error_percent:g} %")
    if integrity is not None and integrity < limits.data_integrity:
        rollback.append(f"integrity {integrity:.2f} % is under {limits.data_integrity:g} %")
    checks = (
        _target(seen),
        _heartbeats(seen),
        *(_probe(name, wrong) for name, wrong in sorted(seen.probes.items())),
        _errors(seen.window.target, error_percent, limits),
        _performance(seen.window, limits),
        _integrity(seen.integrity, limits),
        Check("critical", Outcome.FAILED if critical else Outcome.HEALTHY, "; ".join(critical) or "nothing"),
    )
    watched = ("error rate", "performance", "integrity", "critical")
    alerts = tuple(f"{one.name}: {one.told}" for one in checks if one.outcome is Outcome.FAILED and one.name in watched)
    return Evaluation(checks, critical, error_percent, integrity, seen.window, tuple(rollback), alerts)


def in_a_row(former: int, evaluation: Evaluation) -> int:
    """Failed health checks without a good one between them: one that says nothing neither counts nor forgives."""
    match evaluation.probed:
        case Outcome.FAILED:
            return former + 1
        case Outcome.HEALTHY:
            return 0
        case Outcome.INCONCLUSIVE:
            return former


def causes(evaluation: Evaluation, failed_in_a_row: int, limits: Thresholds) -> tuple[str, ...]:
    """Why reads or writes have to go back now; empty: they need not."""
    if failed_in_a_row < limits.failed_checks:
        return evaluation.rollback
    failed = "; ".join(
        f"{one.name}: {one.told}" for one in evaluation.checks if one.probing and one.outcome is Outcome.FAILED
    )
    return (*evaluation.rollback, f"{failed_in_a_row} health checks failed in a row ({failed or 'see health'})")


def degradation(window: Window, limits: Thresholds) -> tuple[Outcome, str]:
    """p95 of the target against the source in the same window."""
    source, target = window.source.p95_ms, window.target.p95_ms
    measured = min(sum(one.latencies.values()) for one in (window.source, window.target))
    if source is None or target is None or measured < limits.min_samples:
        return Outcome.INCONCLUSIVE, f"{measured} requests to compare, {limits.min_samples} are needed"
    bound = max(source * (1 + limits.performance_degradation / 100), source + limits.latency_floor_ms)
    told = f"p95 {target:.1f} ms, {source:.1f} ms at the source (at most {bound:.1f} ms)"
    return Outcome.FAILED if target > bound else Outcome.HEALTHY, told


def unreplaced(reports: RouterReports, first_seen_ms: Mapping[str, int], *, now_ms: int, age_s: float) -> list[str]:
    """Instances that fell silent, without those that a newer one stands in for: an application server restarts its workers
    by killing them, and that is no failure (test_a_worker_that_was_replaced_is_not_missing)."""
    silent = sorted((one.age_s, name) for name, one in reports.instances.items() if one.age_s > age_s)
    since_ms = [now_ms - age * 1000 for age, _ in silent]
    newcomers = sum(
        1
        for name in reports.alive(within_s=age_s)
        if since_ms and first_seen_ms.get(name, 0) >= min(since_ms) - age_s * 1000
    )
    return [name for _, name in silent][newcomers:]


def strangers(
    alive: Mapping[str, Instance], epoch: int, since_ms: Mapping[str, int], *, bound_ms: int
) -> dict[str, int]:
    """Instances that have followed another epoch since before `bound_ms`."""
    return {
        name: one.epoch
        for name, one in alive.items()
        if one.epoch != epoch and since_ms.get(name, bound_ms + 1) <= bound_ms
    }


def _critical(seen: Seen, limits: Thresholds) -> tuple[str, ...]:
    found = [f"rows of {table} are proven to differ" for table in seen.divergence]
    found += [f"the way back does not carry {what}: {why}" for what, why in seen.no_rollback.items()]
    found += [f"no room left: {where}" for where in seen.disk_full]
    found += [f"instance {name} follows epoch {epoch}" for name, epoch in sorted(seen.strangers.items())]
    if seen.target_down_s > limits.target_down_s:
        found.append(f"the target was away for {seen.target_down_s:.0f} s, more than {limits.target_down_s:g} s")
    return tuple(found)


def _rate(side: SideFigures, limits: Thresholds) -> float | None:
    return side.error_percent if side.requests >= limits.min_samples else None


def _target(seen: Seen) -> Check:
    words = {True: "answers", False: f"has not answered for {seen.target_down_s:.0f} s", None: "unknown"}
    outcome = {True: Outcome.HEALTHY, False: Outcome.FAILED, None: Outcome.INCONCLUSIVE}[seen.target_answers]
    return Check("target", outcome, words[seen.target_answers], probing=True)


def _heartbeats(seen: Seen) -> Check:
    if seen.missing or seen.strangers:
        silent = [f"{name} is silent" for name in seen.missing]
        other = [f"{name} follows epoch {epoch}" for name, epoch in sorted(seen.strangers.items())]
        return Check("routers", Outcome.FAILED, "; ".join([*silent, *other]), probing=True)
    if seen.unreadable:
        return Check("routers", Outcome.INCONCLUSIVE, f"cannot read {', '.join(seen.unreadable)}", probing=True)
    if not seen.instances:
        return Check("routers", Outcome.INCONCLUSIVE, "no router reports", probing=True)
    return Check("routers", Outcome.HEALTHY, f"{seen.instances} report", probing=True)


def _probe(name: str, wrong: str | None) -> Check:
    if wrong is None:
        return Check(name, Outcome.INCONCLUSIVE, "no answer yet", probing=True)
    return Check(name, Outcome.FAILED if wrong else Outcome.HEALTHY, wrong or "answers", probing=True)


def _errors(side: SideFigures, percent: float | None, limits: Thresholds) -> Check:
    if percent is None:
        told = f"{side.requests} requests at the target, {limits.min_samples} are needed"
        return Check("error rate", Outcome.INCONCLUSIVE, told)
    told = f"{percent:.2f} % of {side.requests} requests (at most {limits.error_rate:g} %)"
    return Check("error rate", Outcome.FAILED if percent > limits.error_rate else Outcome.HEALTHY, told)


def _performance(window: Window, limits: Thresholds) -> Check:
    return Check("performance", *degradation(window, limits))


def _integrity(found: Integrity | None, limits: Thresholds) -> Check:
    if found is None or found.percent is None:
        return Check("integrity", Outcome.INCONCLUSIVE, "no verification has looked at every table yet")
    told = f"{found.percent:.2f} % of {found.must_rows} rows, verified {found.age_s:.0f} s ago"
    return Check("integrity", Outcome.FAILED if found.percent < limits.data_integrity else Outcome.HEALTHY, told)


def _worst(outcomes: Sequence[Outcome]) -> Outcome:
    for one in (Outcome.FAILED, Outcome.INCONCLUSIVE):
        if one in outcomes:
            return one
    return Outcome.HEALTHY if outcomes else Outcome.INCONCLUSIVE
