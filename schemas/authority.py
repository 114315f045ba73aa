"""Decide: who may write, what a migration may do next, and the one row that says so; pure.

Invariant: one row in the target, (authority, token), is the only authority. Every step is a compare-and-set that raises
the token; progress, fences, routes and Redis only repeat what it says (protocol section 8: two epoch rows that both
decide gave split brain in 8 to 11 steps). The phase that people see is derived from it and never stored beside it.
Cases: test_an_illegal_verb_names_the_legal_ones, test_the_order_of_phases_is_pinned.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

BUCKETS = 10_000
"""Of reads, by their key; a share is a number of them."""


class Authority(StrEnum):
    """Where writes belong. `TO_TARGET` and `TO_SOURCE`: nowhere, both sides are closed while the streams drain."""

    SOURCE = "source"
    TO_TARGET = "to_target"
    TARGET = "target"
    TO_SOURCE = "to_source"
    COMPLETED = "completed"


class Phase(StrEnum):
    """Life of a migration, in order; the last three stand aside."""

    PLANNED = "planned"
    COPYING = "copying"
    FOLLOWING = "following"
    SHIFTING = "shifting"
    FENCED = "fenced"
    DRAINED = "drained"
    SWITCHED = "switched"
    COMPLETED = "completed"
    PAUSED = "paused"
    ROLLING_BACK = "rolling_back"
    FAILED = "failed"


MOVES: dict[Authority, frozenset[Authority]] = {
    # To TO_SOURCE only for a restore, which closes the sources to put them back to a checkpoint.
    Authority.SOURCE: frozenset({Authority.TO_TARGET, Authority.TO_SOURCE}),
    Authority.TO_TARGET: frozenset({Authority.SOURCE, Authority.TARGET}),
    Authority.TARGET: frozenset({Authority.TO_SOURCE, Authority.COMPLETED}),
    # Back to TARGET is no move: once the target is fenced its tail belongs to the source. Recovery finishes the drain.
    # To itself: a restore takes the place of a rollback that stands between two closed sides.
    Authority.TO_SOURCE: frozenset({Authority.SOURCE, Authority.TO_SOURCE}),
    Authority.COMPLETED: frozenset(),
}

VERBS: dict[Phase, frozenset[str]] = {
    Phase.PLANNED: frozenset({"up"}),
    Phase.COPYING: frozenset({"up", "pause", "verify"}),
    Phase.FOLLOWING: frozenset({"pause", "verify", "repair", "shift", "cutover", "checkpoint", "replay"}),
    Phase.SHIFTING: frozenset({"pause", "verify", "repair", "shift", "cutover", "rollback", "checkpoint"}),
    Phase.FENCED: frozenset({"rollback"}),
    Phase.DRAINED: frozenset({"rollback"}),
    Phase.SWITCHED: frozenset({"verify", "rollback", "complete", "checkpoint"}),
    Phase.COMPLETED: frozenset({"verify"}),
    Phase.PAUSED: frozenset({"resume", "verify", "rollback", "checkpoint"}),
    Phase.ROLLING_BACK: frozenset({"rollback"}),
    Phase.FAILED: frozenset({"resume", "rollback", "verify", "shift", "checkpoint", "replay"}),
}
"""What may be asked for in each phase, beside looking."""


@dataclass(frozen=True, slots=True)
class Restoring:
    """The sources are being put back to a checkpoint: TO_SOURCE ends with that, and with no drain."""

    checkpoint: str
    reason: str
    was: Authority
    """Where writes belonged before: what the sources, or the target, got since the checkpoint is thrown away."""


@dataclass(frozen=True, slots=True)
class Migration:
    """The row, as it was read."""

    authority: Authority = Authority.SOURCE
    token: int = 0
    """Raised by every move: the epoch that routers, fences and leases carry."""
    drained: bool = False
    """TO_TARGET only: everything up to the fence's cutoff is applied."""
    owner: str = ""
    """Who holds the lease of the move that is under way."""
    lease_left_s: float | None = None
    """By the target's own clock; None: nobody holds one. Below zero: whoever comes recovers."""
    reverse_start: str = ""
    """The pg_snapshot that the open stored: the reverse stream begins behind it."""
    reverse_label: int = 0
    cutoff: dict[str, int] = field(default_factory=dict)
    """source -> head of its log when it was fenced."""
    read_share: int = 0
    """Of 10,000 buckets, those whose reads go to the target."""
    no_rollback: dict[str, str] = field(default_factory=dict)
    """What the reverse stream can no longer carry -> why; not empty: rollback would lose something."""
    failed: str = ""
    """Why the last move was taken back; cleared by the next."""
    restoring: Restoring | None = None
    """TO_SOURCE only."""


@dataclass(frozen=True, slots=True)
class Window:
    """Until when a rollback is promised, while writes belong to the target. By the target's own clock."""

    until_ms: int
    left_s: float
    """Below zero: it has ended. Nothing happens by itself then: a rollback still works, and `complete` ends it."""
    owner: str
    """Whose switch it was: login and machine; empty: not known."""
    switched_ms: int | None = None


def may_move(before: Authority, after: Authority) -> bool:
    return after in MOVES[before]


def phase_of(migration: Migration, *, copied: bool | None, paused: bool) -> Phase:
    """What people see.

    Args:
        copied: every table follows; None: nothing was begun.
        paused: an operator let the target rest.
    """
    match migration.authority:
        case Authority.COMPLETED:
            return Phase.COMPLETED
        case Authority.TARGET:
            return Phase.SWITCHED
        case Authority.TO_SOURCE:
            return Phase.ROLLING_BACK
        case Authority.TO_TARGET:
            return Phase.DRAINED if migration.drained else Phase.FENCED
        case Authority.SOURCE:
            if copied is None:
                return Phase.PLANNED
            if paused:
                return Phase.PAUSED
            if migration.failed:
                return Phase.FAILED
            if not copied:
                return Phase.COPYING
            return Phase.SHIFTING if migration.read_share else Phase.FOLLOWING


def legal_verbs(phase: Phase) -> tuple[str, ...]:
    return tuple(sorted(VERBS[phase]))


TABLES = (
    """CREATE TABLE IF NOT EXISTS tailrace.migration(
        id int PRIMARY KEY CHECK (id = 1), authority text NOT NULL, token bigint NOT NULL, drained boolean NOT NULL,
        owner text NOT NULL, lease_until timestamptz, reverse_start text NOT NULL, reverse_label bigint NOT NULL,
        cutoff jsonb NOT NULL, read_share int NOT NULL, no_rollback jsonb NOT NULL, failed text NOT NULL,
        window_until timestamptz, format int NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS tailrace.journal(
        seq bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT clock_timestamp(),
        token bigint NOT NULL, before text NOT NULL, after text NOT NULL, verb text NOT NULL, actor text NOT NULL,
        detail jsonb NOT NULL)""",
    """CREATE TABLE IF NOT EXISTS tailrace.shift(
        id int PRIMARY KEY CHECK (id = 1), serial bigint NOT NULL, state jsonb NOT NULL, health jsonb,
        health_at timestamptz)""",
    "ALTER TABLE tailrace.migration ADD COLUMN IF NOT EXISTS restoring jsonb",
    "INSERT INTO tailrace.shift VALUES (1, 0, '{}', NULL, NULL) ON CONFLICT (id) DO NOTHING",
    "INSERT INTO tailrace.migration VALUES (1, 'source', 0, false, '', NULL, '', 0, '{}', 0, '{}', '', NULL, 1) "
    "ON CONFLICT (id) DO NOTHING",
)
"""Part of the target's bookkeeping (schemas/bookkeeping.py)."""
