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
    rollback_window_days: int = 14
    verify_max_age_minutes: float = 60.0
    """A switch asks for a full and clean verification of every table that is not older."""
    backup_max_age_hours: float = 24.0
    instances: int = 0
    """How many instances of the application must report before a switch; 0: those that did so lately."""
