"""Do: wait until a stream has applied everything up to a point, while the lease of the move is kept.

Invariant: a drain ends only on what the other side has committed, never on an empty poll: a stream that stands still looks
like one that has arrived. Case: test_false_drain. A row that the way back could not bring is brought by no waiting either: it is
named (test_a_row_that_sqlite_cannot_hold_keeps_writes_where_they_are).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

from schemas.back import PROGRESS, QUARANTINE
from schemas.errors import Code, Refusal, TailraceError, Transient
from schemas.ports import Clock, Sqlite

POLL_S = 0.005


class KeptRow(NamedTuple):
    """A row that a source could not take."""

    table: str
    key: str
    why: str

    def __str__(self) -> str:
        return f"{self.table} {self.key}: {self.why}"


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one source's stream is. `consistent`: nothing is held, owed or quarantined below `applied`."""

    applied: int
    consistent: bool
    kept: tuple[KeptRow, ...] = ()
    """Way back only."""


def reached_back(db: Sqlite) -> Reached | None:
    """How far the way back is at this source; None: unknown."""
    try:
        with db.read_view():
            row = db.rows(f"SELECT applied, applying_to IS NULL FROM {PROGRESS}")
            kept = db.rows(f"SELECT tab, key_text, reason FROM {QUARANTINE} ORDER BY tab, key_text")
    except TailraceError:
        return None
    rows = tuple(KeptRow(*row) for row in kept)
    return Reached(int(row[0][0]), bool(row[0][1]) and not rows, rows) if row else None


def refuse_kept(found: Mapping[str, Reached | None], *, hint: str) -> None:
    """Raises Refusal(NO_ROLLBACK): the sources lack rows that the target has."""
    rows = [(source, row) for source, one in sorted(found.items()) if one is not None for row in one.kept]
    if rows:
        source, row = rows[0]
        raise Refusal(
            Code.NO_ROLLBACK,
            f"the way back could not bring {len(rows)} rows, among them {source}.{row}",
            source=source,
            table=row.table,
            hint=f"{hint}tailrace quarantine list names all; tailrace quarantine waive {source} {row.table} --reason R gives "
            "them up: SQLite's state of them then holds on both sides",
        )


CLOSED = "both sides are closed until then: "
MEND = "write each of them on PostgreSQL so that SQLite can hold it, and it comes along; "


def behind(upto: Mapping[str, int], found: Mapping[str, Reached | None]) -> dict[str, int]:
    """The sources that are not there yet; what is unknown is not."""
    return {
        source: seq
        for source, seq in upto.items()
        if (one := found.get(source)) is None or one.applied < seq or not one.consistent
    }


def arrived(upto: Mapping[str, int], found: Mapping[str, Reached | None]) -> list[str]:
    """The sources whose stream brought everything that it can."""
    return [source for source, seq in upto.items() if (one := found.get(source)) is not None and one.applied >= seq]


def drain(
    upto: Mapping[str, int],
    look: Callable[[], Mapping[str, Reached | None]],
    clock: Clock,
    *,
    budget_s: float,
    keep_lease: Callable[[], None],
) -> float:
    """Returns the seconds it took. Raises Transient(DRAIN_TIMEOUT) naming what is still behind; Superseded by `keep_lease`;
    Refusal(NO_ROLLBACK) for rows that no waiting brings.

    Args:
        upto: source -> seq (or label) that must be applied.
        look: source -> how far it is; None: unknown, which is never far enough.
    """
    begun_s = clock.monotonic_s()
    lease_s = begun_s
    while True:
        found = look()
        late = behind(upto, found)
        now_s = clock.monotonic_s()
        if not late:
            return now_s - begun_s
        refuse_kept({source: found.get(source) for source in arrived(upto, found)}, hint=CLOSED)
        if now_s - begun_s > budget_s:
            source, seq = next(iter(sorted(late.items())))
            at = found.get(source)
            text = "unknown" if at is None else f"{at.applied}, {'consistent' if at.consistent else 'not consistent'}"
            raise Transient(
                Code.DRAIN_TIMEOUT,
                f"{len(late)} sources did not arrive within {budget_s:g} s; it stands at {text}",
                source=source,
                position=seq,
                hint="tailrace status: do capture and sink run?",
            )
        if now_s - lease_s > 1.0:
            keep_lease()
            lease_s = now_s
        clock.sleep(POLL_S)
