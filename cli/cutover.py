"""Do: the verb cutover: gates, and the switch by one compare-and-set after the other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import click

from adapters.postgres import Postgres
from capture.postgres_triggers import LABEL
from cli.after_open import AfterOpen, after_open
from cli.checkpoint import checkpoint_before_cutover
from cli.cutover_gates import all_gates
from cli.cutover_wiring import actor, authority_of, carried_by, fence_of, switch_of
from cli.final import final_of
from cli.hooks import hooks_of
from cli.options import as_json, config_of, dry_run, emit
from cli.wiring import open_source, telemetry
from cutover.authority import AuthorityRow
from cutover.behind import refuse_behind
from cutover.final import FinalVerify
from cutover.gates import Gate, refuse_closed, waive
from cutover.prepare import prepare_source, prepare_target, take_up
from cutover.source_fence import SourceFence
from cutover.switch import Outcome
from ops.clock import SystemClock
from ops.config import Config
from ops.loop import Signals
from ops.points import reach
from ops.telemetry import Telemetry
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal, Superseded, TailraceError, Unknown

STEPS = (
    "compare what changed since the last clean verification, until at most {keys} changes are left",
    "keep where the streams stand, as a checkpoint",
    "claim the migration: (source, {token}) -> (to_target, {next})",
    "fence {sources} in one transaction; their logs' heads are the cutoff",
    "drain: the sink applies everything up to the cutoff (at most {drain:g} s)",
    "compare the rest of the changes (at most {seconds:g} s)",
    "look at the fences again, open the target, store where the way back begins: one transaction",
    "capture the target, so that a rollback loses nothing (window: {days} days)",
)


def gate_lines(gates: Sequence[Gate]) -> list[str]:
    """The table of gates, a line each, red ones with their next step."""
    lines = [f"  {one.verdict:8} {one.name:24} {one.value} (must be {one.threshold})" for one in gates]
    return lines + [f"  next: {one.next_step}" for one in gates if not one.open]


def prepare(config: Config, session: Postgres) -> None:
    """The way back stands before anything is closed. Idempotent."""
    prepare_target(session)
    before = AuthorityRow(session, actor=actor()).read()
    label = int(session.rows(LABEL)[0][1])
    for name in config.source_databases:
        db = open_source(config, name)
        try:
            prepare_source(db)
            if before.authority is Authority.SOURCE:  # its restore may have died before it did so
                take_up(db, before.token, label)
        finally:
            db.close()


_WAIVED = (
    "SELECT DISTINCT jsonb_array_elements_text(detail->'names') FROM tailrace.journal WHERE verb = 'waive' ORDER BY 1"
)


def _waivers(session: Postgres, row: AuthorityRow, before: Migration, named: Sequence[str], *, keep: bool) -> list[str]:
    """What was named now, and the objects that were accepted once. An object is gone for good and stays accepted, every
    other waiver is for one attempt."""
    kept = [str(name) for (name,) in session.rows(_WAIVED)]
    fresh = [name for name in named if name.startswith("object:") and name not in kept]
    if fresh and keep:
        row.note(before.token, before.authority, before.authority, verb="waive", detail={"names": fresh})
    return [*kept, *named]


def _judged(
    config: Config, session: Postgres, row: AuthorityRow, before: Migration, named: Sequence[str], *, proven: bool
) -> list[Gate]:
    gates = all_gates(config, session, before, proven=proven)
    waived = waive(gates, named)  # a name that is none is refused before anything of it is kept
    names = _waivers(session, row, before, named, keep=proven)
    there = {one.name for one in gates}
    return waive(waived, [name for name in names if name in there])


@click.command("cutover")
@click.option("--practise", is_flag=True, help="Fence and lift at once, and say how long the pause was.")
@click.option("--waive", "waived", multiple=True, help="A red gate that is known and accepted, by its name.")
@as_json
@dry_run
@click.pass_context
def cutover_command(
    ctx: click.Context, practise: bool, waived: tuple[str, ...], json_output: bool, dry_run: bool
) -> None:
    """Switch writes to PostgreSQL: all sources at once, after every gate, with a way back that loses nothing."""
    config = config_of(ctx)
    events = telemetry(config, "cutover", terminal=False)
    with ExitStack() as held:
        session, row = held.enter_context(authority_of(config))
        _refuse_phase(row.read())
        seen = carried_by(config)
        before = row.read()
        refuse_behind(before, seen)
        if not dry_run:
            prepare(config, session)
        judged_s = SystemClock().monotonic_s()
        gates = _judged(config, session, row, before, waived, proven=not dry_run)
        for line in ["gates", *gate_lines(gates)]:
            click.echo(line, err=json_output)
        if dry_run:
            document: dict[str, Any] = {"gates": [_as_json(one) for one in gates], "steps": _steps(config, before)}
            emit(document, ["steps", *(f"  {step}" for step in document["steps"])], json_output=json_output)
            ctx.exit(0 if all(one.open for one in gates) else 3)
        if not practise:
            refuse_closed(gates)

        def judge_again() -> None:
            """What was judged longer ago than a lease lasts may not hold any more: a checkpoint or a hook took its time, or
            this process was stopped. Whatever changes behind this look is met by the claim, the drain and the final
            verification (test_gates_are_judged_again_after_a_long_stop)."""
            if not practise and SystemClock().monotonic_s() - judged_s > config.cutover.lease_s:
                refuse_closed(_judged(config, session, row, before, waived, proven=True))

        outcome = _switched(config, held, session, row, before, events, judge_again, practise=practise)
        parts = ", ".join(f"{name} {seconds * 1000:.0f} ms" for name, seconds in outcome.parts_s.items())
        verb = "practised: nothing moved" if practise else f"writes belong to PostgreSQL (token {outcome.token})"
        # Said at once: what follows takes seconds, and whoever interrupts it must know where writes are.
        click.echo(f"{verb}; nobody could write for {outcome.pause_s * 1000:.0f} ms ({parts})", err=json_output)
        after = AfterOpen() if practise else after_open(config, session, row, outcome.token, events)
    lines = (
        [] if practise else [f"tailrace rollback --reason R brings them back within {_days(config)}", *after.lines()]
    )
    document = {
        "token": outcome.token,
        "authority": str(Authority.SOURCE if practise else Authority.TARGET),
        "pause_s": outcome.pause_s,
        "parts_s": outcome.parts_s,
        "cutoff": outcome.cutoff,
        "way_back_s": after.tail.arrived_s,
        "tail": after.tail.as_json(),
        "not_validated": after.not_validated,
        "failed_after_open": after.failed,
    }
    emit(document, lines, json_output=json_output)
    ctx.exit(after.exit_code)


def _switched(
    config: Config,
    held: ExitStack,
    session: Postgres,
    row: AuthorityRow,
    before: Migration,
    events: Telemetry,
    judge_again: Callable[[], None],
    *,
    practise: bool,
) -> Outcome:
    """The switch itself, with what comes before its claim; or the practice of its fence."""
    hooks = hooks_of(config, events)
    final: FinalVerify | None = None
    if not practise:
        final = held.enter_context(final_of(config, events.say))
        _refuse_too_many(config, final.catch_up())
        kept = checkpoint_before_cutover(config, session, before)
        events.event("checkpoint.made", f"{kept.name}: {kept.why}")
        hooks.run("before_fence", token=before.token)
    fence: SourceFence = fence_of(config)
    held.callback(fence.close)
    switch = switch_of(config, session, row, fence, events.say, final=final, hooks=hooks)
    reach("cutover.judged")
    try:
        judge_again()
        with Signals().deferred(say_waiting):
            outcome = switch.run(before, practise=practise)
    except (Superseded, Unknown):
        raise  # it is somebody else's now, or nobody can say yet
    except TailraceError as error:
        if not practise:
            hooks.run("failed", token=before.token, reason=f"[{error.code}] {error.message}")
        raise
    if not practise:
        hooks.run("after_open", token=outcome.token)
    return outcome


def _refuse_too_many(config: Config, left: Mapping[str, int]) -> None:
    """Writers change more between two looks than may be compared while they wait."""
    bound = config.cutover.final_verify_keys
    if sum(left.values()) > bound:
        told = ", ".join(f"{source} {count}" for source, count in sorted(left.items()))
        raise Refusal(
            Code.GATE_BLOCKED,
            f"final verify: {told} changes came while the last were compared, {bound} may wait for the fence",
            hint="tailrace cutover at a quieter time, or raise cutover.final_verify_keys: the pause grows with it",
        )


def say_waiting() -> None:
    """A signal came while both sides may be closed (test_a_signal_between_fence_and_open_is_deferred)."""
    click.echo(
        "writes are on their way: this ends by itself in a moment. Interrupt again to leave it to the steward", err=True
    )


def _refuse_phase(before: Migration) -> None:
    if before.authority is Authority.SOURCE:
        return
    legal = {Authority.COMPLETED: "verify", Authority.TARGET: "rollback, complete, verify"}
    raise Refusal(
        Code.VERB_ILLEGAL,
        f"cutover: writes belong to {before.authority} already",
        position=before.token,
        hint=f"legal now: {legal.get(before.authority, 'rollback')}",
    )


def _steps(config: Config, before: Migration) -> list[str]:
    values = {
        "token": before.token,
        "next": before.token + 1,
        "sources": ", ".join(sorted(config.source_databases)),
        "drain": config.cutover.drain_budget_s,
        "keys": config.cutover.final_verify_keys,
        "seconds": config.cutover.final_verify_s,
        "days": config.cutover.rollback_window_days,
    }
    return [step.format(**values) for step in STEPS]


def _as_json(one: Gate) -> dict[str, str]:
    return {
        "gate": one.name,
        "verdict": one.verdict,
        "value": one.value,
        "threshold": one.threshold,
        "next_step": one.next_step,
    }


def _days(config: Config) -> str:
    return f"{config.cutover.rollback_window_days} days"
