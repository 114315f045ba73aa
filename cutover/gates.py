"""Decide: may writes be switched? Each gate with its value, its threshold and its verdict; unknown blocks. Pure.

Invariant: a gate passes only on a value that was read; what could not be read is unknown, and unknown is not yes.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from schemas.errors import Code, Refusal


class Verdict(StrEnum):
    PASS = "pass"
    BLOCK = "block"
    UNKNOWN = "unknown"
    WAIVED = "waived"


@dataclass(frozen=True, slots=True)
class Gate:
    """One line of the table. `name` is stable: it is what is waived."""

    name: str
    verdict: Verdict
    value: str
    threshold: str
    next_step: str = ""
    waivable: bool = False

    @property
    def open(self) -> bool:
        return self.verdict in (Verdict.PASS, Verdict.WAIVED)


def gate(name: str, good: bool | None, value: str, threshold: str, *, next_step: str, waivable: bool = False) -> Gate:
    """`good` None: it could not be read."""
    verdict = Verdict.UNKNOWN if good is None else Verdict.PASS if good else Verdict.BLOCK
    return Gate(name, verdict, value, threshold, "" if good else next_step, waivable)


def waive(gates: Sequence[Gate], names: Collection[str]) -> list[Gate]:
    """Red gates that an operator named, where they may be waived; the first word of a name stands for that gate of every
    source. Raises Refusal(GATE_BLOCKED) for a name that is none, and for one that nobody may waive."""
    known = {name for one in gates for name in (one.name, one.name.partition(" ")[0])}
    for name in names:
        if name not in known:
            raise Refusal(Code.GATE_BLOCKED, f"there is no gate {name!r}", hint=f"one of: {', '.join(sorted(known))}")
        firm = [one.name for one in gates if _named(one, (name,)) and not one.open and not one.waivable]
        if firm:
            raise Refusal(Code.GATE_BLOCKED, f"{firm[0]} cannot be waived", hint="mend what it names")
    return [
        replace(one, verdict=Verdict.WAIVED) if _named(one, names) and one.waivable and not one.open else one
        for one in gates
    ]


def _named(one: Gate, names: Collection[str]) -> bool:
    return one.name in names or one.name.partition(" ")[0] in names


def refuse_closed(gates: Sequence[Gate]) -> None:
    """Raises Refusal(GATE_BLOCKED) with every reason and the first next step."""
    closed = [one for one in gates if not one.open]
    if not closed:
        return
    reasons = "; ".join(f"{one.name}: {one.value} (must be {one.threshold})" for one in closed)
    raise Refusal(Code.GATE_BLOCKED, reasons, hint="; ".join(dict.fromkeys(one.next_step for one in closed)))
