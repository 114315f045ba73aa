"""What status says of two looks: unknown is never zero and always blocks."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from cli.render import lag_line, number, size, status_lines
from cli.status import SourceFigures, TargetFigures, source_status, whole_status
from cli.up import Settling, settled
from schemas.change import Progress, TableProgress, TableState

NOW_MS = 1_000_000


def progress(*, applied: int = 10, state: TableState = TableState.FOLLOWING, consistent: bool = True) -> Progress:
    table = TableProgress("t", state, 1, 0, 0, 1, 2)
    return Progress("s", "o", applied, None, consistent, "i", {}, {"t": table}, NOW_MS - 3000, NOW_MS - 2000)


def document(source: SourceFigures, target: TargetFigures) -> dict[str, object]:
    return whole_status([source_status("s", source, target, now_ms=NOW_MS)])


def test_an_unreadable_source_is_an_unknown_lag_and_blocks() -> None:
    one = document(SourceFigures(error="no such file"), TargetFigures(progress(), 0))
    assert not one["can_cutover"]
    status = one["sources"]["s"]  # type: ignore[index]
    assert (None, None) == (status["lag_changes"], status["lag_seconds"])
    assert "unknown changes behind, unknown lag" in lag_line("s", status)


def test_an_unreadable_target_is_an_unknown_lag_and_blocks() -> None:
    one = document(SourceFigures(head=10, installed=True), TargetFigures(error="connection refused"))
    assert not one["can_cutover"]
    assert None is one["sources"]["s"]["lag_changes"]  # type: ignore[index]
    assert "unknown" == one["sources"]["s"]["phase"]  # type: ignore[index]


def test_everything_applied_is_lag_zero_however_long_ago() -> None:
    one = document(SourceFigures(head=10, installed=True), TargetFigures(progress(), 0))
    status = one["sources"]["s"]  # type: ignore[index]
    assert (0, 0.0) == (status["lag_changes"], status["lag_seconds"])
    assert one["can_cutover"]


def test_lag_in_seconds_is_the_age_of_the_oldest_change_the_target_lacks() -> None:
    source = SourceFigures(head=12, installed=True, oldest_unapplied_ms=NOW_MS - 500)
    assert 0.5 == source_status("s", source, TargetFigures(progress(), 0), now_ms=NOW_MS).lag_seconds
    pruned = SourceFigures(head=12, installed=True)
    assert 3.0 == source_status("s", pruned, TargetFigures(progress(), 0), now_ms=NOW_MS).lag_seconds


def test_each_reason_blocks_by_itself() -> None:
    good = SourceFigures(head=10, installed=True)
    for target in (
        TargetFigures(progress(consistent=False), 0),
        TargetFigures(progress(state=TableState.COPYING), 0),
        TargetFigures(progress(), 1),
        TargetFigures(progress(), 0, unproven=1),
        TargetFigures(progress(), 0, not_as_ordered={"t.a": 'type = "date" is ordered, the table has text'}),
        TargetFigures(progress(), None),
        TargetFigures(),
    ):
        assert not document(good, target)["can_cutover"]
    assert not document(SourceFigures(installed=False), TargetFigures(progress(), 0))["can_cutover"]


def test_figures_for_people() -> None:
    assert ("unknown", "1,234", "0.5 s") == (number(None), number(1234), number(0.5, unit=" s"))
    assert ("unknown", "999 B", "1.5 MB") == (size(None), size(999), size(1_500_000))
    lines = status_lines(document(SourceFigures(error="gone"), TargetFigures()))
    assert "can cut over: no" in lines


def test_a_log_that_counts_below_what_was_applied_is_no_lag_of_zero() -> None:
    for source in (
        SourceFigures(head=3, installed=True, identity="i"),
        SourceFigures(head=30, installed=True, identity="another"),
    ):
        found = document(source, TargetFigures(progress(), 0))
        one = found["sources"]["s"]  # type: ignore[index]
        assert ("unknown", None, None) == (one["phase"], one["lag_changes"], one["consistent"])
        assert "--accept-history" in found["blocking_reasons"][0]  # type: ignore[index]


def test_a_schema_that_capture_has_not_looked_at_blocks_and_settles_nothing() -> None:
    quiet = document(SourceFigures(head=10, installed=True, pending_drift=False), TargetFigures(progress(), 0))
    moved = document(SourceFigures(head=10, installed=True, pending_drift=True), TargetFigures(progress(), 0))
    unknown = document(SourceFigures(head=10, installed=True), TargetFigures(progress(), 0))
    assert ["s: its schema was changed, and capture has not taken that over yet"] == moved["blocking_reasons"]
    assert [True, False, False, False, False] == [
        settled(now, before)
        for before, now in ((quiet, quiet), (moved, quiet), (quiet, moved), (unknown, quiet), (quiet, unknown))
    ]


def test_writers_that_go_on_do_not_keep_it_from_settling() -> None:
    """Through a slow broker the sink is always behind the head of the look before."""

    def at(head: int, applied: int) -> dict[str, Any]:
        moved = replace(progress(), applied=applied, highest=applied)
        return document(SourceFigures(head=head, installed=True, pending_drift=False), TargetFigures(moved, 0))

    settling = Settling()
    assert [False, False, False, True] == [
        settling.look(at(head, applied)) for head, applied in ((100, 10), (200, 60), (300, 90), (400, 110))
    ]


def test_a_replay_under_way_is_said_and_blocks() -> None:
    set_back = replace(progress(consistent=False), highest=25)
    one = document(SourceFigures(head=30, installed=True), TargetFigures(set_back, 0))
    assert not one["can_cutover"]
    assert ["s: a replay is under way: the sink stands at 10 of 25"] == one["blocking_reasons"]
