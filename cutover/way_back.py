"""Do: one half of the way back as a stepper that outlives its loss: the row says no_rollback with the reason, and what is
raised is tried again instead of ending the process.

The order is the argument: the row is written before anybody is told. It is written again under every token under which the
half still refuses, so that no move in between leaves a row that promises a rollback (the open clears it).
Case: test_a_topic_of_the_way_back_made_again_is_no_way_back.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from adapters.postgres import Postgres
from cutover.authority import AuthorityRow
from cutover.drain import Reached
from schemas.authority import Authority, Migration
from schemas.errors import Code, Failed, Refusal
from schemas.names import text_beside_parameters

NEXT = (
    "tailrace reset {source} --way-back --yes {source} sends every row again, and a rollback loses nothing once they are "
    "there. Writes go on where they are; tailrace complete --yes COMPLETE ends the way back and its log on the target"
)
AGAIN = "all its rows are sent again, and have not all arrived"


def lost_of(source: str) -> str:
    """What a row says of a source whose stream was lost."""
    return f"changes of {source} since the switch"


def again(source: str) -> dict[str, str]:
    """What the row says from the reset on until all has arrived."""
    return {lost_of(source): AGAIN}


def regain(row: AuthorityRow, before: Migration, found: Mapping[str, Reached | None]) -> list[str]:
    """Take out of the row what was lost, sent again and has arrived; the sources' names. `found` was read after `before`: a
    source that is past everything then was not begun anew since."""
    names = [
        source
        for source, one in sorted(found.items())
        if before.no_rollback.get(lost_of(source)) == AGAIN and one is not None and one.consistent
    ]
    for source in names:
        text = text_beside_parameters(lost_of(source))
        row.set(
            before.token,
            {"no_rollback": f"no_rollback - {text}"},
            verb="rollback-regained",
            detail={"source": source},
        )
    return names


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
            what = lost_of(self._source)
            if refusal.code is Code.NO_ROLLBACK:
                what = f"{self._source}.{refusal.table}"
            if not self._lost(what, refusal.message):
                return False
            raise Failed(
                refusal.code,
                f"the way back is lost: {refusal.message}",
                source=self._source,
                position=refusal.position,
                hint=NEXT.format(source=self._source),
            ) from refusal

    def _lost(self, what: str, why: str) -> bool:
        """False: there is no way back to lose any more. Raises what keeps the row from being written: it is tried with
        the next step."""
        row = self._row.read()
        if row.authority not in (Authority.TARGET, Authority.TO_SOURCE) or what in row.no_rollback:
            return row.authority is not Authority.COMPLETED
        text = text_beside_parameters(json.dumps({what: why}))
        self._row.set(
            row.token, {"no_rollback": f"no_rollback || {text}::jsonb"}, verb="no-rollback", detail={what: why}
        )
        return True

    def close(self) -> None:
        self._half.close()
        self._session.close()
