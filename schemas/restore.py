"""Decide: which columns of a plan could not be given back to SQLite exactly, and which are not as ordered; pure.

Invariant: every codec but one restores class and bytes of all it accepts (tests/property/test_round_trip.py proves it value
by value); `loose-text`, which only the operator's `on_mixed = "text"` chooses, forgets the class.
"""

from __future__ import annotations

from schemas.codecs_numbers import LOOSE_TEXT
from schemas.plan import TablePlan
from schemas.policy import Policies

_PROMISED = ("boolean", "date", "timestamp", "timestamptz", "json")
"""Types that `types = "storage"` never makes."""


def not_as_ordered(plan: TablePlan, policies: Policies) -> dict[str, str]:
    """Column of a running table -> how its type differs from what the configuration orders now.

    A table never becomes narrower and a later value may widen it, so an order can stay without effect for good."""
    found = {}
    for column in plan.columns:
        policy = policies.of(plan.source, plan.table, column.name)
        if policy.type and column.pg_type.replace("timestamptz", "timestamp") != policy.type:
            found[column.name] = f'type = "{policy.type}" is ordered, the table has {column.pg_type}'
        elif not policy.type and policy.types == "storage" and column.pg_type in _PROMISED:
            found[column.name] = f'types = "storage" is ordered, the table has {column.pg_type}'
    return found


def unrestorable(plan: TablePlan, policies: Policies) -> dict[str, str]:
    """Column -> why it would not come back as it was; without those whose loss is waived."""
    return {
        column.name: "numbers are kept as text, and would come back as text"
        for column in plan.columns
        if column.codec == LOOSE_TEXT.name and policies.of(plan.source, plan.table, column.name).restore != "waived"
    }
