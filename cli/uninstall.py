"""Do: the verb uninstall: take everything of ours out of the sources, and say what stays where.

Invariant: a fence goes only with a rollback. A fenced source gives up its log when the migration is completed, which only
the target can say: while it cannot be asked nothing is taken out (test_uninstall_of_a_completed_migration).
"""

from __future__ import annotations

from collections.abc import Sequence

import click

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import archive, uninstall
from cli.complete import drop_left_over
from cli.cutover_wiring import authority_of
from cli.options import as_json, chosen_sources, config_of, dry_run, emit
from cli.wiring import capture_lock, open_source
from ops.config import Config
from schemas.authority import Authority
from schemas.errors import Code, Refusal, Transient
from schemas.fence import FENCE_PREFIX
from schemas.model import META


@click.command("uninstall")
@click.argument("sources", nargs=-1)
@click.option("--yes", "confirmed", is_flag=True, help="Yes, the sources are no longer captured.")
@click.option("--keep-wal", is_flag=True, help="Leave a file that `up` switched to WAL in that mode.")
@as_json
@dry_run
@click.pass_context
def uninstall_command(
    ctx: click.Context, sources: tuple[str, ...], confirmed: bool, keep_wal: bool, json_output: bool, dry_run: bool
) -> None:
    """Take the triggers and the change log out of the sources, and say what stays on the target."""
    config = config_of(ctx)
    chosen = chosen_sources(config, sources)
    if not confirmed and not dry_run:
        raise Refusal(Code.USAGE, f"uninstall ends the capture of {', '.join(chosen)}", hint="add --yes")
    fenced = [name for name in chosen if _is_fenced(config, name)]
    if fenced:
        _refuse_unfinished(config, fenced)
    lines, document = [], {}
    for name in chosen:
        present = _take_out(config, name, fenced=name in fenced, keep_wal=keep_wal, dry_run=dry_run)
        verb = "would be removed" if dry_run else "removed"
        document[name] = verb if present else "not installed"
        lines.append(f"{name}: {_told(present, verb, fenced=name in fenced)}")
    if fenced and not dry_run:
        with authority_of(config) as (session, _):
            left = drop_left_over(session)
        lines += [f"{table} is read all the time: our triggers on it rest, and were not dropped" for table in left]
    emit(document, [*lines, *_left(config, chosen, fenced)], json_output=json_output)


def _is_fenced(config: Config, name: str) -> bool:
    db = open_source(config, name)
    try:
        return metas.fenced(db)
    finally:
        db.close()


def _refuse_unfinished(config: Config, fenced: Sequence[str]) -> None:
    """Nothing was taken out of any source yet. Raises what keeps the target from being asked, too."""
    with authority_of(config) as (_, row):
        authority = row.read().authority
    if authority is not Authority.COMPLETED:
        raise Refusal(
            Code.VERB_ILLEGAL,
            f"uninstall: {', '.join(fenced)} is fenced, and the migration is not completed (it is at {authority})",
            hint="tailrace rollback brings writes back; tailrace complete makes the files archives",
        )


def _take_out(config: Config, name: str, *, fenced: bool, keep_wal: bool, dry_run: bool) -> bool:
    """Returns whether something of ours was there."""
    lock = capture_lock(config, name)
    lock.take(source=name)
    db = open_source(config, name)
    try:
        present = metas.has_log(db) if fenced else metas.exists(db)
        if present and not dry_run:
            # First, since what the file used before is remembered in what uninstall takes away.
            if not keep_wal:
                _restore_journal_mode(db, name)
            if fenced:
                return archive(db)
            uninstall(db)
        return present
    finally:
        db.close()
        lock.release(remove=not dry_run)


def _told(present: bool, verb: str, *, fenced: bool) -> str:
    if fenced:
        log = f"change log and its triggers {verb}" if present else "the change log is gone already"
        return f"{log}; the file stays fenced, an archive that nobody writes to"
    return (
        f"triggers, change log and meta table {verb}; the file is as it was" if present else "nothing of ours is there"
    )


def _left(config: Config, chosen: Sequence[str], fenced: Sequence[str]) -> list[str]:
    schemas = ", ".join(config.target_schema(name) for name in chosen)
    lines = []
    if fenced:
        files = ", ".join(str(config.source_path(name)) for name in fenced)
        lines.append(
            f"left in {files}: the triggers {FENCE_PREFIX}* and the table {META}; in a copy that should be written to, drop them"
        )
        lines.append(
            f"left on the target: schemas {schemas}, which are yours; schema tailrace with the journal of this migration"
        )
    else:
        lines.append(f"left on the target: schemas {schemas} with their tables and guards, and schema tailrace")
    return [*lines, f"left here: the stream {config.transport.path}, backups in {config.backup_folder}/, logs"]


def _restore_journal_mode(db: SqliteDatabase, source: str) -> None:
    """Back to what the file used before `up` switched it to WAL. SQLite leaves WAL only while nobody else has the file open."""
    journal = _journal_mode_before(db)
    if journal is None or journal == "wal":
        return
    try:
        now = str(db.rows(f"PRAGMA journal_mode={journal}")[0][0])
    except Transient:
        now = "wal"
    if now != journal:
        raise Refusal(
            Code.SOURCE_BUSY,
            f"the file was in mode {journal} before, and stays in WAL while another connection has it open; nothing was removed",
            source=source,
            hint="close the application's connections for a moment, or add --keep-wal",
        )


def _journal_mode_before(db: SqliteDatabase) -> str | None:
    """What the file used before `up` switched it to WAL, if it did."""
    if not db.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (META,)):
        return None
    found = db.rows(f"SELECT value FROM {META} WHERE key = 'journal_mode'")
    return str(found[0][0]) if found else None
