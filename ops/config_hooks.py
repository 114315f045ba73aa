"""Decide: [hooks] of the configuration: what runs at named events of a switch and its return.

Invariant: what may stop a switch runs before the target opens; what runs later is told of and stops nothing.
"""

from __future__ import annotations

import msgspec


class HooksConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[hooks]: each a list of commands (run without a shell, in the folder of the configuration) and of http(s) URLs, which get
    a POST. A command finds the event in the environment (TAILRACE_EVENT, TAILRACE_TOKEN, TAILRACE_REASON) and, as a URL in its
    body, in one JSON document on its input."""

    before_fence: list[str] = []
    """Before the claim, while everybody writes: one that fails refuses the switch."""
    before_open: list[str] = []
    """Behind the fence and the drain, while nobody can write: one that fails takes the switch back."""
    after_open: list[str] = []
    failed: list[str] = []
    """A switch was taken back."""
    after_rollback: list[str] = []
    completed: list[str] = []
    timeout_s: float = 10.0
    """Of one; while nobody can write it adds to the pause."""


BLOCKING = frozenset({"before_fence", "before_open"})


def hooks_problem(hooks: HooksConfig, lease_s: float) -> tuple[str, str] | None:
    """(what is wrong, what would be right)."""
    if hooks.timeout_s <= 0:
        return f"hooks.timeout_s = {hooks.timeout_s:g}", "a number above 0"
    if hooks.before_open and len(hooks.before_open) * hooks.timeout_s >= lease_s:
        return (
            f"hooks.before_open may take {len(hooks.before_open)} x {hooks.timeout_s:g} s, cutover.lease_s is {lease_s:g}",
            "a shorter hooks.timeout_s, or a longer lease",
        )
    return None
