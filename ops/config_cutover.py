"""Decide: [cutover] of the configuration: what the switch and the way back may take, and what a switch asks for.

Invariant: a default here never lets through what nobody looked at: ages are bounded also where nothing is set.
"""

from __future__ import annotations

import msgspec


class CutoverConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[cutover]: what the switch and the way back may take."""

    lease_s: float = 10.0
    """After this without a sign of life a switch that stands still is taken back."""
    fence_budget_s: float = 2.0
    """How long writers in flight may keep the fence waiting before it gives up."""
    drain_budget_s: float = 10.0
    final_verify_keys: int = 5000
    """At most so many changes are compared while nobody can write; what came before is compared before the claim."""
    final_verify_s: float = 2.0
    """And for at most so long: more takes the switch back."""
    rollback_window_days: int = 14
    verify_max_age_minutes: float = 60.0
    """A switch asks for a full and clean verification of every table that is not older."""
    backup_max_age_hours: float = 24.0
    instances: int = 0
    """How many instances of the application must report before a switch; 0: those that did so lately."""


def cutover_problem(cutover: CutoverConfig) -> tuple[str, str] | None:
    """(what is wrong, what would be right), the first there is."""
    positive = {
        "cutover.lease_s": cutover.lease_s,
        "cutover.fence_budget_s": cutover.fence_budget_s,
        "cutover.drain_budget_s": cutover.drain_budget_s,
        "cutover.final_verify_keys": cutover.final_verify_keys,
        "cutover.final_verify_s": cutover.final_verify_s,
    }
    for key, value in positive.items():
        if value <= 0:
            return f"{key} = {value:g}", "a number above 0"
    for key in ("cutover.fence_budget_s", "cutover.final_verify_s"):
        if positive[key] >= cutover.lease_s:
            # The steward would take the switch back in its middle, while its process is alive.
            return (
                f"cutover.lease_s = {cutover.lease_s:g} is not above {key} = {positive[key]:g}",
                f"a lease of several times {key}",
            )
    return None
