"""What a rollback would lose, before anybody asks for it."""

from __future__ import annotations

from cli.rollback_status import rollback_lines, rollback_status
from cutover.drain import KeptRow, Reached
from schemas.authority import Authority, Migration

SWITCHED = Migration(Authority.TARGET, 4)


def test_a_kept_row_is_something_to_lose() -> None:
    found = {"cases": Reached(9, False, (KeptRow("t", "(5,)", "SQLite cannot hold it"),)), "auth": Reached(9, True)}
    status = rollback_status(SWITCHED, found)
    assert (False, ["cases.t (5,): SQLite cannot hold it"]) == (status["can_rollback"], status["kept"])
    lines = rollback_lines(status)
    assert "would lose cases.t (5,): SQLite cannot hold it" in lines
    assert "a rollback loses nothing" not in lines


def test_an_unknown_way_back_is_no_promise() -> None:
    status = rollback_status(SWITCHED, {"cases": None})
    assert (False, ["cases"]) == (status["can_rollback"], status["unknown"])
    # While writes belong to SQLite there is none, and nothing to lose by it.
    assert rollback_status(Migration(Authority.SOURCE, 4), {"cases": None})["can_rollback"]


def test_nothing_is_lost_where_nothing_stays_behind() -> None:
    status = rollback_status(SWITCHED, {"cases": Reached(9, True)})
    assert "a rollback loses nothing" == rollback_lines(status)[-1]
