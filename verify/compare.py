"""Decide: which keys of one chunk are suspect, and when a suspect is a proven difference; pure.

Invariant: a row proven equal was equal at one moment: the source's state at S against the target's at applied >= S. A row
that differs may be in motion between the two looks, so it is only suspect; it is a difference when the source's row stood
still before and after looking at the target, which had applied all of it, several times in a row with the same outcome.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from schemas.model import Key

CONFIRMATIONS = 3
MAX_ROUNDS = 12


def typed_key(key: Key) -> str:
    """Keys as dictionary keys: 1 and 1.0 are two keys here."""
    return repr(key)


def suspects(source: Mapping[str, str], target: Mapping[str, str], keys: Mapping[str, Key]) -> list[Key]:
    """Keys whose rows have not the same digest on both sides (missing on one side included)."""
    return [key for mark, key in keys.items() if source.get(mark) != target.get(mark)]


@dataclass(frozen=True, slots=True)
class Look:
    """One round at one suspect: digests of the source's row before and after, of the target's in between (which had
    applied the first); None: no row."""

    before: str | None
    target: str | None
    after: str | None

    @property
    def stood_still(self) -> bool:
        return self.before == self.after

    @property
    def equal(self) -> bool:
        return self.before == self.target


def verdict(looks: Sequence[Look]) -> str | None:
    """`equal`, `missing`, `extra`, `differing`, or None: look again."""
    last = looks[-1]
    if last.equal:
        return "equal"
    recent = looks[-CONFIRMATIONS:]
    if len(recent) < CONFIRMATIONS or not all(look.stood_still for look in recent):
        return None
    if len({(look.before, look.target) for look in recent}) != 1:
        return None
    if last.target is None:
        return "missing"
    return "extra" if last.before is None else "differing"
