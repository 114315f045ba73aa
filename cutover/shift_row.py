"""Do: read and change the share of reads and the state of its steps, together and by compare-and-set.

The order is the argument: the token of the authority row does not move with the share (fences and leases carry it), so a
serial of our own does. Whoever decided on an older serial changes nothing: an operator's `shift back` is not undone by a
step that was decided a moment before (test_a_step_decided_before_shift_back_changes_nothing).
The share is changed only while writes belong to the source: the switch and the way back set it themselves.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from adapters.postgres import Postgres
from cutover.authority import AuthorityRow
from cutover.shift import UNTOUCHED, ShiftState, as_json, from_json, share_of
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal, Superseded

_THERE = "SELECT to_regclass('tailrace.shift') IS NOT NULL"
_READ = (
    "SELECT serial, state::text, health::text, extract(epoch FROM clock_timestamp() - health_at)::double precision "
    "FROM tailrace.shift WHERE id = 1"
)


@dataclass(frozen=True, slots=True)
class Told:
    """The state, and the last look as it was judged. `health_age_s` None: nobody looked yet."""

    state: ShiftState = UNTOUCHED
    health: dict[str, Any] | None = None
    health_age_s: float | None = None


NOBODY = Told()


class ShiftRow:
    """Beside the authority row of one migration."""

    def __init__(self, target: Postgres, row: AuthorityRow) -> None:
        self._target = target
        self._row = row

    def read(self) -> Told:
        if not self._target.rows(_THERE)[0][0]:
            return NOBODY
        found = self._target.rows(_READ)
        if not found:
            return NOBODY
        serial, state, health, age_s = found[0]
        return Told(from_json(serial, json.loads(state)), json.loads(health) if health else None, age_s)

    def share(
        self, before: Migration, state: ShiftState, after: ShiftState, share: int, *, verb: str, reason: str
    ) -> ShiftState:
        """Share and state in one transaction with the journal. Raises Superseded, Refusal(VERB_ILLEGAL)."""
        if before.authority is not Authority.SOURCE:
            raise Refusal(
                Code.VERB_ILLEGAL,
                f"reads follow the writes, which belong to {before.authority}",
                position=before.token,
                hint="tailrace status",
            )
        if not 0 <= share <= share_of(100):
            raise ValueError(f"share {share}")
        with self._target.transaction():
            changed = self.change(state, replace(after, token=before.token))
            # Of this token the authority is the source: every move takes another one.
            self._row.set(
                before.token,
                {"read_share": str(int(share))},
                verb=verb,
                detail={"from": before.read_share, "to": share, "stage": after.stage, "reason": reason},
            )
        return changed

    def change(self, state: ShiftState, after: ShiftState) -> ShiftState:
        """Only the state. Raises Superseded when somebody else changed it meanwhile."""
        changed = self._target.run(
            "UPDATE tailrace.shift SET serial = serial + 1, state = %s WHERE id = 1 AND serial = %s",
            (json.dumps(as_json(after)), state.serial),
        )
        if changed != 1:
            raise Superseded(
                Code.AUTHORITY_MOVED,
                "the share of reads was changed by somebody else meanwhile",
                position=state.serial,
                hint="tailrace shift --status",
            )
        return replace(after, serial=state.serial + 1)

    def looked(self, health: dict[str, Any]) -> None:
        """The last look, for status and for whoever wants to know that somebody watches."""
        self._target.run(
            "UPDATE tailrace.shift SET health = %s, health_at = clock_timestamp() WHERE id = 1", (json.dumps(health),)
        )
