"""Do: the verb up: backup, install, then capture, snapshot and sink as supervised children, with a live view.

Order, and why: check before anything changes; backup before the first change to a source; triggers before the copy, so
that no change falls between; the sink before the copy can begin, since it holds a table before its floor is read.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from cli.backup import backup_source
from cli.beginning import children, install_source, prepare_target, refuse_bad, start_embedded
from cli.content import report_lines, verify_source
from cli.look import Looker
from cli.options import as_json, config_of, emit
from cli.render import lag_line, status_panel
from cli.wiring import TARGET_URL_FILE, telemetry, up_lock
from ops.config import Config
from ops.supervise import Supervisor
from ops.telemetry import NewErrors, Telemetry
from schemas.errors import Code, Failed, Refusal
from verify.report import Report

LOOK_S = 0.25
PLAIN_S = 2.0
UNCHANGED_S = 30.0
"""A line that says the same as the one before is repeated this rarely."""


@click.command("up")
@click.option("--until", type=click.Choice(["caught-up"]), default=None, help="Exit 0 once everything is settled.")
@click.option("--verify", is_flag=True, help="With --until: compare every row before the end; exit 4 at a difference.")
@click.option("--embedded", is_flag=True, help="Use a throw-away PostgreSQL in the run folder (trials only).")
@click.option("--no-backup", is_flag=True, help="Skip the backup of the sources; recorded in the log.")
@click.option("--keep-journal-mode", is_flag=True, help="Do not switch the sources to WAL.")
@click.option("--dry-run", is_flag=True, help="Check and say what would be done.")
@click.option("--plain", is_flag=True, help="Lines instead of the live view.")
@click.option("--timeout", "timeout_s", type=float, default=None, help="Seconds until --until gives up with exit 1.")
@as_json
@click.pass_context
def up_command(
    ctx: click.Context,
    until: str | None,
    verify: bool,
    embedded: bool,
    no_backup: bool,
    keep_journal_mode: bool,
    dry_run: bool,
    plain: bool,
    timeout_s: float | None,
    json_output: bool,
) -> None:
    """Install, copy, capture and apply, in one supervised run with a live view.

    With --json the status at the end is the one thing on stdout; everything said on the way goes to stderr.
    """
    config = config_of(ctx)
    if verify and until is None:
        raise Refusal(Code.USAGE, "--verify compares at the end of --until", hint="add --until caught-up")
    events = telemetry(config, "up", terminal=False)
    lock = up_lock(config)
    if embedded or not dry_run:
        lock.take()
    server = None
    try:
        if embedded:
            server = start_embedded(config)
        refuse_bad(config)
        if dry_run:
            _say_plan(config, backup=not no_backup, json_output=json_output)
            return
        prepare_target(config)
        if no_backup:
            events.event("backup.skipped", "the operator asked for no backup", level="warning")
        else:
            for name in config.source_databases:
                click.echo(backup_source(config, name, events).line, err=json_output)
        for name in config.source_databases:
            click.echo(install_source(config, name, wal=not keep_journal_mode), err=json_output)
        console = Console(stderr=json_output)
        reports: list[Report] = []
        at_end = (lambda: reports.extend(_verify(config))) if verify else None
        document = _supervise(
            ctx.obj, config, events, console, until=until, at_end=at_end, plain=plain, timeout_s=timeout_s
        )
        lines = [lag_line(name, one) for name, one in document["sources"].items()]
        if verify:
            document["verified"] = {report.source: report.as_json() for report in reports}
            lines += [line for report in reports for line in report_lines(report)]
        emit(document, lines, json_output=json_output)
        if not all(report.clean for report in reports):
            ctx.exit(4)
    finally:
        if server is not None:
            server.stop()
            (config.path(config.run_folder) / TARGET_URL_FILE).unlink(missing_ok=True)
        lock.release()


def _verify(config: Config) -> list[Report]:
    """Needs the daemons: a row that is changing is compared again once the change was applied."""
    return [verify_source(config, name) for name in config.source_databases]


def _say_plan(config: Config, *, backup: bool, json_output: bool) -> None:
    lines = []
    for name, path in config.source_databases.items():
        if backup:
            lines.append(f"would back {path} up to {config.backup_folder}/")
        lines.append(f"would install the change log and triggers in {path} ({name}) and copy its tables")
    lines.append("would start capture, snapshot and sink; see: tailrace plan")
    emit({"steps": lines}, lines, json_output=json_output)


def _supervise(
    config_path: Path,
    config: Config,
    events: Telemetry,
    console: Console,
    *,
    until: str | None,
    at_end: Callable[[], None] | None,
    plain: bool,
    timeout_s: float | None,
) -> dict[str, Any]:
    """Until told to stop, or until everything is settled and `at_end` was called; returns the last look."""
    supervisor = Supervisor(children(config_path))
    looker = Looker(config, list(config.source_databases))
    stopping: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda received, _: stopping.append(received))
    live = Live(console=console, refresh_per_second=8) if console.is_terminal and not plain else None
    errors = NewErrors(config.path(config.log_folder))
    started = time.monotonic()
    supervisor.start()
    try:
        if live is not None:
            live.start()
        said: dict[str, tuple[float, str]] = {}
        settling = Settling()
        while not stopping:
            for line in supervisor.look():
                events.event("up.child", line, level="warning")
                _print(console, line)
            for line in errors.look():
                _print(console, line)
            document = looker.look()
            if live is not None:
                live.update(status_panel(document))
            else:
                _say(document, console, said)
            if (child := supervisor.refused) is not None:
                raise Refusal(
                    Code.CHECK_REFUSED,
                    f"{child.name} refused to go on: {_last_error(config)}",
                    hint="see error.log; mend it and start again",
                )
            # What an earlier run left on the target proves nothing of this one: its sink must have applied something.
            if until == "caught-up" and settling.look(document) and _since(document, time.monotonic() - started):
                if at_end is not None:
                    at_end()
                break
            if timeout_s is not None and time.monotonic() - started > timeout_s:
                raise Failed(Code.LAG_UNKNOWN, f"not caught up after {timeout_s:g} s", hint="tailrace status")
            time.sleep(LOOK_S)
    finally:
        if live is not None:
            live.stop()
        supervisor.stop()
        document = looker.look()
        looker.close()
    return document


def _print(console: Console, line: str) -> None:
    """A terminal that was closed, or a full disk under the file it was sent to, ends no migration."""
    with contextlib.suppress(OSError):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _say(document: dict[str, Any], console: Console, said: dict[str, tuple[float, str]]) -> None:
    """A line a source every other second; the same one again only now and then. `said`: what was printed, and when."""
    now_s = time.monotonic()
    for name, one in document["sources"].items():
        line = lag_line(name, one)
        at_s, last = said.get(name, (-UNCHANGED_S, ""))
        if now_s - at_s >= (UNCHANGED_S if line == last else PLAIN_S):
            _print(console, line)
            said[name] = now_s, line


class Settling:
    """Looks until everything is settled. The goal is where each head stood when all first followed: a goal that moves on
    with writers who go on is never reached through a slow broker."""

    def __init__(self) -> None:
        self._goal: dict[str, Any] | None = None

    def look(self, document: dict[str, Any]) -> bool:
        if settled(document, self._goal):
            return True
        if self._goal is None or not all(
            one["phase"] == "following" and one["pending_drift"] is False and one["head_seq"] is not None
            for one in self._goal["sources"].values()
        ):
            self._goal = document
        return False


def settled(document: dict[str, Any], before: dict[str, Any] | None) -> bool:
    """Everything copied, indexed and consistent, and applied up to where each head stood at a look before.

    A schema that capture has not looked at yet owes copies that no figure shows: not before that look had none
    (test_a_table_that_capture_has_not_seen_is_not_settled)."""
    if before is None or not document["sources"]:
        return False
    for name, one in document["sources"].items():
        head = before["sources"][name]["head_seq"]
        if before["sources"][name]["pending_drift"] is not False or one["pending_drift"] is not False:
            return False
        if not one["consistent"] or one["phase"] != "following" or head is None or one["applied_seq"] < head:
            return False
    return True


def _since(document: dict[str, Any], elapsed_s: float) -> bool:
    """Did every source's last apply happen in these seconds? An idle sink applies an empty cut every second."""
    ages = [one["applied_age_seconds"] for one in document["sources"].values()]
    return all(age is not None and age <= elapsed_s for age in ages)


def _last_error(config: Config) -> str:
    path = config.path(config.log_folder) / "error.log"
    lines = path.read_text(encoding="utf-8").strip().splitlines() if path.exists() else []
    return lines[-1].split(": ", 1)[-1] if lines else "no reason was written"
