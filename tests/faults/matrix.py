"""Decide: the fault matrix of the cutover as data: in every phase, what every fault is, how the cell is brought about and
where writes may belong afterwards; a pair without a cell has its reason.

Invariant: no pair of phase and fault is left out (test_every_pair_has_a_cell_or_a_reason). Which cells are part of
`make test` is said here, too: the others are the soak's.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class At(StrEnum):
    """Where the migration stands when the fault strikes."""

    COPY = "copy"
    FOLLOW = "follow"
    SHIFT = "shift"
    GATES = "gates"
    FENCE = "fence"
    DRAIN = "drain"
    BEFORE_OPEN = "before-open"
    AFTER_OPEN = "after-open"
    REVERSE = "reverse"
    ROLLBACK = "rollback"
    COMPLETE = "complete"


class Fault(StrEnum):
    KILL_VERB = "kill-verb"
    KILL_CAPTURE = "kill-capture"
    KILL_SINK = "kill-sink"
    """And the snapshot daemon, which shares its side."""
    KILL_UP = "kill-up"
    STOP_VERB = "stop-verb"
    STOP_CAPTURE = "stop-capture"
    STOP_SINK = "stop-sink"
    POSTGRES = "postgres-down"
    KAFKA = "kafka-down"
    REDIS = "redis-down"
    SLOW = "slow-network"
    SILENT = "silent-network"
    """What is sent arrives when the network is back."""
    CUT = "cut-network"
    DISK = "full-disk"
    """Under the sources, the stream and all files of the daemons."""
    TARGET_DISK = "full-target-disk"


VERB = frozenset({Fault.KILL_VERB, Fault.STOP_VERB})
STEPS = (10, 25, 50, 75, 90, 100)
"""Percent of the reads: the phase `shift` goes through all of them, and the fault strikes at each."""

POINTS: dict[At, tuple[str, ...]] = {
    At.GATES: ("cutover.judged",),
    At.FENCE: ("cutover.fenced", "cutover.claimed", "cutover.locked"),
    At.DRAIN: ("cutover.draining", "cutover.drained"),
    At.BEFORE_OPEN: ("cutover.before_open", "cutover.mid_open"),
    At.AFTER_OPEN: ("cutover.after_open",),
    At.ROLLBACK: (
        "rollback.closed",
        "rollback.mid_close",
        "rollback.drained",
        "rollback.mid_return",
        "rollback.returned",
    ),
    At.COMPLETE: ("complete.moving", "complete.moved"),
}
"""Where the verb stands still. A fault of the verb strikes at each, every other one at the first."""
VERBS: dict[At, tuple[str, ...]] = {
    **dict.fromkeys((At.GATES, At.FENCE, At.DRAIN, At.BEFORE_OPEN, At.AFTER_OPEN), ("cutover",)),
    At.ROLLBACK: ("rollback", "--reason", "test"),
    At.COMPLETE: ("complete", "--yes", "COMPLETE"),
}
DAEMON_POINTS: dict[tuple[At, Fault], tuple[str, ...]] = {
    (At.REVERSE, Fault.KILL_CAPTURE): ("", "back.before_apply", "back.before_commit", "back.after_commit"),
    (At.REVERSE, Fault.KILL_SINK): (
        "",
        "reverse.before_send",
        "reverse.after_send",
        "reverse.before_watermark",
        "reverse.after_watermark",
    ),
}
"""Where the daemon itself is killed; empty: wherever it is."""

_NO_VERB = "no verb runs in this phase"
_ONE_STATEMENT = "shift moves the share in one statement and runs no further; the watch is killed with capture"
NOT_APPLICABLE: dict[tuple[At, Fault], str] = {
    **{(at, fault): _NO_VERB for at in (At.COPY, At.FOLLOW, At.REVERSE) for fault in VERB},
    **{(At.SHIFT, fault): _ONE_STATEMENT for fault in VERB},
}

IN_MAKE_TEST = frozenset(
    {
        (At.FENCE, Fault.KILL_VERB, "cutover.fenced"),
        (At.BEFORE_OPEN, Fault.STOP_VERB, "cutover.mid_open"),
        (At.AFTER_OPEN, Fault.KILL_VERB, "cutover.after_open"),
        (At.ROLLBACK, Fault.KILL_VERB, "rollback.closed"),
        (At.ROLLBACK, Fault.STOP_VERB, "rollback.returned"),
        (At.REVERSE, Fault.KILL_CAPTURE, "back.before_commit"),
        (At.BEFORE_OPEN, Fault.POSTGRES, "cutover.before_open"),
        (At.DRAIN, Fault.KAFKA, "cutover.draining"),
        (At.AFTER_OPEN, Fault.REDIS, "cutover.after_open"),
        (At.BEFORE_OPEN, Fault.SILENT, "cutover.before_open"),
        (At.FENCE, Fault.DISK, "cutover.fenced"),
        (At.COMPLETE, Fault.KILL_VERB, "complete.moving"),
    }
)
"""The most dangerous ones, one of each kind."""


@dataclass(frozen=True, slots=True)
class Cell:
    at: At
    fault: Fault
    point: str

    @property
    def name(self) -> str:
        return f"{self.at}-{self.fault}" + (f"-{self.point}" if self.point else "")

    @property
    def in_make_test(self) -> bool:
        return (self.at, self.fault, self.point) in IN_MAKE_TEST

    @property
    def ends(self) -> frozenset[str]:
        """Where writes may belong when the fault is over. Two: it was in time, or was taken back; its exit code says."""
        match self.at:
            case At.COPY | At.FOLLOW | At.SHIFT:
                return frozenset({"source"})
            case At.GATES | At.FENCE | At.DRAIN | At.BEFORE_OPEN:
                if self.fault is Fault.KILL_VERB or (self.fault is Fault.STOP_VERB and self.at is not At.GATES):
                    return frozenset({"source"})
                return frozenset({"source", "target"})
            case At.AFTER_OPEN | At.REVERSE:
                return frozenset({"target"})
            case At.ROLLBACK if self.point == "rollback.mid_close":
                return frozenset({"target"} if self.fault is Fault.KILL_VERB else {"source", "target"})
            case At.ROLLBACK:
                return frozenset({"source"})
            case At.COMPLETE if self.point == "complete.moving":
                return frozenset({"target"} if self.fault is Fault.KILL_VERB else {"target", "completed"})
            case At.COMPLETE:
                return frozenset({"completed"})


def cells() -> list[Cell]:
    found = []
    for at in At:
        for fault in Fault:
            if (at, fault) in NOT_APPLICABLE:
                continue
            points = POINTS.get(at, ("",))
            chosen = DAEMON_POINTS.get((at, fault), points if fault in VERB else points[:1])
            found += [Cell(at, fault, point) for point in chosen]
    return found
