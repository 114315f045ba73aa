"""Decide: which columns of a plan could not be given back to SQLite exactly; pure.

Invariant: every codec but one restores class and bytes of all it accepts (tests/property/test_round_trip.py proves it value
by value); `loose-text`, which only the operator's `on_mixed = "text"` chooses, forgets the class.
"""

from __future__ import annotations

from schemas.codecs_numbers import LOOSE_TEXT
from schemas.plan import TablePlan
from schemas.policy import Policies


def unrestorable(plan: TablePlan, policies: Policies) -> dict[str, str]:
    """Column -> why it would not come back as it was; without those whose loss is waived."""
    return {
        column.name: "numbers are kept as text, and would come back as text"
        for column in plan.columns
        if column.codec == LOOSE_TEXT.name and policies.of(plan.source, plan.table, column.name).restore != "waived"
    }
