"""Do: the verbs pause, resume and reset; destructive ones ask for the name."""

from __future__ import annotations

import click

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import accept_fork, accept_history, request_resync
from capture.position import known_of
from capture.sqlite_source import SqliteSource
from cli.anew import start_over
from cli.back_anew import send_back_again
from cli.fork import Fork, fork_of
from cli.options import as_json, chosen_sources, config_of, dry_run, emit
from cli.wiring import capture_lock, open_registry, open_source, open_target, open_transport
from cutover.authority import AuthorityRow
from ops.clock import SystemClock
from ops.config import Config
from ops.points import reach
from schemas.authority import Authority
from schemas.errors import Code, Refusal
from schemas.names import notice_topic, watermark_topic
from sink.progress import adopt, expect, prepared, read_progress


@click.command("pause")
@click.argument("sources", nargs=-1)
@as_json
@dry_run
@click.pass_context
def pause_command(ctx: click.Context, sources: tuple[str, ...], json_output: bool, dry_run: bool) -> None:
    """Let the target rest: sink and copy stop writing; capture goes on, so that the source's log does not grow."""
    _phase(config_of(ctx), sources, was="source", becomes="paused", json_output=json_output, dry_run=dry_run)


@click.command("resume")
@click.argument("sources", nargs=-1)
@as_json
@dry_run
@click.pass_context
def resume_command(ctx: click.Context, sources: tuple[str, ...], json_output: bool, dry_run: bool) -> None:
    """Go on after a pause."""
    _phase(config_of(ctx), sources, was="paused", becomes="source", json_output=json_output, dry_run=dry_run)


def _phase(
    config: Config, sources: tuple[str, ...], *, was: str, becomes: str, json_output: bool, dry_run: bool
) -> None:
    target = open_target(config, "phase")
    result: dict[str, str] = {}
    try:
        if not prepared(target):
            raise Refusal(Code.TARGET_UNPREPARED, "nothing runs yet", hint="tailrace up")
        authority = AuthorityRow(target, actor="operator").read().authority
        if authority is not Authority.SOURCE:
            raise Refusal(
                Code.VERB_ILLEGAL,
                f"pause and resume: writes belong to {authority}",
                hint="tailrace status; tailrace rollback",
            )
        for name in chosen_sources(config, sources):
            found = target.rows("SELECT phase FROM tailrace.progress WHERE source = %s", (name,))
            if not found:
                raise Refusal(
                    Code.TARGET_UNPREPARED, "the target knows nothing of it yet", source=name, hint="tailrace up"
                )
            if not dry_run:
                # A compare-and-set: the sink's own begins with the same row and loses or wins as a whole.
                target.run(
                    "UPDATE tailrace.progress SET phase = %s WHERE source = %s AND phase = %s", (becomes, name, was)
                )
            now = target.rows("SELECT phase FROM tailrace.progress WHERE source = %s", (name,))[0][0]
            result[name] = f"would become {becomes}" if dry_run else str(now)
    finally:
        target.close()
    emit(result, [f"{name}: {phase}" for name, phase in result.items()], json_output=json_output)


@click.command("reset")
@click.argument("source")
@click.option("--table", "tables", multiple=True, help="Only these tables.")
@click.option("--accept-history", "accept", is_flag=True, help="Go on from a restored or forked file as it is now.")
@click.option("--way-back", "way_back", is_flag=True, help="After a switch: send every row back again (lost topics).")
@click.option("--yes", "confirmed", default="", help="The source's name again: this copies its tables anew.")
@as_json
@dry_run
@click.pass_context
def reset_command(
    ctx: click.Context,
    source: str,
    tables: tuple[str, ...],
    accept: bool,
    way_back: bool,
    confirmed: str,
    json_output: bool,
    dry_run: bool,
) -> None:
    """Copy tables of a source again. Readers of the target never see them empty; nothing is lost. While writes belong to
    PostgreSQL, --way-back does so for the other direction."""
    config = config_of(ctx)
    config.source_path(source)
    if way_back and (tables or accept):
        raise Refusal(
            Code.USAGE, "--way-back sends all of the source back", hint="leave --table and --accept-history out"
        )
    if confirmed != source and not dry_run:
        raise Refusal(Code.USAGE, f"reset copies {source} again", source=source, hint=f"add --yes {source}")
    db = open_source(config, source)
    try:
        with db.read_view():
            meta = metas.read(db)
        if way_back:
            sent = 0 if dry_run else send_back_again(config, source, db)
            did = "would send all its rows" if dry_run else f"{sent} rows are sent"
            line = f"{did} back again; tailrace rollback --status says when a rollback loses nothing"
            emit({"sent_back": sent}, [f"{source}: {line}"], json_output=json_output)
            return
        metas.refuse_fenced(db, "reset")
        names = list(tables) or [one.name for one in meta.tables.values()]
        if accept:
            _accept_command(config, source, db, names, json_output=json_output, dry_run=dry_run)
            return
        if dry_run:
            emit({"resync": names}, [f"would copy {name} again" for name in names], json_output=json_output)
            return
        unknown = [name for name in names if meta.number_of(name) is None]
        if unknown:
            raise Refusal(
                Code.TABLE_UNSUPPORTED, f"{unknown[0]!r} is not replicated", source=source, hint="tailrace plan"
            )
        if tables:
            for name in names:
                request_resync(db, name)
        else:
            start_over(config, source, db)
    finally:
        db.close()
    emit({"resync": names}, [f"{name} is copied again" for name in names], json_output=json_output)


