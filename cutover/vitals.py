"""Do: gather what one look needs: reports of the routers, probes, and what verifications said.

Invariant: what could not be read is absent or None, never zero: cutover/health.py decides what that means. A table that
nobody verified counts with all its rows as not equal; where even their number is unknown, so is the integrity.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from adapters.postgres import Postgres
from cutover.health import Integrity, Seen, Thresholds, strangers, unreplaced
from cutover.reports import RouterReports, Window
from schemas.authority import Authority, Migration

_INTEGRITY = (
    'SELECT t.source, t."table", v.at_ms, v.rows, v.differing, v.missing, v.extra, v.not_compared, '
    '(SELECT sum(c.rows)::bigint FROM tailrace.copies c WHERE c.source = t.source AND c."table" = t."table" '
    "AND c.generation = t.generation) FROM tailrace.tables t LEFT JOIN tailrace.verdicts v ON v.source = t.source "
    'AND v."table" = t."table" WHERE t.source = ANY(%s) AND t.state <> \'gone\''
)
_SWITCHED = "SELECT (extract(epoch FROM max(at)) * 1000)::bigint FROM tailrace.journal WHERE after = 'target'"


@dataclass(frozen=True, slots=True)
class Senses:
    """Where a look gets its values. `target`: what is wrong with it, empty nothing, None not asked yet."""

    reports: Callable[[], RouterReports]
    target: Callable[[], str | None]
    probes: Callable[[], Mapping[str, str | None]]
    disk_full: Callable[[], Sequence[str]]
    blocking: Callable[[], Sequence[str]]
    """What blocks a higher share, as status says it."""


class Vitals:
    """Remembers when it first saw each router, and since when one follows another epoch."""

    def __init__(self, target: Postgres, sources: Sequence[str], senses: Senses, limits: Thresholds) -> None:
        self._target = target
        self._sources = list(sources)
        self._senses = senses
        self._limits = limits
        self._first_seen_ms: dict[str, int] | None = None
        self._other_since_ms: dict[tuple[str, int], int] = {}

    def seen(self, migration: Migration, reports: RouterReports, window: Window, *, now_ms: int) -> Seen:
        """Of a target that answers."""
        limits = self._limits
        if self._first_seen_ms is None:
            self._first_seen_ms = dict.fromkeys(reports.instances, 0)
        for name in reports.instances:
            self._first_seen_ms.setdefault(name, now_ms)
        alive = reports.alive(within_s=limits.instance_age_s)
        others = {(name, one.epoch) for name, one in alive.items() if one.epoch != migration.token}
        self._other_since_ms = {one: self._other_since_ms.get(one, now_ms) for one in others}
        since_ms = {name: at for (name, _), at in self._other_since_ms.items()}
        bound_ms = now_ms - int(limits.epoch_grace_s * 1000)
        integrity, divergence = self._verified(migration, now_ms)
        return Seen(
            window=window,
            target_answers=True,
            instances=len(alive),
            missing=tuple(unreplaced(reports, self._first_seen_ms, now_ms=now_ms, age_s=limits.instance_age_s)),
            strangers=strangers(alive, migration.token, since_ms, bound_ms=bound_ms),
            unreadable=reports.unreadable,
            probes=self._senses.probes(),
            integrity=integrity,
            divergence=divergence,
            no_rollback=migration.no_rollback if migration.authority is Authority.TARGET else {},
            disk_full=tuple(self._senses.disk_full()),
        )

    def _verified(self, migration: Migration, now_ms: int) -> tuple[Integrity | None, tuple[str, ...]]:
        """After the switch a verification of the time before it proves no divergence of what was written since."""
        since_ms = 0
        if migration.authority is Authority.TARGET:
            since_ms = self._target.rows(_SWITCHED)[0][0] or 0
        equal = must = oldest_ms = 0
        diverged = []
        known = True
        for source, table, at_ms, rows, differing, missing, extra, not_compared, copied in self._target.rows(
            _INTEGRITY, (self._sources,)
        ):
            if at_ms is None:
                known = known and copied is not None
                must += copied or 0
                continue
            oldest_ms = min(oldest_ms or at_ms, at_ms)
            equal += max(0, rows - differing - missing)
            must += rows + extra + not_compared
            if differing + missing + extra and at_ms >= since_ms:
                diverged.append(f"{source}.{table}")
        if not known or not oldest_ms:
            return None, tuple(sorted(diverged))
        return Integrity(equal, must, max(0, now_ms - oldest_ms) / 1000), tuple(sorted(diverged))
