"""Decide: what each gate says of what was read from both sides; pure.

Invariant: every figure may be None, which means that it could not be read, and blocks. What a human can look at and accept
may be waived by name; what says that rows are missing or that the way back does not work never may
(test_only_what_a_human_can_accept_is_waivable).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from cutover.gates import Gate, gate
from cutover.reports import RouterReports

NEVER_S = float("inf")
"""The age of what never was."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """What the configuration asks for."""

    lag_changes: int
    verify_age_s: float
    backup_age_s: float
    free_bytes: int
    final_keys: int = 5000
    """Changes that may be compared behind the fence."""
    instances: int = 0
    """Application instances that must report; 0: whoever reported lately must still do so."""
    alive_s: float = 30.0
    """Age of the last cut that the target applied: capture sends a sign of life every few seconds, also when idle."""
    instance_s: float = 15.0


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """One source, both sides of it."""

    lag_changes: int | None = None
    applied_age_s: float | None = None
    consistent: bool | None = None
    quarantined: int | None = None
    """Rows of the way there, waived ones included: a waived row is still not on the target."""
    back_quarantined: int | None = None
    """Rows of an earlier way back that this file could not take."""
    verify_age_s: float | None = None
    """Of the table whose last full and clean verification is oldest; NEVER_S: one has none."""
    unverified: int | None = None
    """Records since the mark of the last full and clean verification: compared before the claim, the rest behind the fence."""
    unmarked: str = ""
    """Why there is no such mark any more."""
    backup_age_s: float | None = None
    backup_fault: str = ""
    busy: str | None = None
    """Who keeps writers out; empty: a write lock was had at once."""
    free_bytes: int | None = None
    schema_stable: bool | None = None
    """The schema is the one that the triggers were made for."""
    unanalyzed: tuple[str, ...] | None = None
    objects: Mapping[str, str] | None = None
    """`source.name` -> what kind of object it is that the target has no counterpart of."""
    reasons: tuple[str, ...] = ()
    """What else status says is in the way."""


@dataclass(frozen=True, slots=True)
class TargetFacts:
    """The target and the application."""

    pooler: str | None = None
    """Why it is no connection of our own; empty: it is one."""
    sharing: tuple[str, ...] | None = None
    """Sessions that are not ours and logged in as the sink's role: no guard can tell them from the sink."""
    unproven: Mapping[str, str] | None = None
    """Table -> why its log triggers cannot be trusted."""
    stream_back: tuple[str, str] | None = None
    """(what keeps the stream from taking what the target will write, the next step); empty texts: nothing."""
    reports: RouterReports | None = None
    epoch: int = 0
    no_rollback: Mapping[str, str] = field(default_factory=dict)


def judged(sources: Mapping[str, SourceFacts], target: TargetFacts, bounds: Bounds) -> list[Gate]:
    """In the order in which they are printed."""
    gates: list[Gate] = []
    for name, facts in sources.items():
        gates += _of_source(name, facts, bounds)
    return [*gates, *_of_target(target), *_of_application(target, bounds)]


def _of_source(name: str, one: SourceFacts, bounds: Bounds) -> Iterator[Gate]:
    yield _at_most(f"lag {name}", one.lag_changes, bounds.lag_changes, "changes", "tailrace lag --watch")
    yield _at_most(f"alive {name}", one.applied_age_s, bounds.alive_s, "s", "tailrace health: do capture and sink run?")
    yield gate(
        f"consistent {name}",
        one.consistent,
        _said(one.consistent, "consistent", "not consistent"),
        "consistent",
        next_step="tailrace lag --watch",
    )
    yield _at_most(f"quarantine {name}", one.quarantined, 0, "rows", "tailrace quarantine list")
    yield _at_most(f"quarantine back {name}", one.back_quarantined, 0, "rows", "tailrace quarantine list")
    yield _at_most(f"verified {name}", one.verify_age_s, bounds.verify_age_s, "s ago", "tailrace verify")
    yield _final(name, one, bounds)
    yield _backup(name, one, bounds)
    yield gate(
        f"writers {name}",
        None if one.busy is None else not one.busy,
        "unknown" if one.busy is None else one.busy or "a write lock was had at once",
        "no long write transaction",
        next_step=f"end the transaction that holds the write lock of {name}",
    )
    yield _at_least(f"disk {name}", one.free_bytes, bounds.free_bytes, "bytes free", f"free space beside {name}")
    yield gate(
        f"schema {name}",
        one.schema_stable,
        _said(one.schema_stable, "as the triggers know it", "it moved, and capture has not looked at it yet"),
        "as the triggers know it",
        next_step="tailrace status: does capture run?",
    )
    missing = one.unanalyzed
    yield gate(
        f"analyze {name}",
        None if missing is None else not missing,
        "unknown" if missing is None else f"{len(missing)} tables without statistics {', '.join(missing[:3])}".strip(),
        "all tables analyzed",
        next_step="ANALYZE on the target",
        waivable=True,
    )
    if one.objects is None:
        yield gate(f"objects {name}", None, "unknown", "each has a counterpart", next_step="tailrace check")
    for mark, kind in (one.objects or {}).items():
        yield gate(
            f"object:{mark}",
            False,
            f"{kind} without a counterpart on the target: it would vanish at the switch",
            "there, or waived by name",
            next_step=f"make it on the target, or --waive object:{mark}",
            waivable=True,
        )
    for reason in one.reasons:
        yield gate(f"status {name}", False, reason, "nothing that blocks", next_step="tailrace status")


