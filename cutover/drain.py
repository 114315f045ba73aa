"""Do: wait until a stream has applied everything up to a point, while the lease of the move is kept.

Invariant: a drain ends only on what the other side has committed, never on an empty poll: a stream that stands still looks
like one that has arrived. Case: test_false_drain.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from schemas.errors import Code, Transient
from schemas.ports import Clock

POLL_S = 0.005


@dataclass(frozen=True, slots=True)
class Reached:
    """How far one source's stream is. `consistent`: nothing is held, owed or quarantined below `applied`."""

    applied: int
    consistent: bool


def behind(upto: Mapping[str, int], found: Mapping[str, Reached | None]) -> dict[str, int]:
    """The sources that are not there yet; what is unknown is not."""
    return {
        source: seq
        for source, seq in upto.items()
        if (one := found.get(source)) is None or one.applied < seq or not one.consistent
    }


def drain(
    upto: Mapping[str, int],
    look: Callable[[], Mapping[str, Reached | None]],
    clock: Clock,
    *,
    budget_s: float,
    keep_lease: Callable[[], None],
) -> float:
    """Returns the seconds it took. Raises Transient(DRAIN_TIMEOUT) naming what is still behind; Superseded by `keep_lease`.

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
