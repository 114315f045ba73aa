"""Do: the verb install: what must be there before the daemons start, in the order of `up`, and nothing that runs on.

`tailrace up` does the same and then supervises; with daemons of their own it is this verb, once.
"""

from __future__ import annotations

import click

from capture import meta as metas
from cli.backup import backup_source
from cli.beginning import install_source, prepare_target, refuse_bad
from cli.options import as_json, chosen_sources, config_of, dry_run, emit
from cli.wiring import open_source, telemetry
from ops.config import Config


@click.command("install")
@click.argument("sources", nargs=-1)
@click.option("--no-backup", is_flag=True, help="Skip the backup of the sources; recorded in the log.")
@click.option("--keep-journal-mode", is_flag=True, help="Do not switch the sources to WAL.")
@as_json
@dry_run
@click.pass_context
def install_command(
    ctx: click.Context,
    sources: tuple[str, ...],
    no_backup: bool,
    keep_journal_mode: bool,
    json_output: bool,
    dry_run: bool,
) -> None:
    """Check, back the sources up, prepare the target, and put change log and triggers into the sources.

    May be called again: what is there already stays as it is, without another backup.
    """
    config = config_of(ctx)
    names = chosen_sources(config, sources)
    refuse_bad(config)
    if dry_run:
        backups = [] if no_backup else [f"would back {name} up to {config.backup_folder}/" for name in names]
        lines = [*backups, *(f"would install the change log and triggers in {name}" for name in names)]
        emit({"steps": lines}, lines, json_output=json_output)
        return
    events = telemetry(config, "install", terminal=False)
    prepare_target(config)
    lines = []
    if no_backup:
        events.event("backup.skipped", "the operator asked for no backup", level="warning")
    else:
        # The backup is of the file before our first change to it; a later call changes nothing that matters.
        lines += [backup_source(config, name, events).line for name in names if not _is_installed(config, name)]
    lines += [install_source(config, name, wal=not keep_journal_mode) for name in names]
    lines.append("next: tailrace capture, tailrace snapshot, tailrace sink, each in a process of its own")
    emit({"steps": lines}, lines, json_output=json_output)


def _is_installed(config: Config, name: str) -> bool:
    db = open_source(config, name, read_only=True)
    try:
        return metas.exists(db)
    finally:
        db.close()
