"""Decide: what status says of the migration as a whole, beside what it says of each source; pure.

Invariant: while writes do not belong to the sources, no figure of the forward stream is called a lag: it rests at its cutoff.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cutover.behind import NEXT, lost_moves
from cutover.shift import RUNNING
from cutover.shift_row import NOBODY, Told
from cutover.source_fence import Carried
from cutover.watch import watches
from schemas.authority import BUCKETS, Authority, Migration, Phase, Restoring, Window, legal_verbs, phase_of

_NEXT = {
    Phase.FENCED: ["tailrace rollback --reason R: takes the switch back"],
    Phase.DRAINED: ["tailrace rollback --reason R: takes the switch back"],
    Phase.SWITCHED: ["tailrace rollback --status", "tailrace complete"],
    Phase.ROLLING_BACK: ["tailrace rollback --reason R: finishes it"],
    Phase.COMPLETED: [],
}


def window_document(window: Window | None) -> dict[str, Any] | None:
    """The rollback window as JSON; None: writes belong to the sources, or the migration is completed."""
    if window is None:
        return None
    return {
        "until_ms": window.until_ms,
        "left_seconds": window.left_s,
        "owner": window.owner or None,
        "switched_ms": window.switched_ms,
    }


def window_line(window: dict[str, Any]) -> str:
    """One line for people: how long a rollback is promised, and who to ask."""
    owner = f"switched by {window['owner'] or 'unknown'}"
    left_s = window["left_seconds"]
    if left_s < 0:
        return (
            f"rollback window: over for {_span(-left_s)} ({owner}); a rollback still works, tailrace complete ends it"
        )
    return f"rollback window: {_span(left_s)} left ({owner})"


def _span(seconds: float) -> str:
    minutes = int(seconds // 60)
    days, hours, rest = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} days {hours} h"
    return f"{hours} h {rest} min" if hours else f"{rest} min"


def with_migration(
    document: dict[str, Any], migration: Migration | None, window: Window | None = None
) -> dict[str, Any]:
    """The status document with `phase`, `authority` and what they mean for the rest.

    Args:
        migration: None where the row cannot be read, or nothing was ever begun.
    """
    phases = [one["phase"] for one in document["sources"].values()]
    if migration is None:
        phase = Phase.PLANNED if set(phases) == {"planned"} else None
        return {**document, "phase": phase, "authority": None, "token": None, "window": None}
    copied = None if set(phases) <= {"planned"} else set(phases) <= {"following"}
    phase = phase_of(migration, copied=copied, paused="paused" in phases)
    told = {
        **document,
        "phase": phase,
        "authority": str(migration.authority),
        "token": migration.token,
        "read_share": migration.read_share / BUCKETS,
        "failed": migration.failed,
        "no_rollback": migration.no_rollback,
        "restoring": migration.restoring.checkpoint if migration.restoring else None,
        "window": window_document(window),
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
        "next_steps": _restore_steps(migration.restoring) if migration.restoring else _NEXT[phase],
    }


def _restore_steps(restoring: Restoring) -> list[str]:
    return [
        f"tailrace rollback --to {restoring.checkpoint} --reason R: goes on with it (capture must not run)",
        "tailrace rollback --give-up --reason R: as long as no file was put back",
    ]


def with_lost_moves(
    document: dict[str, Any], migration: Migration | None, carried: Mapping[str, Carried]
) -> dict[str, Any]:
    """A row that a source has seen more than is believed by nobody: no phase of it is shown as if it were one."""
    found = None if migration is None else lost_moves(migration, carried)
    if migration is None or found is None:
        return document
    why = (
        f"{found.source} has seen token {found.token}, the target's row is at {migration.token}: this server lost the last "
        "moves of the migration"
    )
    return {
        **document,
        "phase": Phase.FAILED,
        "lost_moves": why,
        "can_cutover": False,
        "blocking_reasons": [why, *document["blocking_reasons"]],
        "legal_verbs": ["rollback"],
        "next_steps": [NEXT],
    }


def with_shift(document: dict[str, Any], migration: Migration | None, told: Told, interval_s: float) -> dict[str, Any]:
    """The status document with the steps of the read share and the last look at the application's health."""
    health = told.health or {}
    watched = watches(told.health_age_s, interval_s)
    shift = {
        "stage": str(told.state.stage),
        "running": migration is not None and told.state.stage in RUNNING and told.state.token == migration.token,
        "reason": told.state.reason,
        "step": health.get("step") if watched else None,
        # An old verdict is no verdict.
        "health": health.get("outcome", "unknown") if watched else "unknown",
        "last_health": health.get("outcome"),
        "health_age_seconds": told.health_age_s,
        "critical": health.get("critical", []),
    }
    return {**document, "shift": shift}


def shift_line(document: dict[str, Any]) -> str:
    """One line for people: the step, and how the application is; inconclusive and unknown are said."""
    shift = document.get("shift") or with_shift({}, None, NOBODY, 0.0)["shift"]
    stage = f"{shift['stage']}{f' ({reason})' if (reason := shift['reason']) else ''}"
    age_s = shift["health_age_seconds"]
    if age_s is None:
        return f"reads: {stage}; health unknown: nobody has looked yet"
    if shift["health"] == "unknown":
        return f"reads: {stage}; health unknown: the last look was {age_s:.0f} s ago ({shift['last_health']})"
    critical = "".join(f"; critical: {one}" for one in shift["critical"])
    return f"reads: {stage}; health {shift['health']} {age_s:.0f} s ago{critical}"


def migration_line(document: dict[str, Any]) -> str:
    """One line for people."""
    if document.get("authority") is None:
        return "migration: nothing began yet, or the target cannot be read"
    if document.get("lost_moves"):
        return f"migration: {document['phase']}, {document['lost_moves']}; nothing is moved until a person decides"
    side = {
        Authority.SOURCE: "writes belong to SQLite",
        Authority.TO_TARGET: "nobody can write: a switch is under way",
        Authority.TARGET: "writes belong to PostgreSQL",
        Authority.TO_SOURCE: "nobody can write: a rollback is under way",
        Authority.COMPLETED: "completed: PostgreSQL is the database",
    }[Authority(document["authority"])]
    if document.get("restoring"):
        side = f"nobody can write: the files are being put back to checkpoint {document['restoring']}"
    failed = f"; the last attempt was taken back: {document['failed']}" if document["failed"] else ""
    shifted = document["read_share"] and document["authority"] == Authority.SOURCE
    share = f", {document['read_share']:.0%} of the reads go to PostgreSQL" if shifted else ""
    return f"migration: {document['phase']}, {side}{share} (token {document['token']}){failed}"
