"""Do: compare by values the first rows that were written on the open side and came back, until all of them are equal.

A look: the target's rows in one snapshot, the wait until the source has applied that snapshot's label, the source's rows,
the target's once more. Equal means that the source held at that moment what the snapshot showed; a difference is one only
where several looks in a row found both sides standing still and different (verify/compare.py): writers go on meanwhile,
and nobody waits for this. Rows that SQLite cannot hold are kept and named elsewhere (cutover/drain.py), and not compared here.
Case: test_a_row_that_came_back_wrong_is_no_way_back.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from adapters.postgres import Postgres
from capture.postgres_triggers import LABEL
from cutover.drain import Reached, drain
from cutover.logged import logged_keys
from cutover.prepare import plans_of
from schemas.change import Position
from schemas.errors import Code, Misfit, Transient
from schemas.model import Key, Table
from schemas.plan import TablePlan
from schemas.ports import Clock, Source, SourceReader
from verify.compare import Look, typed_key, verdict
from verify.sides import TargetSide

KEYS = 500
"""So many rows of a source are enough to see that its way back carries values as they are."""
PAUSE_S = 0.05
FIRST_S = 1.0


@dataclass(slots=True)
class Tail:
    """`arrived_s`: how long the way back took to bring what the target held when this began; None: longer than its time."""

    arrived_s: float | None = None
    equal_rows: int = 0
    differing: dict[str, list[str]] = field(default_factory=dict)
    """source -> `table key: what is wrong`."""
    moving_rows: int = 0
    """Looked at until the time was over: neither equal nor a difference."""

    def as_json(self) -> dict[str, Any]:
        return {"equal": self.equal_rows, "not_compared": self.moving_rows, "differing": dict(self.differing)}


@dataclass(slots=True)
class _Row:
    table: str
    key: Key
    looks: list[Look] = field(default_factory=list)


class TailCompare:
    """Args:
    sources: name -> the file, on a connection of its own.
    look_back: how far the way back is applied at each source.
    """

    def __init__(
        self,
        target: Postgres,
        sources: Mapping[str, tuple[Source, SourceReader]],
        look_back: Callable[[], Mapping[str, Reached | None]],
        clock: Clock,
    ) -> None:
        self._target = target
        self._sources = sources
        self._look_back = look_back
        self._clock = clock

    def run(self, start: Position, *, budget_s: float) -> Tail:
        """Raises Transient(DRAIN_TIMEOUT) and Refusal(NO_ROLLBACK) as `drain` does: nothing was compared then."""
        result = Tail()
        plans = plans_of(self._target)
        waiting = self._first_rows(plans, start)
        begun_s = self._clock.monotonic_s()
        while True:
            left_s = budget_s - (self._clock.monotonic_s() - begun_s)
            try:
                self._look(waiting, plans, max(0.0, left_s))
            except Transient as error:
                if result.arrived_s is None or error.code is not Code.DRAIN_TIMEOUT:
                    raise
                left_s = 0.0
            else:
                if result.arrived_s is None:
                    result.arrived_s = self._clock.monotonic_s() - begun_s
                self._settle(waiting, result)
            if not any(waiting.values()) or left_s <= 0:
                result.moving_rows = sum(map(len, waiting.values()))
                return result
            self._clock.sleep(PAUSE_S)

    def _first_rows(self, plans: list[TablePlan], start: Position) -> dict[str, dict[str, _Row]]:
        """A busy application writes its first rows while this looks; one that rests is not waited for."""
        deadline_s = self._clock.monotonic_s() + FIRST_S
        while True:
            found = {name: self._written(name, plans, start) for name in self._sources}
            if any(found.values()) or self._clock.monotonic_s() >= deadline_s:
                return found
            self._clock.sleep(PAUSE_S)

    def _written(self, name: str, plans: list[TablePlan], start: Position) -> dict[str, _Row]:
        """What the log holds of it: it is pruned no further than its rows have been sent."""
        found: dict[str, _Row] = {}
        for page in logged_keys(self._target, name, plans, after=start):
            for table, keys in page.items():
                found.update({f"{table} {typed_key(key)}": _Row(table, key) for key in keys})
            if len(found) >= KEYS:
                break
        return dict(list(found.items())[:KEYS])

    def _look(self, waiting: Mapping[str, dict[str, _Row]], plans: list[TablePlan], budget_s: float) -> None:
        tables = {name: self._sources[name][1].database().tables for name in waiting}
        sides = {
            (plan.source, plan.table): TargetSide(self._target, table, plan)
            for plan in plans
            if (table := tables.get(plan.source, {}).get(plan.table)) is not None and _alike(table, plan)
        }
        with self._target.snapshot():
            label = int(self._target.rows(LABEL)[0][1])
            before = {name: self._at_target(name, rows, sides) for name, rows in waiting.items()}
        upto = dict.fromkeys(waiting, label)
        drain(upto, self._look_back, self._clock, budget_s=budget_s, keep_lease=lambda: None)
        for name, rows in waiting.items():
            here = self._at_source(name, rows, tables[name], sides)
            after = self._at_target(name, rows, sides)
            for mark, row in rows.items():
                if (name, row.table) in sides:
                    row.looks.append(Look(before[name].get(mark), here.get(mark), after.get(mark)))

    def _settle(self, waiting: Mapping[str, dict[str, _Row]], result: Tail) -> None:
        for name, rows in waiting.items():
            for mark, row in list(rows.items()):
                word = verdict(row.looks) if row.looks else None
                if word is None:
                    continue
                del rows[mark]
                if word == "equal":
                    result.equal_rows += 1
                else:
                    result.differing.setdefault(name, []).append(f"{row.table} {row.key!r}: {word}")

    def _at_target(
        self, name: str, rows: Mapping[str, _Row], sides: Mapping[tuple[str, str], TargetSide]
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        for table, keys in _by_table(rows).items():
            if (side := sides.get((name, table))) is not None:
                # Keys that no column holds belong to rows that are kept: they stay not compared.
                with suppress(Misfit):
                    found.update({f"{table} {mark}": digest for mark, digest in side.digests(keys).items()})
        return found

    def _at_source(
        self,
        name: str,
        rows: Mapping[str, _Row],
        tables: Mapping[str, Table],
        sides: Mapping[tuple[str, str], TargetSide],
    ) -> dict[str, str]:
        found: dict[str, str] = {}
        with self._sources[name][0].view() as view:
            for table, keys in _by_table(rows).items():
                if (side := sides.get((name, table))) is None:
                    continue
                read = side.digested(view.rows(tables[table], keys))
                found.update({f"{table} {mark}": digest for mark, digest in read.items()})
        return found


def _by_table(rows: Mapping[str, _Row]) -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for row in rows.values():
        found.setdefault(row.table, []).append(row.key)
    return found


def _alike(table: Table, plan: TablePlan) -> bool:
    """A column that was added on one side a moment ago is on its way to the other."""
    return {name.lower() for name in table.row_columns} == {column.name.lower() for column in plan.columns}
