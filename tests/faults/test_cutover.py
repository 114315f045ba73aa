"""The switch and the way back under faults, with live writers: 0 lost, 0 doubled, never two writable sides, the state has a
name, the next command works, and the application writes again by itself."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.fix_cutover import LEASE_S, Migration

BY_ITSELF_S = LEASE_S + 12
"""The lease, the steward's round, and a loaded machine."""

BEFORE_OPEN = (
    "cutover.claimed",
    "cutover.locked",
    "cutover.fenced",
    "cutover.draining",
    "cutover.drained",
    "cutover.before_open",
    "cutover.mid_open",
)
RETURN = ("rollback.mid_close", "rollback.closed", "rollback.drained", "rollback.mid_return", "rollback.returned")


def _cells(points: tuple[str, ...], always: str) -> list[object]:
    """All of them in the soak; `make test` takes the most dangerous one."""
    return [point if point == always else pytest.param(point, marks=pytest.mark.soak) for point in points]


def _there_and_back(migration: Migration) -> None:
    """Whatever happened before: the next commands work, and nothing was lost on the way."""
    migration.cutover()
    migration.until_written(within_s=10)
    migration.rollback()
    migration.until_written(within_s=10)
    migration.judge()


@pytest.mark.parametrize("point", _cells(BEFORE_OPEN, "cutover.fenced"))
def test_a_switch_killed_before_the_open_is_taken_back(migration: Migration, point: str) -> None:
    migration.follow()
    migration.killed_at(point, "cutover")
    assert migration.status()["phase"] in ("fenced", "drained", "following", "failed", "copying")
    migration.until_authority("source", within_s=BY_ITSELF_S)
    migration.until_written(within_s=BY_ITSELF_S)
    _there_and_back(migration)


@pytest.mark.parametrize("point", _cells(BEFORE_OPEN, "cutover.mid_open"))
def test_a_switch_stopped_past_its_lease_opens_nothing_when_it_wakes(migration: Migration, point: str) -> None:
    migration.follow()
    stopped = migration.stopped_at(point, "cutover")
    migration.until_authority("source", within_s=BY_ITSELF_S)
    if point != "cutover.locked":  # stopped with SQLite's own lock: nobody else can give that back
        migration.until_written(within_s=BY_ITSELF_S)
    stopped.send_signal(signal.SIGCONT)
    assert 0 != stopped.wait(timeout=30)
    assert "source" == migration.row()["authority"]
    migration.until_written(within_s=BY_ITSELF_S)
    _there_and_back(migration)


def test_a_switch_killed_after_the_open_stands(migration: Migration) -> None:
    migration.follow()
    migration.killed_at("cutover.after_open", "cutover")
    assert "switched" == migration.status()["phase"]
    migration.until_written(within_s=10)
    migration.rollback()
    migration.until_written(within_s=10)
    _there_and_back(migration)


@pytest.mark.parametrize("point", _cells(RETURN, "rollback.closed"))
def test_a_rollback_killed_is_finished_by_the_steward(migration: Migration, point: str) -> None:
    migration.follow()
    migration.cutover()
    migration.until_written(within_s=10)
    migration.killed_at(point, "rollback", "--reason", "killed")
    if point == "rollback.mid_close":
        migration.until_written(within_s=BY_ITSELF_S)
        assert "switched" == migration.status()["phase"]
        migration.rollback()
    migration.until_authority("source", within_s=BY_ITSELF_S)
    migration.until_written(within_s=BY_ITSELF_S)
    _there_and_back(migration)


@pytest.mark.parametrize("point", _cells(RETURN, "rollback.returned"))
def test_a_rollback_stopped_past_its_lease_does_no_harm_when_it_wakes(migration: Migration, point: str) -> None:
    migration.follow()
    migration.cutover()
    migration.until_written(within_s=10)
    stopped = migration.stopped_at(point, "rollback", "--reason", "stopped")
    if point == "rollback.mid_close":
        migration.until_written(within_s=BY_ITSELF_S)
    else:
        migration.until_authority("source", within_s=BY_ITSELF_S)
        migration.until_written(within_s=BY_ITSELF_S)
        migration.cutover()
        migration.until_written(within_s=10)
    before = migration.row()
    stopped.send_signal(signal.SIGCONT)
    stopped.wait(timeout=30)
    time.sleep(0.5)
    if point != "rollback.mid_close":
        assert before == migration.row()
    migration.rollback()
    migration.until_written(within_s=10)
    migration.judge()
