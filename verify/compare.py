"""Decide: which keys of one chunk are suspect, and when a suspect is a proven difference; pure.

Invariant: a row proven equal was equal at one moment: the source's state at S against the target's at applied >= S. A row
that differs may be in motion between the two looks, so it is only suspect; it is a difference when the source's row stood
still before and after looking at the target, which had applied all of it, several times in a row with the same outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.model import Key, Row
from verify.canonical import canonical

CONFIRMATIONS = 3
MAX_ROUNDS = 12


def typed_key(key: Key) -> str:
    """Keys as dictionary keys: 1 and 1.0 are two keys here."""
    return repr(key)


def suspects(source: Mapping[str, Row], target: Mapping[str, Row], keys: Mapping[str, Key]) -> list[Key]:
    """Keys whose rows are not the same on both sides (missing on one side included)."""
    result = []
    for mark, key in keys.items():
        one, other = source.get(mark), target.get(mark)
        if one is None and other is None:
            continue
        if one is None or other is None or canonical(one) != canonical(other):
            result.append(key)
    return result


@dataclass(frozen=True, slots=True)
class Look:
    """One round at one suspect: the source before and after, the target in between (it had applied the first)."""

    before: Row | None
    target: Row | None
    after: Row | None

    @property
    def stood_still(self) -> bool:
        return canonical(self.before or ()) == canonical(self.after or ()) and (self.before is None) == (
            self.after is None
        )

    @property
    def equal(self) -> bool:
        if self.before is None or self.target is None:
            return self.before is self.target
        return canonical(self.before) == canonical(self.target)


def verdict(looks: Sequence[Look]) -> str | None:
    """`equal`, `missing`, `extra`, `differing`, or None: look again."""
    last = looks[-1]
    if last.equal:
        return "equal"
    recent = looks[-CONFIRMATIONS:]
    if len(recent) < CONFIRMATIONS or not all(look.stood_still for look in recent):
        return None
    if len({(repr(look.before), repr(look.target)) for look in recent}) != 1:
        return None
    if last.target is None:
        return "missing"
    return "extra" if last.before is None else "differing"
