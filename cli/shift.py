"""Do: the verb shift: how many of the reads go to PostgreSQL while writes still belong to SQLite.

Invariant: a share rises only where status blocks nothing, the last look found nothing failing, and somebody looks: the
watch in the capture daemon, which also steps `shift auto` on, so that the end of this terminal changes nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from adapters.postgres import Postgres
from cli.cutover_wiring import actor, publisher_of
from cli.look import Looker
from cli.options import as_json, config_of, dry_run, emit
from cli.shift_wiring import rules_of, unjudged_now
from cli.wiring import open_target, telemetry
from cutover.authority import AuthorityRow
from cutover.shift import RUNNING, ShiftRules, ShiftState, Stage, next_share, share_of
from cutover.shift_row import ShiftRow, Told
from cutover.watch import watches
from ops.clock import SystemClock
from ops.config import Config
from schemas.authority import BUCKETS, Authority, Migration
from schemas.errors import Code, ConfigError, Refusal

LOOK_S = 0.5


@click.command("shift")
@click.argument("to", required=False, metavar="[PERCENT | auto | back]")
@click.option("--status", "only_status", is_flag=True, help="Say where the share stands and what the last look found.")
@click.option("--detach", is_flag=True, help="With auto: do not wait for the end; the capture daemon steps on anyway.")
@as_json
@dry_run
@click.pass_context
def shift_command(
    ctx: click.Context, to: str | None, only_status: bool, detach: bool, json_output: bool, dry_run: bool
) -> None:
    """Read by percentage: sticky by key, watched, and back to 0 at once when a step fails."""
    config = config_of(ctx)
    session = open_target(config, "shift")
    try:
        row = AuthorityRow(session, actor=actor())
        shift = ShiftRow(session, row)
        if to is None or only_status:
            before, told = row.read(), shift.read()
            emit(status_document(config, before, told), status_lines(config, before, told), json_output=json_output)
            return
        before, told = row.read(), shift.read()
        share, stage = _wanted(to, before.read_share, rules_of(config))
        if before.authority is not Authority.SOURCE:
            raise Refusal(
                Code.VERB_ILLEGAL,
                f"shift: reads follow the writes, which belong to {before.authority}",
                position=before.token,
                hint="legal now: status, rollback",
            )
        reasons = _blocking(config, told) if share > before.read_share or stage in RUNNING else {}
        if dry_run:
            _would(before, share, stage, reasons, json_output=json_output)
            ctx.exit(3 if reasons else 0)
        if reasons:
            raise Refusal(Code.GATE_BLOCKED, "; ".join(reasons), hint="; ".join(dict.fromkeys(reasons.values())))
        if stage in RUNNING and (few := unjudged_now(config)):
            click.echo(f"warning: {few}", err=True)
        _set(config, session, shift, before, told.state, share, stage, to)
        if stage in RUNNING and not detach:
            ctx.exit(_wait(row, shift, json_output=json_output))
        before, told = row.read(), shift.read()
        emit(status_document(config, before, told), status_lines(config, before, told), json_output=json_output)
    finally:
        session.close()


def _wanted(to: str, share: int, rules: ShiftRules) -> tuple[int, Stage]:
    """What was asked for. Raises ConfigError(USAGE)."""
    if to == "back":
        return 0, Stage.IDLE
    if to == "auto":
        # What an operator had set was never judged: it bakes first.
        return share or next_share(rules, 0) or BUCKETS, Stage.BAKING
    try:
        percent = float(to.rstrip("%"))
    except ValueError:
        percent = -1.0
    if not 0 <= percent <= 100:
        raise ConfigError(Code.USAGE, f"{to!r} is no share of reads", hint="tailrace shift 25, shift auto, shift back")
    return share_of(percent), Stage.HELD if percent else Stage.IDLE


def _blocking(config: Config, told: Told) -> dict[str, str]:
    """Reason -> next step; empty: the share may rise."""
    looker = Looker(config, list(config.source_databases))
    try:
        document = looker.look()
    finally:
        looker.close()
    reasons = dict.fromkeys(document["blocking_reasons"], (document["next_steps"] or ["tailrace status"])[0])
    if "shift" not in document.get("legal_verbs", []):
        legal = ", ".join(document.get("legal_verbs", ["up"]))
        reasons[f"the migration is {document['phase'] or 'unknown'}; legal now: {legal}"] = "tailrace status"
    if not watches(told.health_age_s, config.health.interval_s):
        age = "ever" if told.health_age_s is None else f"for {told.health_age_s:.0f} s"
        reasons[f"nobody has looked at the application's health {age}"] = "start tailrace capture of all sources"
    elif told.health is not None:
        for one in told.health["checks"]:
            if one["outcome"] == "failed":
                reasons[f"health, {one['check']}: {one['told']}"] = "tailrace shift --status"
    return reasons


def _set(
    config: Config,
    session: Postgres,
    shift: ShiftRow,
    before: Migration,
    state: ShiftState,
    share: int,
    stage: Stage,
    to: str,
) -> None:
    events = telemetry(config, "shift", terminal=False)
    after = replace(state, stage=stage, since_ms=SystemClock().now_ms(), reason=f"asked for by shift {to}")
    shift.share(before, state, after, share, verb="shift", reason=after.reason)
    # The steward would publish it within half a second; an operator who brings reads back means now.
    routes = publisher_of(config, session, events.say)
    try:
        routes.publish()
    finally:
        routes.close()
    events.event("shift.set", f"{share / 100:g} % of the reads go to the target ({stage}); {after.reason}")


def _would(before: Migration, share: int, stage: Stage, reasons: dict[str, str], *, json_output: bool) -> None:
    lines = [f"would move the share of reads from {before.read_share / 100:g} % to {share / 100:g} % ({stage})"]
    lines += [f"refused: {reason} (next: {step})" for reason, step in reasons.items()]
    document = {"from": before.read_share / BUCKETS, "to": share / BUCKETS, "stage": stage, "reasons": list(reasons)}
    emit(document, lines, json_output=json_output)


def _wait(row: AuthorityRow, shift: ShiftRow, *, json_output: bool) -> int:
    """Print each change until the steps are over; the exit code. To interrupt this ends nothing."""
    said = ""
    while True:
        before, told = row.read(), shift.read()
        state = told.state
        line = f"{before.read_share / 100:g} %: {state.stage}, {state.reason}"
        if line != said:
            said = line
            click.echo(line, err=json_output)
        if before.authority is not Authority.SOURCE or state.token != before.token or state.stage not in RUNNING:
            break
        SystemClock().sleep(LOOK_S)
    emit(
        {"read_share": before.read_share / BUCKETS, "stage": state.stage, "reason": state.reason},
        [],
        json_output=json_output,
    )
    return {Stage.DONE: 0, Stage.BROUGHT_BACK: 5}.get(state.stage, 3)


def status_document(config: Config, before: Migration, told: Told) -> dict[str, Any]:
    """What `shift --status --json` prints; also the part of status."""
    return {
        "authority": before.authority,
        "token": before.token,
        "read_share": before.read_share / BUCKETS,
        "stage": told.state.stage,
        "running": told.state.stage in RUNNING and told.state.token == before.token,
        "reason": told.state.reason,
        "increments": config.shift.increments,
        "health": told.health,
        "health_age_seconds": told.health_age_s,
        "watched": watches(told.health_age_s, config.health.interval_s),
    }


def status_lines(config: Config, before: Migration, told: Told) -> list[str]:
    share = f"{before.read_share / 100:g} % of the reads go to the target"
    lines = [f"{share}; {told.state.stage}{f': {told.state.reason}' if told.state.reason else ''}"]
    if told.state.stage in RUNNING and told.health is not None:
        lines.append(f"step: {told.health['step']['verdict']}, {told.health['step']['reason']}")
    if told.health is None or told.health_age_s is None:
        return [*lines, "health: unknown, nobody has looked yet"]
    stale = "" if watches(told.health_age_s, config.health.interval_s) else ": STALE, nobody looks any more"
    lines.append(f"health: {told.health['outcome']}, {told.health_age_s:.0f} s ago{stale}")
    return lines + [f"  {one['outcome']:12} {one['check']:14} {one['told']}" for one in told.health["checks"]]
