"""When a row in motion is proven equal, and when nothing may be said of it."""

from __future__ import annotations

from verify.motion import Motion


def test_one_state_seen_on_both_sides_is_enough() -> None:
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x"})
    motion.source(12, [(11, "a"), (12, "b")], {"a": "y"})
    motion.target(9, {"a": "w"})
    assert motion.verdict("a") is None
    motion.target(12, {"a": "y"})
    assert "equal" == motion.verdict("a")


def test_a_state_holds_until_the_next_entry_of_its_key() -> None:
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x"})
    motion.source(20, [(15, "a")], {"a": "y"})
    motion.target(14, {"a": "x"})
    assert "equal" == motion.verdict("a")


def test_another_state_with_the_same_digest_is_no_proof() -> None:
    """The target shows x where the source had y: that the source had x before says nothing."""
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x"})
    motion.source(20, [(15, "a")], {"a": "y"})
    motion.target(15, {"a": "x"})
    assert motion.verdict("a") is None


def test_a_difference_takes_several_states() -> None:
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x0"})
    for seq in (11, 12, 13):
        assert motion.verdict("a") is None
        motion.source(seq, [(seq, "a")], {"a": f"x{seq}"})
        motion.target(seq, {"a": "other"})
    assert "differing" == motion.verdict("a")


def test_what_is_missing_and_what_is_extra() -> None:
    motion = Motion(["gone", "here"])
    motion.source(10, None, {"gone": "x", "here": "x"})
    motion.source(13, [(11, "gone"), (11, "here"), (12, "gone"), (13, "gone")], {"gone": "y"})
    for applied in (11, 12, 13):
        motion.target(applied, {"here": "x"})
    motion.source(14, [], {"gone": "y"})
    assert motion.verdict("gone") is None
    assert motion.verdict("here") == "extra"


def test_a_pruned_log_proves_nothing() -> None:
    """Entries between the two looks are gone: which state the target showed nobody knows."""
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x"})
    motion.target(15, {"a": "x"})
    motion.source(20, None, {"a": "x"})
    assert motion.verdict("a") is None
    motion.target(20, {"a": "x"})
    assert "equal" == motion.verdict("a")


def test_two_digests_of_one_state_prove_nothing() -> None:
    """A write that no trigger logged."""
    motion = Motion(["a"])
    motion.source(10, None, {"a": "x"})
    motion.source(10, [], {"a": "y"})
    motion.target(10, {"a": "y"})
    assert motion.verdict("a") is None
