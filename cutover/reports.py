"""Decide: what the application's routers reported: requests, failures and latencies of each side in windows, and which
instances are alive with which epoch; pure.

Invariant: every report is the whole recent state of one instance, so reading it twice counts nothing twice; and what
cannot be read is named, never counted as "no failure" (test_an_unreadable_report_is_named).
A latency is a bucket of a fixed ladder, so that the p95 of many instances is that of all their requests together, not a
mean of their p95 (test_the_p95_of_instances_is_that_of_their_requests).
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

FORMAT = 1
WINDOW_MS = 5000
"""Windows begin at whole multiples of this on the wall clock of their instance."""
FIRST_MS, GROWTH = 0.05, 1.2
"""Bucket n ends at FIRST_MS * GROWTH ** n. The router has the same two numbers: a test compares them."""


@dataclass(frozen=True, slots=True)
class Report:
    """One instance's document as it was read. `age_s`: since it was written, by one clock."""

    text: str | bytes
    age_s: float
    name: str = "?"
    """Where it was read, for the case that it cannot be."""


@dataclass(frozen=True, slots=True)
class SideFigures:
    """One side in one stretch of time. `moved`: writes that met a fence and were told to come again; no failure."""

    requests: int = 0
    failures: int = 0
    moved: int = 0
    latencies: Mapping[int, int] = field(default_factory=dict)
    """bucket -> requests that ended without failing."""

    @property
    def p95_ms(self) -> float | None:
        """Upper end of the bucket that holds the 95th percentile; None: nothing was measured."""
        return self.quantile_ms(0.95)

    @property
    def error_percent(self) -> float | None:
        """None: nothing was asked of this side."""
        return 100 * self.failures / self.requests if self.requests else None

    def quantile_ms(self, share: float) -> float | None:
        total = sum(self.latencies.values())
        rank, seen = math.ceil(total * share), 0
        for bucket in sorted(self.latencies):
            seen += self.latencies[bucket]
            if seen >= rank:
                return FIRST_MS * GROWTH**bucket
        return None

    def plus(self, other: SideFigures) -> SideFigures:
        latencies = dict(self.latencies)
        for bucket, count in other.latencies.items():
            latencies[bucket] = latencies.get(bucket, 0) + count
        return SideFigures(
            self.requests + other.requests, self.failures + other.failures, self.moved + other.moved, latencies
        )


@dataclass(frozen=True, slots=True)
class Shadowed:
    """Reads that were made on both sides. `mismatched`: still different after the lag bound."""

    compared: int = 0
    mismatched: int = 0
    failed: int = 0
    dropped: int = 0

    def plus(self, other: Shadowed) -> Shadowed:
        return Shadowed(
            self.compared + other.compared,
            self.mismatched + other.mismatched,
            self.failed + other.failed,
            self.dropped + other.dropped,
        )


@dataclass(frozen=True, slots=True)
class Window:
    from_ms: int
    to_ms: int
    source: SideFigures = SideFigures()
    target: SideFigures = SideFigures()
    shadow: Shadowed = Shadowed()

    def plus(self, other: Window) -> Window:
        return Window(
            min(self.from_ms, other.from_ms),
            max(self.to_ms, other.to_ms),
            self.source.plus(other.source),
            self.target.plus(other.target),
            self.shadow.plus(other.shadow),
        )


@dataclass(frozen=True, slots=True)
class Instance:
    """One router. `epoch`: of the route it follows, -1 before it knows any."""

    epoch: int
    age_s: float
    """Since its last sign of life."""
    stale: bool = False
    """It can reach no source of routes and follows the last one it knew."""


@dataclass(frozen=True, slots=True)
class RouterReports:
    """All instances together. `windows`: oldest first; the last may still grow."""

    windows: tuple[Window, ...] = ()
    instances: Mapping[str, Instance] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()
    """What was there and could not be read: with any, no figure here is complete."""

    def between(self, from_ms: int, to_ms: int) -> Window:
        """The windows that lie wholly in this stretch of time, as one."""
        found = Window(from_ms, to_ms)
        for one in self.windows:
            if from_ms <= one.from_ms and one.to_ms <= to_ms:
                found = found.plus(one)
        return found

    def alive(self, *, within_s: float) -> dict[str, Instance]:
        return {name: one for name, one in self.instances.items() if one.age_s <= within_s}


def merged(reports: Iterable[Report], *, unreadable: Iterable[str] = ()) -> RouterReports:
    """One value of all documents.

    Args:
        unreadable: places that could not be asked at all, e.g. "Redis".
    """
    windows: dict[int, Window] = {}
    instances: dict[str, Instance] = {}
    broken = list(unreadable)
    # The same instance in a file and in Redis counts once, by the fresher of the two.
    for report in sorted(reports, key=lambda one: one.age_s):
        try:
            instance, epoch, stale, found = _parsed(report.text)
        except (ValueError, TypeError, KeyError, AttributeError):
            broken.append(report.name)
            continue
        if instance in instances:
            continue
        instances[instance] = Instance(epoch, max(0.0, report.age_s), stale)
        for one in found:
            windows[one.from_ms] = windows[one.from_ms].plus(one) if one.from_ms in windows else one
    return RouterReports(tuple(windows[at] for at in sorted(windows)), instances, tuple(broken))


def _parsed(text: str | bytes) -> tuple[str, int, bool, list[Window]]:
    document: dict[str, Any] = json.loads(text)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']}")
    windows = [
        Window(
            int(one["from_ms"]),
            int(one["from_ms"]) + WINDOW_MS,
            _side(one.get("source", {})),
            _side(one.get("target", {})),
            Shadowed(**{name: int(value) for name, value in one.get("shadow", {}).items()}),
        )
        for one in document["windows"]
    ]
    return str(document["instance"]), int(document["epoch"]), bool(document.get("stale", False)), windows


def _side(one: Mapping[str, Any]) -> SideFigures:
    latencies = {int(bucket): int(count) for bucket, count in one.get("latencies", {}).items()}
    return SideFigures(int(one.get("requests", 0)), int(one.get("failures", 0)), int(one.get("moved", 0)), latencies)
