"""Decide: what status says of the migration as a whole, beside what it says of each source; pure.

Invariant: while writes do not belong to the sources, no figure of the forward stream is called a lag: it rests at its cutoff.
"""

from __future__ import annotations

from typing import Any

from schemas.authority import Authority, Migration, Phase, legal_verbs, phase_of

_NEXT = {
    Phase.FENCED: ["tailrace rollback --reason R: takes the switch back"],
    Phase.DRAINED: ["tailrace rollback --reason R: takes the switch back"],
    Phase.SWITCHED: ["tailrace rollback --status", "tailrace complete"],
    Phase.ROLLING_BACK: ["tailrace rollback --reason R: finishes it"],
    Phase.COMPLETED: [],
}


def with_migration(document: dict[str, Any], migration: Migration | None) -> dict[str, Any]:
    """The status document with `phase`, `authority` and what they mean for the rest.

    Args:
        migration: None where the row cannot be read, or nothing was ever begun.
    """
    phases = [one["phase"] for one in document["sources"].values()]
    if migration is None:
        phase = Phase.PLANNED if set(phases) == {"planned"} else None
        return {**document, "phase": phase, "authority": None, "token": None}
    copied = None if set(phases) <= {"planned"} else set(phases) <= {"following"}
    phase = phase_of(migration, copied=copied, paused="paused" in phases)
    told = {
        **document,
        "phase": phase,
        "authority": str(migration.authority),
        "token": migration.token,
        "read_share": migration.read_share / 10_000,
        "failed": migration.failed,
        "no_rollback": migration.no_rollback,
        "legal_verbs": list(legal_verbs(phase)),
    }
    if migration.authority is Authority.SOURCE:
        return told
    for one in told["sources"].values():
        one |= {"phase": str(phase), "lag_changes": None, "lag_seconds": None}
    return {
        **told,
        "can_cutover": False,
        "blocking_reasons": [f"writes belong to {migration.authority} already"]
        + [f"rollback would lose {what}: {why}" for what, why in migration.no_rollback.items()],
        "next_steps": _NEXT[phase],
    }


def migration_line(document: dict[str, Any]) -> str:
    """One line for people."""
    if document.get("authority") is None:
        return "migration: nothing began yet, or the target cannot be read"
    side = {
        Authority.SOURCE: "writes belong to SQLite",
        Authority.TO_TARGET: "nobody can write: a switch is under way",
        Authority.TARGET: "writes belong to PostgreSQL",
        Authority.TO_SOURCE: "nobody can write: a rollback is under way",
        Authority.COMPLETED: "completed: PostgreSQL is the database",
    }[Authority(document["authority"])]
    failed = f"; the last attempt was taken back: {document['failed']}" if document["failed"] else ""
    share = f", {document['read_share']:.0%} of the reads" if 0 < document["read_share"] < 1 else ""
    return f"migration: {document['phase']}, {side}{share} (token {document['token']}){failed}"
