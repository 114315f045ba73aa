"""Decide: what `status`, `lag` and the live view say, from what each side answered; unknown is never zero.

Invariant: a figure that could not be read is None, is shown as `unknown`, and blocks a cutover.
Lag in changes is head of the source's log minus what the target applied. Lag in seconds is the age of the oldest change
that the target does not have: its statement time while its entry is still in the log, else the time at which the applied
cut was captured, which is an upper bound. An idle source with everything applied has lag 0, not a growing one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from schemas.change import Progress, TableState
from schemas.checkpoint import is_behind

UNKNOWN_GROWTH = {
    "log_bytes_per_hour": None,
    "log_bytes_per_day": None,
    "log_limit_bytes": None,
    "seconds_to_limit": None,
}
"""Until readings say more (cli/growth.py); of what all sources share the next one."""
UNKNOWN_SHARED = {"stream_bytes_per_day": None, "bookkeeping_bytes_per_day": None}
UNPROVEN = "were not proven equal by a verification yet"
DRIFTED = "its schema was changed, and capture has not taken that over yet"


@dataclass(frozen=True, slots=True)
class SourceFigures:
    """What one look at the source file gave; None where it could not be read."""

    head: int | None = None
    pruned_to: int | None = None
    oldest_unapplied_ms: int | None = None
    log_rows: int | None = None
    log_bytes: int | None = None
    wal_bytes: int | None = None
    installed: bool | None = None
    identity: str = ""
    left_behind: Mapping[str, str] = field(default_factory=dict)
    """Tables that nobody excluded and that are not replicated -> why."""
    pending_drift: bool | None = None
    """Was the schema changed since capture last looked at it? A table or a copy may be owed that nobody knows of yet."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class TargetFigures:
    """What one look at the target gave for one source; `progress` None: nothing there yet, `error` set: unreadable."""

    progress: Progress | None = None
    quarantined: int | None = None
    copies: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    """table -> (rows copied, rows expected or 0)."""
    not_restorable: Mapping[str, str] = field(default_factory=dict)
    """`table.column` -> why it would not come back to SQLite as it was, unless that is waived."""
    not_as_ordered: Mapping[str, str] = field(default_factory=dict)
    """`table.column` -> how its type differs from the configuration's order."""
    unproven: int = 0
    """Tables without a verdict, or whose last verdict was not clean."""
    error: str = ""


@dataclass(frozen=True, slots=True)
class SourceStatus:
    """One source, as `status --json` prints it."""

    name: str
    phase: str
    head_seq: int | None
    applied_seq: int | None
    lag_changes: int | None
    lag_seconds: float | None
    consistent: bool | None
    quarantined: int | None
    applied_age_s: float | None
    log_rows: int | None
    log_bytes: int | None
    wal_bytes: int | None
    pending_drift: bool | None
    tables: Mapping[str, Mapping[str, Any]]
    reasons: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        return {
            "phase": self.phase,
            "head_seq": self.head_seq,
            "applied_seq": self.applied_seq,
            "lag_changes": self.lag_changes,
            "lag_seconds": self.lag_seconds,
            "consistent": self.consistent,
            "quarantined": self.quarantined,
            "applied_age_seconds": self.applied_age_s,
            "log_rows": self.log_rows,
            "log_bytes": self.log_bytes,
            "wal_bytes": self.wal_bytes,
            "pending_drift": self.pending_drift,
            "growth": dict(UNKNOWN_GROWTH),
            "tables": {name: dict(table) for name, table in self.tables.items()},
        }


def source_status(name: str, source: SourceFigures, target: TargetFigures, *, now_ms: int) -> SourceStatus:
    """Join both looks into one status; pure."""
    progress = target.progress
    applied = progress.applied if progress else None
    strange = _stranger(name, source, progress)
    lag_changes = None if source.head is None or applied is None or strange else max(0, source.head - applied)
    return SourceStatus(
        name=name,
        phase="unknown" if strange else _phase(source, target),
        head_seq=source.head,
        applied_seq=applied,
        lag_changes=lag_changes,
        lag_seconds=_lag_seconds(lag_changes, source, progress, now_ms=now_ms),
        consistent=progress.consistent if progress and not strange else None,
        quarantined=target.quarantined,
        applied_age_s=_age_s(progress.applied_at_ms if progress else 0, now_ms),
        log_rows=source.log_rows,
        log_bytes=source.log_bytes,
        wal_bytes=source.wal_bytes,
        pending_drift=source.pending_drift,
        tables=_tables(target),
        reasons=(*((strange,) if strange else ()), *_reasons(name, source, target, lag_changes)),
    )


def _stranger(name: str, source: SourceFigures, progress: Progress | None) -> str:
    """Why the target's figures are not of this file; empty: they are. Its seqs count something else, so that a difference
    says nothing (test_started_over). The target is always looked at first: its figure is never the newer one."""
    if progress is None or source.head is None:
        return ""
    goes_on = f"tailrace reset {name} --accept-history --yes {name} goes on with this file"
    if source.identity and progress.identity and source.identity != progress.identity:
        return f"{name}: the target holds the rows of another installation; {goes_on}"
    if source.head < progress.applied:
        return f"{name}: the change log ends at {source.head}, the target has applied {progress.applied}; {goes_on}"
    return ""


