"""Do: the verb rollback: the way back without a loss, or to a checkpoint with one that was said and confirmed."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import click

from cli.beside import virtual_tables
from cli.content import report_lines, verify_source
from cli.cutover import say_waiting
from cli.cutover_wiring import BackLook, authority_of, fence_of, rollback_of
from cli.hooks import hooks_of
from cli.options import as_json, config_of, dry_run, emit
from cli.restore import RollbackTo
from cli.restore_loss import NotConfirmed
from cli.rollback_status import rollback_lines, rollback_status
from cli.wiring import telemetry
from cutover.rollback import Returned
from ops.config import Config
from ops.loop import Signals
from ops.telemetry import Telemetry
from schemas.authority import Authority
from schemas.errors import Code, Refusal


@click.command("rollback")
@click.option("--reason", default="", help="Why; kept in the journal.")
@click.option("--status", "only_status", is_flag=True, help="Say what a rollback would do and lose now.")
@click.option("--verify", "and_verify", is_flag=True, help="Compare every row of both sides when writers are back.")
@click.option(
    "--accept-lost", is_flag=True, help="The server lost its last moves: go on at the SQLite files as they are."
)
@click.option(
    "--to", "checkpoint", default="", metavar="CHECKPOINT", help="Put the files back: what came since is lost."
)
@click.option(
    "--yes", "confirmed", default="", metavar="CHECKPOINT", help="With --to: its name again, the loss is accepted."
)
@click.option("--again", is_flag=True, help="With --to: though the last move put the files back to it already.")
@click.option("--no-backup", is_flag=True, help="With --to: keep nothing of what is thrown away.")
@click.option("--give-up", is_flag=True, help="Take a --to that no file was put back by for none.")
@as_json
@dry_run
@click.pass_context
def rollback_command(
    ctx: click.Context,
    reason: str,
    only_status: bool,
    and_verify: bool,
    accept_lost: bool,
    checkpoint: str,
    confirmed: str,
    again: bool,
    no_backup: bool,
    give_up: bool,
    json_output: bool,
    dry_run: bool,
) -> None:
    """Bring writes back to the SQLite files, in any phase, without losing one; finishes what a dead switch left. With --to,
    the files are those of a checkpoint again, and what came since is lost."""
    config = config_of(ctx)
    events = telemetry(config, "rollback", terminal=False)
    to = bool(checkpoint or give_up)
    if to and (only_status or and_verify or accept_lost or bool(checkpoint) == give_up):
        raise Refusal(Code.USAGE, "--to and --give-up stand alone", hint="tailrace verify, once capture runs again")
    if not to and (confirmed or again or no_backup):
        raise Refusal(Code.USAGE, "--yes, --again and --no-backup belong to --to", hint="tailrace rollback --help")
    if not reason and not only_status and not dry_run:
        raise Refusal(Code.USAGE, "a rollback has a reason", hint='tailrace rollback --reason "what happened"')
    if to:
        keep = not no_backup
        with authority_of(config) as (session, row):
            one = RollbackTo(
                config, session, row, events, checkpoint, reason=reason, confirmed=confirmed, again=again, keep=keep
            )
            _back_to(one, config, events, reason, give_up=give_up, dry_run=dry_run, json_output=json_output)
        return
    document, lines = _without_loss(config, events, reason, look_only=only_status or dry_run, accept_lost=accept_lost)
    reports = {name: verify_source(config, name) for name in config.source_databases} if and_verify else {}
    if reports:
        document["clean"] = all(report.clean for report in reports.values())
        document["sources"] = {name: report.as_json() for name, report in reports.items()}
    for name, report in reports.items():
        lines += [f"{name}: {line.strip()}" for line in report_lines(report)]
    emit(document, lines, json_output=json_output)
    if not document.get("clean", True):
        ctx.exit(4)


def _back_to(
    one: RollbackTo,
    config: Config,
    events: Telemetry,
    reason: str,
    *,
    give_up: bool,
    dry_run: bool,
    json_output: bool,
) -> None:
    try:
        document, lines = one.give_up() if give_up else one.run(dry_run=dry_run)
    except NotConfirmed as refusal:
        document, lines = refusal.told
        emit(document, lines, json_output=json_output)
        raise
    emit(document, lines, json_output=json_output)
    if "was" in document:
        hooks_of(config, events).run("after_rollback", token=document["token"], reason=reason)


def _without_loss(
    config: Config, events: Telemetry, reason: str, *, look_only: bool, accept_lost: bool
) -> tuple[dict[str, Any], list[str]]:
    with ExitStack() as held:
        session, row = held.enter_context(authority_of(config))
        before = row.read()
        look = BackLook(config)
        held.callback(look.close)
        if look_only:
            document = rollback_status(before, look(), row.window())
            return document, rollback_lines(document)
        fence = fence_of(config)
        held.callback(fence.close)
        with Signals().deferred(say_waiting):
            rollback = rollback_of(config, session, row, fence, look, events.say)
            returned = rollback.accept_lost(reason=reason) if accept_lost else rollback.run(reason=reason)
        if returned.was is not Authority.SOURCE:
            hooks_of(config, events).run("after_rollback", token=returned.token, reason=reason)
    return _said(config, events, returned, accept_lost=accept_lost)


def _said(
    config: Config, events: Telemetry, returned: Returned, *, accept_lost: bool
) -> tuple[dict[str, Any], list[str]]:
    lifted = ", ".join(returned.lifted) or "none was fenced"
    lines = [f"writes belong to the SQLite files again (were: {returned.was}); lifted: {lifted}"]
    beside: dict[str, str] = {}
    if accept_lost:
        lines.append("what was written on a lost server and did not come back is lost: tailrace verify, then repair")
    elif returned.was in (Authority.TARGET, Authority.TO_SOURCE):
        lines.append(f"nobody could write for {returned.pause_s * 1000:.0f} ms; everything written there came along")
        beside = dict(virtual_tables(config))
        for what, step in beside.items():
            events.event("rollback.beside", f"{what}: {step}", level="warning", log="rollback.log")
        lines += [f"{what}: {step}" for what, step in beside.items()]
    document = {
        "token": returned.token,
        "was": returned.was,
        "pause_s": returned.pause_s,
        "lifted": returned.lifted,
        "beside": beside,
    }
    return document, lines
