"""Do: one half of the way back as a stepper that outlives its loss: the row says no_rollback with the reason, and what is
raised is tried again instead of ending the process.

The order is the argument: the row is written before anybody is told. It is written again under every token under which the
half still refuses, so that no move in between leaves a row that promises a rollback (the open clears it).
Case: test_a_topic_of_the_way_back_made_again_is_no_way_back.
"""

from __future__ import annotations

import json
from typing import Protocol

from adapters.postgres import Postgres
from cutover.authority import AuthorityRow
from schemas.authority import Authority
from schemas.errors import Code, Failed, Refusal

NEXT = (
    "tailrace rollback --status tells what a rollback would lose. Writes go on where they are; "
    "tailrace complete --yes COMPLETE ends the way back and its log on the target"
)


class Half(Protocol):
    def step(self) -> bool: ...

    def close(self) -> None: ...


class WayBack:
    """The capture or the sink of one source's way back. `session` is its own: the half may be in a transaction."""

    def __init__(self, half: Half, session: Postgres, source: str) -> None:
        self._half = half
        self._session = session
        self._row = AuthorityRow(session, actor=f"way back of {source}")
        self._source = source

    def step(self) -> bool:
        try:
            return self._half.step()
        except Refusal as refusal:
            if refusal.code not in (Code.STREAM_REWOUND, Code.NO_ROLLBACK):
                raise
            what = f"changes of {self._source} since the switch"
            if refusal.code is Code.NO_ROLLBACK:
                what = f"{self._source}.{refusal.table}"
            if not self._lost(what, refusal.message):
                return False
            raise Failed(
                refusal.code,
                f"the way back is lost: {refusal.message}",
                source=self._source,
                position=refusal.position,
                hint=NEXT,
            ) from refusal

    def _lost(self, what: str, why: str) -> bool:
        """False: there is no way back to lose any more. Raises what keeps the row from being written: it is tried with
        the next step."""
        row = self._row.read()
        if row.authority not in (Authority.TARGET, Authority.TO_SOURCE) or what in row.no_rollback:
            return row.authority is not Authority.COMPLETED
        text = json.dumps({what: why}).replace("'", "''").replace("%", "%%")
        self._row.set(
            row.token, {"no_rollback": f"no_rollback || '{text}'::jsonb"}, verb="no-rollback", detail={what: why}
        )
        return True

    def close(self) -> None:
        self._half.close()
        self._session.close()
