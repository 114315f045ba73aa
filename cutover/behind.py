"""Decide: is this server the one that made the last moves, or one that lost them (failed over, restored from a backup)?

Invariant: the authority row is believed only where no source has seen a later token: a fence carries the one it was made
with, a lift the one it was made for, and the steward notes every move to the target in each source (`witnessed`), which
no fence carries. Two servers may then say two things, and only a person knows which of them is the real one: nothing is
moved, fenced or lifted, and writes that belong nowhere any more are refused on the target
(test_a_server_that_lost_its_last_moves_is_named_and_moves_nothing).
Trap: the sources are read before the row, or a move in between would look like a lost one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cutover.source_fence import Carried
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal

NEXT = (
    "point target_database_url at the server that has them; if it is gone for good: "
    'tailrace rollback --accept-lost --reason "what happened" goes on at the SQLite files as they are'
)


@dataclass(frozen=True, slots=True)
class LostMoves:
    """`token`: the latest that a source has seen. `open_beside`: the target takes writes while no source is fenced."""

    source: str
    token: int
    open_beside: bool


def lost_moves(migration: Migration, carried: Mapping[str, Carried]) -> LostMoves | None:
    """None: no source has seen more than this row says."""
    seen = {source: _seen(migration, one) for source, one in carried.items()}
    source = max(seen, key=lambda name: seen[name], default="")
    if not source or seen[source] <= migration.token:
        return None
    fenced = any(one.fence is not None for one in carried.values())
    return LostMoves(source, seen[source], migration.authority is Authority.TARGET and not fenced)


def refuse_behind(migration: Migration, carried: Mapping[str, Carried]) -> None:
    """Raises Refusal(AUTHORITY_BEHIND)."""
    found = lost_moves(migration, carried)
    if found is not None:
        raise Refusal(
            Code.AUTHORITY_BEHIND,
            f"the target says ({migration.authority}, {migration.token}), the source has seen token {found.token}: this "
            "server lost the last moves of the migration, and perhaps rows with them",
            source=found.source,
            position=found.token,
            hint=NEXT,
        )


def believed(read: Callable[[], Migration], carried: Callable[[], Mapping[str, Carried]]) -> Migration:
    """The row, read behind the sources. Raises Refusal(AUTHORITY_BEHIND)."""
    seen = carried()
    migration = read()
    refuse_behind(migration, seen)
    return migration


def _seen(migration: Migration, one: Carried) -> int:
    # Whoever could not reach the row lifted alone, with the token that taking it back will have.
    alone = migration.authority is Authority.TO_TARGET and one.fence is None and one.token == migration.token + 1
    return max(migration.token if alone else one.token, one.witnessed)