def _accept_command(
    config: Config, source: str, db: SqliteDatabase, names: list[str], *, json_output: bool, dry_run: bool
) -> None:
    fork = _accept(config, source, dry_run=dry_run)
    if not fork.why:
        document = {"resync": list(fork.copied), "touched": fork.count, "since": fork.since}
        verb = "would be sent again" if dry_run else "are sent again"
        lines = [f"{source}: the histories are one up to {fork.since}; {fork.count} keys published since {verb}"]
        lines += [
            f"{name} was copied since, and {'would be' if dry_run else 'is'} copied again" for name in fork.copied
        ]
        emit(document, [*lines, f"then: tailrace verify {source}"], json_output=json_output)
        return
    if not dry_run:
        start_over(config, source, db)
    verb = "would be copied again" if dry_run else "is copied again"
    lines = [f"what differs is not known: {fork.why}", *(f"{name} {verb}" for name in names)]
    emit({"resync": names, "touched": 0, "why": fork.why}, lines, json_output=json_output)


def _accept(config: Config, source: str, *, dry_run: bool) -> Fork:
    """Refused while a capture runs: it would publish from the middle of the change.

    The target is asked too: a stream that was lost with the file, or a file that was installed anew, would count below what
    the target has applied, and every change would be taken for an old one (test_started_over).
    """
    lock = capture_lock(config, source)
    lock.take(source=source)
    transport = open_transport(config)
    db = open_source(config, source)
    target = open_target(config, "reset")
    try:
        before = read_progress(target, source) if prepared(target) else None
        prefix = config.transport.prefix
        watermarks, notices = watermark_topic(prefix, source), notice_topic(prefix, source)
        meta = metas.read(db)
        stream = known_of(transport, watermarks=watermarks, notices=notices)
        known = max(stream.last.seq if stream.last else 0, stream.highest)
        identity = stream.last.identity if stream.last else meta.identity
        generations = dict(stream.announced)
        fork = Fork(why="the target knows nothing of this source yet")
        if before is not None:
            known = max(known, before.applied, before.highest, before.applying_to or 0)
            for name, one in before.tables.items():
                generations[name] = max(generations.get(name, 0), one.generation)
            fork = fork_of(
                SqliteSource(db, source),
                meta,
                stream,
                before,
                transport,
                open_registry(config, transport),
                prefix=prefix,
                window_ms=config.transport.replay_window_s * 1000,
                now_ms=SystemClock().now_ms(),
            )
        if dry_run:
            return fork
        if not fork.why:
            head = accept_fork(db, known, since=fork.since, tables=fork.tables, keys=fork.keys, copied=fork.copied)
            # The target will wait for this head: a power loss must not take it back.
            db.sync_wal()
            reach("reset.accepted")
            expect(target, source, head)
            return fork
        accept_history(db, known, identity=identity, generations=generations)
        if before is not None:
            # The source first: killed in between, the sink still refuses the other identity and this verb is run again. The
            # other way round it would follow a log that counts below what was applied, and ignore its changes.
            adopt(target, source, identity)
        return fork
    finally:
        target.close()
        db.close()
        transport.close()
        lock.release()