def _final(name: str, one: SourceFacts, bounds: Bounds) -> Gate:
    """Any number is compared, only not while writers wait: what is too much for that is compared before the claim."""
    count = one.unverified
    told = one.unmarked or _figure(count, "changes since the last clean verification")
    over = "" if count is None or count <= bounds.final_keys else ", most of them before the claim"
    good = False if one.unmarked else None if count is None else True
    threshold = f"can be compared: {bounds.final_keys} at most while nobody can write"
    return gate(f"final verify {name}", good, f"{told}{over}", threshold, next_step="tailrace verify")


def _backup(name: str, one: SourceFacts, bounds: Bounds) -> Gate:
    age_s = one.backup_age_s
    return gate(
        f"backup {name}",
        None if age_s is None else age_s <= bounds.backup_age_s and not one.backup_fault,
        one.backup_fault or _figure(age_s, "s old"),
        f"verified, <= {bounds.backup_age_s:.0f} s old",
        next_step=f"tailrace checkpoint --backup-source, or --waive 'backup {name}'",
        waivable=age_s is not None,
    )


def _of_target(target: TargetFacts) -> Iterator[Gate]:
    pooler = target.pooler
    yield gate(
        "target connection",
        None if pooler is None else not pooler,
        "unknown" if pooler is None else pooler or "its own",
        "no pooler between",
        next_step="point target_database_url at PostgreSQL itself",
    )
    sharing = target.sharing
    yield gate(
        "target role",
        None if sharing is None else not sharing,
        "unknown" if sharing is None else f"{len(sharing)} other sessions of our role {', '.join(sharing[:3])}".strip(),
        "Tailrace alone logs in as it",
        next_step="give the application a role of its own, or --waive 'target role' when it is no application",
        waivable=sharing is not None,
    )
    wrong = target.unproven
    first = next((f", among them {table}: {why}" for table, why in (wrong or {}).items()), "")
    yield gate(
        "way back",
        None if wrong is None else not wrong,
        "unknown" if wrong is None else f"{len(wrong)} tables without a proof{first}",
        "a row of each table was changed, deleted, made again, and logged",
        next_step="tailrace cutover makes the log triggers anew",
    )
    fault = target.stream_back
    yield gate(
        "way back stream",
        None if fault is None else not fault[0],
        "unknown" if fault is None else fault[0] or "it takes what the target writes",
        "reachable, its topics as they must be",
        next_step=fault[1] if fault else "tailrace check",
    )
    for what, why in target.no_rollback.items():
        yield gate(f"no rollback {what}", False, why, "carried back", next_step="tailrace rollback --status")


def _of_application(target: TargetFacts, bounds: Bounds) -> Iterator[Gate]:
    """Whoever is late would go on writing to the closed side: refused there, but its users would see it."""
    reports = target.reports
    step = "look at this instance, or --waive instances when it is gone for good"
    if reports is None or reports.unreadable:
        what = ", ".join(reports.unreadable) if reports else "the reports"
        yield gate("instances", None, f"cannot be read: {what}", "all report", next_step="tailrace status")
        return
    alive = reports.alive(within_s=bounds.instance_s)
    faults = [f"{name} is silent for {one.age_s:.0f} s" for name, one in reports.instances.items() if name not in alive]
    for name, one in alive.items():
        if one.stale:
            faults.append(f"{name} cannot reach the route")
        elif one.epoch < target.epoch:
            faults.append(f"{name} follows epoch {one.epoch}, not {target.epoch}")
    if len(alive) < bounds.instances:
        faults.append(f"{len(alive)} of {bounds.instances} instances report")
    asked = str(bounds.instances or "whoever did so lately")
    yield gate(
        "instances",
        not faults,
        "; ".join(faults) or f"{len(alive)} report",
        f"reporting: {asked}",
        next_step=step,
        waivable=True,
    )


def _at_most(name: str, value: float | None, bound: float, unit: str, step: str) -> Gate:
    return gate(
        name, None if value is None else value <= bound, _figure(value, unit), f"<= {bound:.0f} {unit}", next_step=step
    )


def _at_least(name: str, value: float | None, bound: float, unit: str, step: str) -> Gate:
    return gate(
        name, None if value is None else value >= bound, _figure(value, unit), f">= {bound:.0f} {unit}", next_step=step
    )


def _figure(value: float | None, unit: str) -> str:
    return "unknown" if value is None else "never" if value == NEVER_S else f"{value:.0f} {unit}"


def _said(value: bool | None, yes: str, no: str) -> str:
    return "unknown" if value is None else yes if value else no
