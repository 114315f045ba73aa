"""Do: hold what the application was promised against what a side has: every acknowledged write there, and there once.

Invariant: the acknowledgements are read before the rows, so what is called lost was acknowledged before anybody looked:
it may be asked at any moment while everything goes on. What nobody acknowledged is told only when nobody writes any more
(test_the_oracle_finds_what_is_lost_and_what_is_doubled).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from examples.legal_cases.build import LEDGER_TOTAL
from examples.legal_cases.repository import Store

_ADDED, _REMOVED = "added", "removed"


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What `routed-N.acks` say: name -> the side that it was written on."""

    writes: dict[str, str] = field(default_factory=dict)
    logins: dict[str, str] = field(default_factory=dict)
    twice: tuple[str, ...] = ()
    """Names that were acknowledged more than once: the application would be wrong, not the migration."""

    def at(self, side: str) -> int:
        return sum(one == side for one in (*self.writes.values(), *self.logins.values()))

    @property
    def total(self) -> int:
        return len(self.writes) + len(self.logins)


@dataclass(frozen=True, slots=True)
class Finding:
    """Everything but `acknowledged` is wrong unless it is empty or 0."""

    acknowledged: Acknowledged
    lost: tuple[str, ...]
    doubled: tuple[str, ...]
    lost_sessions: tuple[str, ...]
    unacknowledged: tuple[str, ...]
    """Written, but nobody was told so. Only with `ended`; a process that was killed between COMMIT and reply leaves one."""
    ledger_off: int
    counter_off: int
    """What the application's triggers keep, against the rows that they keep it of."""
    audit_off: tuple[int, ...]
    """Cases whose coming and going are not written down exactly once."""
    errors: tuple[str, ...]
    """What the application itself complained of: a lost session, an own write that could not be read."""

    @property
    def wrong(self) -> dict[str, int]:
        """What is not as it must be -> how much of it."""
        figures = {
            "lost": len(self.lost),
            "doubled": len(self.doubled),
            "sessions lost": len(self.lost_sessions),
            "written without being acknowledged": len(self.unacknowledged),
            "ledger off by": abs(self.ledger_off),
            "counter off by": abs(self.counter_off),
            "cases with a wrong audit": len(self.audit_off),
            "errors of the application": len(self.errors),
            "acknowledged twice": len(self.acknowledged.twice),
        }
        return {name: count for name, count in figures.items() if count}


def acknowledged(folder: Path) -> Acknowledged:
    """What all processes wrote down until now; a line that is being written is left for the next time."""
    writes: dict[str, str] = {}
    logins: dict[str, str] = {}
    twice = []
    for path in sorted(folder.glob("routed-*.acks")):
        for line in path.read_text(encoding="utf-8").splitlines():
            words = line.split()
            if len(words) != 3:
                continue
            name, kind, side = words
            if name in writes or name in logins:
                twice.append(name)
            (logins if kind == "login" else writes)[name] = side
    return Acknowledged(writes, logins, tuple(twice))


def errors(folder: Path) -> tuple[str, ...]:
    return tuple(
        line
        for path in sorted(folder.glob("routed-*.errors"))
        for line in path.read_text(encoding="utf-8").splitlines()
    )


def judge(folder: Path, store: Store, *, ended: bool = False) -> Finding:
    """Look at one side, the one that writes belong to.

    Args:
        ended: nobody writes any more: what was never acknowledged must not be there either.
    """
    acked = acknowledged(folder)
    tokens = {str(token) for (token,) in store.rows("auth", "SELECT token FROM sessions")}
    told = "SELECT what, case_id, count(*) FROM audit WHERE what IN ('added', 'removed') GROUP BY 1, 2"
    with store.snapshot("cases"):
        found = Counter(str(what) for (what,) in store.rows("cases", "SELECT what FROM audit"))
        audits = store.rows("cases", told)
        cases = {int(number) for (number,) in store.rows("cases", "SELECT id FROM cases")}
        counter = int(store.rows("cases", "SELECT value FROM counters WHERE name = 'cases'")[0][0])
        money = int(store.rows("cases", "SELECT sum(balance) FROM ledger")[0][0])
    written = {name for name in found if name not in (_ADDED, _REMOVED)}
    return Finding(
        acked,
        lost=tuple(name for name in acked.writes if not found[name]),
        doubled=tuple(name for name in written if found[name] > 1),
        lost_sessions=tuple(name for name in acked.logins if name not in tokens),
        unacknowledged=tuple(sorted(written - set(acked.writes))) if ended else (),
        ledger_off=money - LEDGER_TOTAL,
        counter_off=counter - len(cases),
        audit_off=_audit_off(audits, cases),
        errors=errors(folder),
    )


def _audit_off(audits: list[tuple[object, ...]], cases: set[int]) -> tuple[int, ...]:
    """Every case came once; those that are not there any more went once, the others never."""
    came: Counter[int] = Counter()
    went: Counter[int] = Counter()
    for what, case, count in audits:
        (came if what == _ADDED else went)[int(str(case))] += int(str(count))
    return tuple(
        case for case in sorted({*came, *went, *cases}) if came[case] != 1 or went[case] != (0 if case in cases else 1)
    )
