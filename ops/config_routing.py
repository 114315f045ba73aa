"""Decide: the parts of the configuration that say how reads are moved, watched and brought back.

Invariant: a threshold that could never be met, or increments that do not rise, are refused when the file is read, not when
a shift stands in the middle.
"""

from __future__ import annotations

import msgspec


class RouterConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[router]: how the application learns where to read and write, beside `route.json` in the run folder."""

    redis_url: str = ""
    """Redis or Valkey, where the application runs on other machines; empty: none."""
    prefix: str = "tailrace"


class ShiftConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[shift]: the steps of the share of reads."""

    increments: tuple[float, ...] = (10.0, 25.0, 50.0, 75.0, 90.0, 100.0)
    """Percent."""
    bake_seconds: float = 300.0
    """How long each step stands before it may pass."""
    min_samples: int = 100
    """Fewer requests than this prove nothing, neither good nor bad."""
    error_threshold_percent: float = 1.0
    """A step with more failed requests at the target fails."""
    auto_rollback_enabled: bool = True
    """False: what would go back by itself is told, and stays."""
    cooldown_seconds: float = 900.0
    """After writes were brought back by themselves (or that was tried) it does not happen again for so long."""


class HealthConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[health]: what is looked at, how often, and from where on it is no longer well."""

    interval_s: float = 5.0
    window_s: float = 30.0
    """How far back requests are counted for one look."""
    error_rate: float = 1.0
    """Percent; above it an alert goes out."""
    auto_rollback_error_percent: float = 5.0
    data_integrity: float = 95.0
    """Percent of the rows that must be compared."""
    performance_degradation: float = 50.0
    """Percent by which the target's p95 may be above the source's."""
    latency_floor_ms: float = 20.0
    """A smaller difference of the two p95 is none."""
    target_down_s: float = 30.0
    failed_checks: int = 3
    """So many in a row bring back."""
    timeout_s: float = 5.0
    """Of one URL or command."""
    urls: list[str] = []
    """Each must answer with 200 to 299."""
    commands: list[str] = []
    """Each must end with 0; run without a shell, in the folder of the configuration."""


def problem(shift: ShiftConfig, health: HealthConfig) -> tuple[str, str] | None:
    """(what is wrong, what would be right), the first there is."""
    steps = shift.increments
    if not steps or tuple(sorted(set(steps))) != steps or not (0 < steps[0] and steps[-1] <= 100):
        return f"shift.increments = {list(steps)}", "percentages that rise, above 0 and at most 100"
    positive = {
        "shift.min_samples": shift.min_samples,
        "health.interval_s": health.interval_s,
        "health.window_s": health.window_s,
        "health.failed_checks": health.failed_checks,
        "health.timeout_s": health.timeout_s,
    }
    for key, value in positive.items():
        if value <= 0:
            return f"{key} = {value:g}", "a number above 0"
    percents = {
        "shift.error_threshold_percent": shift.error_threshold_percent,
        "health.error_rate": health.error_rate,
        "health.auto_rollback_error_percent": health.auto_rollback_error_percent,
        "health.data_integrity": health.data_integrity,
    }
    for key, value in percents.items():
        if not 0 <= value <= 100:
            return f"{key} = {value:g}", "percent, 0 to 100"
    not_negative = {
        "shift.bake_seconds": shift.bake_seconds,
        "shift.cooldown_seconds": shift.cooldown_seconds,
        "health.performance_degradation": health.performance_degradation,
        "health.latency_floor_ms": health.latency_floor_ms,
        "health.target_down_s": health.target_down_s,
    }
    for key, value in not_negative.items():
        if value < 0:
            return f"{key} = {value:g}", "0 or more"
    return None
