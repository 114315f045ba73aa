"""Do: look at single rows of both sides again and again, until each is equal, a proven difference, or neither can be said.

The order is the argument: source view first (state at S), then wait until the target applied S, then one target snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TypeVar

from adapters.postgres import Postgres
from schemas.change import Position
from schemas.errors import Code, Failed, Misfit
from schemas.model import Key, Table
from schemas.ports import Clock, Source
from verify.compare import CONFIRMATIONS, MAX_ROUNDS, Look, typed_key, verdict
from verify.motion import Motion
from verify.sides import TargetSide

Found = TypeVar("Found")
Lost = TypeVar("Lost")

CHUNK_ROWS = 2000
WAIT_S = 30.0
ROUND_PAUSE_S = 0.1
MOTION_S = 5.0
MOTION_PAUSE_S = 0.002
LOOKS_BETWEEN = 50
"""Looks at both sides before what they show is weighed."""
MOVING_ROWS = 500
"""More rows than this in motion at once stay not compared: a look at them would take longer than they stand still."""


class Looks:
    """At the rows of one source. Writes nothing anywhere."""

    def __init__(self, source: Source, target: Postgres, clock: Clock) -> None:
        self._source = source
        self._target = target
        self._clock = clock

    def digests(self, side: TargetSide, keys: Sequence[Key], head: int) -> dict[str, str]:
        """Digests of these keys' rows in one snapshot of the target that has applied `head`."""
        found = self.at_least(head, lambda: side.digests(keys), lost=None)
        if found is not None:
            return found
        # A key that the target's column cannot hold is not there.
        return {
            mark: digest
            for key in keys
            for mark, digest in self.at_least(head, lambda key=key: side.digests([key]), lost={}).items()  # type: ignore[misc]
        }

    def at_least(self, head: int, look: Callable[[], Found], *, lost: Lost) -> Found | Lost:
        """One look at a snapshot of the target that has applied `head`; `lost` where a key does not fit its column."""
        deadline = self._clock.monotonic_s() + WAIT_S
        while True:
            with self._target.snapshot():
                found = self._target.rows(
                    "SELECT applied, phase FROM tailrace.progress WHERE source = %s", (self._source.name,)
                )
                if found and found[0][0] >= head:
                    try:
                        return look()
                    except Misfit:
                        return lost
            if found and found[0][1] == "paused":
                raise Failed(
                    Code.NOT_COMPARED,
                    f"the target is paused at {found[0][0]}, the log goes on to {head}",
                    source=self._source.name,
                    position=head,
                    hint=f"tailrace resume {self._source.name}",
                )
            if self._clock.monotonic_s() > deadline:
                raise Failed(
                    Code.NOT_COMPARED,
                    f"the target did not reach {head} within {WAIT_S:g} s",
                    source=self._source.name,
                    position=head,
                    hint="tailrace status: is the sink running?",
                )
            self._clock.sleep(0.01)

    def settle(self, table: Table, side: TargetSide, keys: list[Key]) -> list[tuple[Key, str]]:
        """Look at suspects again until each is equal, a proven difference, or in motion for too long."""
        looks: dict[str, list[Look]] = {typed_key(key): [] for key in keys}
        result: list[tuple[Key, str]] = []
        left = keys
        for round_number in range(MAX_ROUNDS):
            if not left:
                break
            if round_number:
                self._clock.sleep(ROUND_PAUSE_S)
            again = []
            for start in range(0, len(left), CHUNK_ROWS):
                part = left[start : start + CHUNK_ROWS]
                self._look(table, side, part, looks)
                for key in part:
                    word = verdict(looks[typed_key(key)])
                    if word is None:
                        again.append(key)
                    else:
                        result.append((key, word))
            left = again
        return result + (self._in_motion(table, side, left) if left else [])

    def _in_motion(self, table: Table, side: TargetSide, keys: list[Key]) -> list[tuple[Key, str]]:
        """Rows that change faster than a look takes (a counter, a row `last_seen`): many looks at both sides, each put
        beside the log, until one state of the row was seen on both (verify/motion.py)."""
        watched = keys[:MOVING_ROWS]
        motion = Motion(map(typed_key, watched))
        words: dict[str, str] = {}
        deadline = self._clock.monotonic_s() + MOTION_S
        while len(words) < len(watched) and self._clock.monotonic_s() < deadline:
            for _ in range(LOOKS_BETWEEN):
                self._watch_source(table, side, watched, motion)
                with suppress(Misfit), self._target.snapshot():
                    if (applied := self._applied(table.name)) is not None:
                        motion.target(applied, side.digests(watched))
                self._clock.sleep(MOTION_PAUSE_S)
            self._watch_source(table, side, watched, motion)
            words = {mark: word for mark in map(typed_key, watched) if (word := motion.verdict(mark)) is not None}
        return [(key, words.get(typed_key(key), "not_compared")) for key in keys]

    def _watch_source(self, table: Table, side: TargetSide, keys: list[Key], motion: Motion) -> None:
        width = len(table.key_columns)
        with self._source.view() as view:
            head, after = view.head(), motion.seen_to
            entries = [] if after is None else view.entries(Position(after), limit_rows=head - after + 1)
            digests = side.digested(view.rows(table, keys))
        # Entries of other tables with such a key only part a state in two: less is concluded, never more.
        whole = after is not None and len(entries) == head - after
        motion.source(head, [(one.seq, typed_key(one.key[:width])) for one in entries] if whole else None, digests)

    def _applied(self, table: str) -> int | None:
        """What the target's snapshot holds of this table, exactly; None while no single head says so: within a cut that
        takes several transactions, behind a copy, in a replay."""
        found = self._target.rows(
            "SELECT p.applied FROM tailrace.progress AS p JOIN tailrace.tables AS t USING (source) WHERE source = %s "
            'AND t."table" = %s AND p.applying_to IS NULL AND p.applied >= p.highest AND t.last_head <= p.applied '
            "AND t.state IN ('caught-up', 'following')",
            (self._source.name, table),
        )
        return int(found[0][0]) if found else None

    def _look(self, table: Table, side: TargetSide, keys: list[Key], looks: dict[str, list[Look]]) -> None:
        with self._source.view() as view:
            head = view.head()
            before = side.digested(view.rows(table, keys))
        found = self.digests(side, keys, head)
        with self._source.view() as view:
            after = side.digested(view.rows(table, keys))
        for key in keys:
            mark = typed_key(key)
            kept = looks[mark][-(CONFIRMATIONS - 1) :]
            looks[mark] = [*kept, Look(before.get(mark), found.get(mark), after.get(mark))]
