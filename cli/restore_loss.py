"""Do: what `rollback --to` says before anything moves: whether the checkpoint may be restored at all, what is lost by it, and the
command that accepts the loss by name.

Invariant: what the way back no longer carries, or what no log can be read for, is unknown and never nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any

from capture import meta as metas
from cli.restored_copy import Open, pending_of
from cli.wiring import open_source
from cutover.checkpoints import Checkpoints
from cutover.loss import TableLoss, count_losses, loss_lines
from ops.config import Config
from ops.telemetry import Telemetry
from schemas.authority import Authority, Migration
from schemas.change import Position
from schemas.checkpoint import Checkpoint
from schemas.errors import Code, Refusal, TailraceError


class NotConfirmed(Refusal):
    """What is lost is in `told`: printed before the refusal."""

    def __init__(self, name: str, reason: str, told: tuple[dict[str, Any], list[str]]) -> None:
        self.told = told
        super().__init__(
            Code.LOSS_NOT_ACCEPTED,
            f"putting the sources back to {name} throws away what came since",
            hint=f"stop capture, then: tailrace rollback --to {name} --reason {json.dumps(reason)} --yes {name}",
        )


def refuse_ended(config: Config, points: Checkpoints, checkpoint: Checkpoint) -> None:
    """Raises Refusal where this checkpoint cannot be restored at all."""
    if thrown := points.thrown_away(checkpoint):
        raise Refusal(
            Code.CHECKPOINT_ENDED, f"{checkpoint.name} has ended: {thrown}", hint="tailrace checkpoint --list"
        )
    names = set(config.source_databases)
    if strange := sorted(names ^ set(checkpoint.sources)):
        raise Refusal(
            Code.CHECKPOINT_ENDED,
            f"{checkpoint.name} has other sources than the migration: {strange[0]} is only on one side",
            source=strange[0],
            hint="tailrace checkpoint --list",
        )
    missing = sorted(name for name in names if name not in checkpoint.backups)
    if missing:
        raise Refusal(
            Code.RESTORE_REFUSED,
            f"{checkpoint.name} has no backup of {', '.join(missing)}: it was made without --backup-source",
            source=missing[0],
            hint="plain tailrace rollback brings writes back without loss; "
            f"tailrace replay --from {checkpoint.name} mends the target alone",
        )


def losses_of(one: Open, before: Migration, backups: Mapping[str, Path], events: Telemetry) -> list[TableLoss]:
    """What putting these backups in the place of their sources throws away."""
    losses = []
    for name, backup in backups.items():
        pending = _pending(one, before, name, events)
        losses += count_losses(name, one.config.source_path(name), backup, pending)
    return losses


def _pending(one: Open, before: Migration, name: str, events: Telemetry) -> Mapping[str, int] | None:
    if before.authority is Authority.SOURCE:
        return {}
    if before.no_rollback:
        return None  # what the way back lost is in no log
    try:
        return pending_of(one, name, Position(before.reverse_label, before.reverse_start))
    except TailraceError as error:
        events.event("restore.uncounted", f"{name}: {error.message}", level="warning")
        return None


def head_of(config: Config, name: str) -> int:
    with closing(open_source(config, name)) as db:
        return metas.head_of(db)


def told_of(one: Open, losses: list[TableLoss]) -> tuple[dict[str, Any], list[str]]:
    made = one.checkpoint
    age_s = max(0.0, (one.now_ms - made.at_ms) / 1000)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(made.at_ms / 1000))
    document = {
        "checkpoint": made.name,
        "at_ms": made.at_ms,
        "age_seconds": age_s,
        "losses": [asdict(loss) for loss in losses],
    }
    lines = [f"{made.name} was made {stamp}, {_span(age_s)} ago; putting the sources back to it:"]
    lines += [f"  {line}" for line in loss_lines(losses)]
    lines.append("  documents and files beside the databases stay as they are")
    return document, lines


def _span(seconds: float) -> str:
    if seconds >= 48 * 3600:
        return f"{seconds / 86400:.1f} days"
    return f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
