"""Do: one rich line per unit of work, at most one a second for each kind of work on each source.

A busy capture closes two hundred cuts a second: units of one kind that end within a second are added up into one line,
whose `n` says how many they were (test_units_of_one_second_become_one_line). A process that is killed takes the figures of
its last second along; what it did is in the stream and in the target's progress, not here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ops.telemetry import Telemetry

_ROUND_MS = 1


@dataclass(frozen=True, slots=True)
class Unit:
    """One unit of work that ended well.

    Args:
        action: stable name, e.g. capture.cut.
        seq: position that was reached; of several units the last one counts.
        figures: what adds up, named with its unit: rows, bytes, ms.
    """

    action: str
    source: str
    figures: Mapping[str, float]
    table: str = ""
    seq: int | None = None


Done = Callable[[Unit], None]


def unheard(unit: Unit) -> None:
    """For steppers that nobody listens to."""


@dataclass(slots=True)
class _Sum:
    count: int = 0
    seq: int | None = None
    figures: dict[str, float] = field(default_factory=dict)


class Units:
    """Adds units up until `flush`, which the loop calls once a second and at its end."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry
        self._sums: dict[tuple[str, str, str], _Sum] = {}

    def done(self, unit: Unit) -> None:
        total = self._sums.setdefault((unit.action, unit.source, unit.table), _Sum())
        total.count += 1
        total.seq = unit.seq if unit.seq is not None else total.seq
        for name, value in unit.figures.items():
            total.figures[name] = total.figures.get(name, 0) + value

    def flush(self) -> None:
        sums, self._sums = self._sums, {}
        for (action, source, table), total in sums.items():
            context: dict[str, Any] = {"source": source}
            if table:
                context["table"] = table
            if total.seq is not None:
                context["seq"] = total.seq
            context["n"] = total.count
            context |= {name: round(value, _ROUND_MS) for name, value in total.figures.items()}
            self._telemetry.event(action, "", **context)
