"""Do: the verb complete: the rollback window ends, the target stops logging for the sources, which stay as archives.

Invariant: no way leads back from here, so it asks for its name; and it holds up neither readers nor writers of the target
(test_complete_waits_for_no_reader). What a reader kept it from dropping rests, and is dropped by whoever comes next
(`drop_left_over`, also from uninstall).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click

from adapters.postgres import Postgres
from capture.postgres_triggers import removed, resting
from cli.cutover_wiring import authority_of, carried_by, publisher_of
from cli.hooks import hooks_of
from cli.migration import window_document, window_line
from cli.options import as_json, config_of, dry_run, emit
from cli.wiring import telemetry
from cutover.authority import AuthorityRow
from cutover.behind import refuse_behind
from cutover.prepare import plans_of
from cutover.target_guard import GUARDS, LOCK_TIMEOUT_MS
from ops.clock import SystemClock
from ops.config import Config
from ops.points import reach
from schemas.authority import Authority, Migration, Window
from schemas.ddl import full_name
from schemas.errors import Code, Refusal, Transient

COMPLETE_BUDGET_S = 20.0
_FIRST = {
    Authority.SOURCE: ("writes belong to the SQLite files", "tailrace cutover first"),
    Authority.TO_TARGET: ("a switch is under way", "wait for it, or tailrace rollback --reason R takes it back"),
    Authority.TO_SOURCE: ("a rollback is under way", "tailrace rollback --reason R finishes it"),
    Authority.COMPLETED: ("it is completed already", "tailrace uninstall --yes takes what is left of Tailrace away"),
}


@click.command("complete")
@click.option("--yes", "confirmed", default="", help="The word COMPLETE: the way back ends here.")
@as_json
@dry_run
@click.pass_context
def complete_command(ctx: click.Context, confirmed: str, json_output: bool, dry_run: bool) -> None:
    """End the rollback window: the sources stay fenced as archives, and the target stops logging for them."""
    config = config_of(ctx)
    with authority_of(config) as (session, row):
        row.read()  # nothing began: said before the sources are asked
        seen = carried_by(config)
        before, window = row.read(), row.window()
        refuse_behind(before, seen)
        if before.authority is not Authority.TARGET:
            why, step = _FIRST[before.authority]
            raise Refusal(Code.VERB_ILLEGAL, f"complete: {why}", position=before.token, hint=step)
        if dry_run:
            steps = _steps(config, before, len(plans_of(session)))
            document: dict[str, Any] = {"would": "complete", "window": window_document(window), "steps": steps}
            emit(document, [*_given_up(window, before.no_rollback), *steps], json_output=json_output)
            return
        if confirmed != "COMPLETE":
            raise Refusal(Code.USAGE, "complete ends the way back for good", hint="add --yes COMPLETE")
        events = telemetry(config, "complete", terminal=False)
        token = complete(session, row, before)
        reach("complete.moved")
        events.event("migration.completed", f"token {token}: there is no way back any more")
        publisher_of(config, session, events.say).publish()
        hooks_of(config, events).run("completed", token=token)
        left = drop_left_over(session)
    archives = {name: str(config.source_path(name)) for name in config.source_databases}
    lines = [
        "completed: PostgreSQL is the database",
        *(f"{name}: {path} stays fenced, an archive: nothing that is written from now on comes to it"
          for name, path in archives.items()),
        *(f"{table} is read all the time: its triggers rest, and were not dropped" for table in left),
        "next: stop capture, sink and snapshot, then tailrace uninstall --yes",
    ]  # fmt: skip
    emit({"token": token, "resting": left, "archives": archives}, lines, json_output=json_output)


def complete(session: Postgres, row: AuthorityRow, before: Migration) -> int:
    """The log triggers rest: unlike DROP TRIGGER that waits for no reader, and lets no writer wait behind one
    (test_complete_waits_for_no_reader). Writers go on meanwhile, and lock tables in another order: a deadlock that takes
    this transaction back, all of it, is no end (test_there_and_back_twice_and_there_for_good)."""
    clock = SystemClock()
    deadline_s = clock.monotonic_s() + COMPLETE_BUDGET_S
    while True:
        try:
            with session.transaction():
                session.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                token = row.move(before, Authority.COMPLETED, verb="complete")
                for plan in plans_of(session):
                    for statement in resting(plan):
                        session.run(statement)
                reach("complete.moving")
            return token
        except Transient:
            if clock.monotonic_s() >= deadline_s:
                raise
            clock.sleep(0.05)


def drop_left_over(session: Postgres) -> list[str]:
    """Log triggers and guards go: a guard that only rests would be woken by `ENABLE TRIGGER ALL`, as tools that restore a
    dump run it, and refuse every write. Returns the tables that were read all the while: what rests there does nothing."""
    left = []
    for plan in plans_of(session):
        guards = [f"DROP TRIGGER IF EXISTS {name} ON {full_name(plan)}" for name in GUARDS]
        try:
            with session.transaction():
                session.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                for statement in [*guards, *removed(plan)]:
                    session.run(statement)
        except Transient:
            left.append(full_name(plan))
    return left


def _given_up(window: Window | None, lost: Mapping[str, str]) -> list[str]:
    """What an operator should know who is about to end it."""
    document = window_document(window)
    lines = [window_line(document)] if document else []
    return lines + [f"a rollback would already lose {what}: {why}" for what, why in lost.items()]


def _steps(config: Config, before: Migration, tables: int) -> list[str]:
    names = ", ".join(sorted(config.source_databases))
    return [
        f"move the migration: (target, {before.token}) -> (completed, {before.token + 1}); no verb leads back from there",
        f"the log triggers of {tables} tables rest in the same transaction, then they and the guards are dropped",
        f"{names} stay fenced, as archives",
    ]