def _age_s(stamp_ms: int, now_ms: int) -> float | None:
    return max(0, now_ms - stamp_ms) / 1000 if stamp_ms else None


def _lag_seconds(
    lag_changes: int | None, source: SourceFigures, progress: Progress | None, *, now_ms: int
) -> float | None:
    if lag_changes is None or progress is None:
        return None
    if lag_changes == 0:
        return 0.0
    known = [stamp for stamp in (source.oldest_unapplied_ms, progress.captured_at_ms or None) if stamp is not None]
    if not known:
        return None
    # A change newer than the applied cut cannot be older than the moment that cut was captured, nor older than its
    # own statement: the later stamp is the tighter bound and both are true.
    return max(0.0, (now_ms - max(known)) / 1000)


def _phase(source: SourceFigures, target: TargetFigures) -> str:
    if source.error:
        return "unknown"
    if source.installed is False:
        return "planned"
    if target.error:
        return "unknown"
    progress = target.progress
    if progress is None or not progress.tables:
        return "planned"
    if progress.phase == "paused":
        return "paused"
    states = {table.state for table in progress.tables.values()}
    return "following" if states <= {TableState.FOLLOWING, TableState.GONE} else "copying"


def _tables(target: TargetFigures) -> dict[str, dict[str, Any]]:
    if target.progress is None:
        return {}
    result: dict[str, dict[str, Any]] = {}
    for name, table in sorted(target.progress.tables.items()):
        done, expected = target.copies.get(name, (None, None))
        result[name] = {
            "state": str(table.state),
            "generation": table.generation,
            "floor": target.progress.floor_of(name),
            "rows_copied": done,
            "rows_expected": expected or None,
            "quarantined": table.quarantined,
            "reason": table.reason,
        }
    return result


def _reasons(name: str, source: SourceFigures, target: TargetFigures, lag_changes: int | None) -> list[str]:
    reasons: list[str] = []
    if source.error:
        reasons.append(f"{name}: the source cannot be read ({source.error})")
    elif source.installed is False:
        reasons.append(f"{name}: not installed")
    if source.pending_drift:
        reasons.append(f"{name}: {DRIFTED}")
    for table, why in source.left_behind.items():
        reasons.append(f"{name}: table {table} stays behind ({why}); exclude_tables says that this is meant")
    if target.error:
        reasons.append(f"{name}: the target cannot be read ({target.error})")
    elif target.progress is None:
        reasons.append(f"{name}: nothing copied yet")
    else:
        open_tables = [
            table.table
            for table in target.progress.tables.values()
            if table.state not in (TableState.FOLLOWING, TableState.GONE)
        ]
        if open_tables:
            reasons.append(
                f"{name}: {len(open_tables)} tables are still being copied ({', '.join(sorted(open_tables)[:5])})"
            )
        if is_behind(target.progress):
            reasons.append(
                f"{name}: a replay is under way: the sink stands at {target.progress.applied} of {target.progress.highest}"
            )
        elif not target.progress.consistent:
            reasons.append(f"{name}: the target is not consistent yet")
    for column, why in target.not_restorable.items():
        reasons.append(
            f'{name}: column {name}.{column} cannot be restored exactly ({why}); restore = "waived" accepts it'
        )
    for column, why in target.not_as_ordered.items():
        table = column.partition(".")[0]
        reasons.append(
            f"{name}: column {name}.{column}: {why}; daemons take a new order at their start, and a table never becomes "
            f"narrower: drop it on the target and tailrace reset {name} --table {table}, or take the order back"
        )
    if target.unproven:
        reasons.append(f"{name}: {target.unproven} tables {UNPROVEN}")
    if lag_changes is None:
        reasons.append(f"{name}: the lag is unknown")
    if target.quarantined:
        reasons.append(f"{name}: {target.quarantined} rows in quarantine")
    elif target.quarantined is None and not target.error and target.progress is not None:
        reasons.append(f"{name}: quarantine is unknown")
    return reasons


def whole_status(sources: Sequence[SourceStatus], *, max_lag_changes: int = 10_000) -> dict[str, Any]:
    """The document that `status --json` prints."""
    reasons = [reason for one in sources for reason in one.reasons]
    for one in sources:
        if one.lag_changes is not None and one.lag_changes > max_lag_changes:
            reasons.append(f"{one.name}: {one.lag_changes} changes behind, more than {max_lag_changes}")
    return {
        "sources": {one.name: one.as_json() for one in sources},
        "growth": dict(UNKNOWN_SHARED),
        "can_cutover": not reasons,
        "blocking_reasons": reasons,
        "next_steps": _next_steps(sources, reasons),
    }


def _next_steps(sources: Sequence[SourceStatus], reasons: Sequence[str]) -> list[str]:
    if any(one.phase == "planned" for one in sources):
        return ["tailrace up"]
    if any(one.phase == "paused" for one in sources):
        return ["tailrace resume"]
    if any(one.quarantined for one in sources):
        return ["tailrace quarantine list"]
    if any(one.phase == "unknown" for one in sources):
        return ["tailrace check"]
    if reasons and all(reason.endswith(UNPROVEN) for reason in reasons):
        return ["tailrace verify"]
    if reasons:
        return ["tailrace lag --watch"]
    return ["tailrace verify"]
