"""The protocol of the switch, searched exhaustively within a bound; and each rule, taken out, is seen to be needed."""

from __future__ import annotations

from dataclasses import fields

import pytest

from tests.model.cutover_search import Rules, search, without

STEPS = {
    "switch": (
        "claims",
        "fences 0",
        "fences 1",
        "sees it drained",
        "opens",
        "takes back",
        "lifts 1",
        "was overtaken",
        "stops",
    ),
    "return": ("closes the target", "sees it drained", "returns", "lifts 0", "was overtaken"),
    "recover": ("finds an abandoned switch", "finds an abandoned return", "takes back", "returns", "lifts 1"),
}

BY_REPLAY = ("replay_holds_row", "replay_to_head")
"""Rules that only a replay needs."""


def test_no_interleaving_has_two_writers_or_loses_a_write() -> None:
    """Two files, two writes, two attempts to switch, one to return, one recovery, any of them stopping anywhere."""
    found = search(writes=2, switches=2, returns=1, recoveries=1)
    assert "" == found.what, found.trace
    assert found.complete
    taken = {f"{kind}: {step}" for kind, steps in STEPS.items() for step in steps}
    assert set() == taken - found.labels
    assert {"write 0 at the source", "write 1 at the target", "apply 0 forward", "apply 1 back"} <= found.labels


def test_no_interleaving_with_a_replay_shows_an_older_state() -> None:
    """A replay beside a switch, its return and a recovery: the sinks are set back at any moment that the protocol allows."""
    found = search(writes=2, switches=1, returns=1, recoveries=1, replays=1)
    assert "" == found.what, found.trace
    assert found.complete
    steps = {"reads the heads", "sets the sinks back", "was overtaken"}
    assert set() == ({f"replay: {step}" for step in steps} | {"replay 0", "replay 1"}) - found.labels


RESTORE = (
    "closes everything",
    "shuts 1",
    "puts 0 back",
    "gives it to the sources",
    "takes up the way back",
    "lifts 1",
    "was overtaken",
)
TWO_RESTORES = {"writes": 1, "switches": 1, "returns": 0, "recoveries": 0, "restores": 2}
ONE_RESTORE = {"writes": 1, "switches": 1, "returns": 1, "recoveries": 1, "restores": 1}
BY_TWO = ("restore_holds_the_row", "taken_up_by_token")


def test_no_interleaving_with_a_restore_has_two_writers_or_mixes_histories() -> None:
    """A restore beside a switch, its return and a recovery, any of them stopping anywhere."""
    found = search(**ONE_RESTORE)
    assert ("", True) == (found.what, found.complete), found.trace
    assert set() == {f"restore: {step}" for step in RESTORE} - found.labels


@pytest.mark.soak
@pytest.mark.parametrize("writes", [1, 2])
def test_two_restores_one_of_which_sleeps_anywhere(writes: int) -> None:
    found = search(**{**TWO_RESTORES, "writes": writes}, at_most=20_000_000)
    assert ("", True) == (found.what, found.complete), found.trace
    assert {"restore: goes on with it", "restore: finds 0 put back"} <= found.labels


@pytest.mark.soak
def test_further_than_that() -> None:
    """The next larger bound: minutes and gigabytes."""
    found = search(writes=2, switches=2, returns=1, recoveries=1, replays=1, at_most=20_000_000)
    assert "" == found.what, found.trace
    found = search(writes=3, switches=2, returns=2, recoveries=1, at_most=20_000_000)
    assert "" == found.what, found.trace


@pytest.mark.parametrize(
    "rule",
    [
        # Found 400,000 states deep.
        pytest.param(field.name, marks=pytest.mark.soak if field.name == "taken_up_by_token" else ())
        for field in fields(Rules)
    ],
)
def test_each_rule_is_needed(rule: str) -> None:
    if rule.startswith(("restore", "taken_up")):
        assert "" != search(without(rule), **(TWO_RESTORES if rule in BY_TWO else ONE_RESTORE)).what
        return
    replays = int(rule in BY_REPLAY)
    found = search(without(rule), writes=2, switches=2 - replays, returns=1, recoveries=1 - replays, replays=replays)
    assert "" != found.what
