"""Decide: what a rollback would do and lose now; pure.

Invariant: what is unknown is no promise: a source whose way back cannot be read makes `can_rollback` false.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli.migration import window_document, window_line
from cutover.drain import Reached
from schemas.authority import Authority, Migration, Window


def rollback_status(
    before: Migration, found: Mapping[str, Reached | None], window: Window | None = None
) -> dict[str, Any]:
    """`found`: source -> how far the way back is applied there."""
    there = before.authority in (Authority.TARGET, Authority.TO_SOURCE)
    unknown = sorted(name for name, one in found.items() if one is None) if there else []
    kept = [f"{name}.{row}" for name, one in sorted(found.items()) if one is not None for row in one.kept]
    may = before.authority is not Authority.COMPLETED and not before.no_rollback and not kept and not unknown
    return {
        "authority": before.authority,
        "token": before.token,
        "no_rollback": before.no_rollback,
        "kept": kept,
        "unknown": unknown,
        "window": window_document(window),
        "can_rollback": may,
    }


def rollback_lines(document: Mapping[str, Any]) -> list[str]:
    """For people."""
    if document["authority"] is Authority.SOURCE:
        return ["writes belong to the SQLite files: a rollback moves reads only"]
    if document["authority"] is Authority.COMPLETED:
        return ["completed: there is no way back"]
    lines = [f"writes belong to {document['authority']} (token {document['token']})"]
    if document["window"]:
        lines.append(window_line(document["window"]))
    lines += [f"would lose {what}: {why}" for what, why in document["no_rollback"].items()]
    lines += [f"would lose {row}" for row in document["kept"]]
    lines += [f"not known how far the way back is at {name}" for name in document["unknown"]]
    if document["kept"]:
        lines.append(
            "write those rows on PostgreSQL so that SQLite can hold them, or: tailrace quarantine waive SOURCE TABLE"
        )
    return lines if not document["can_rollback"] else [*lines, "a rollback loses nothing"]
