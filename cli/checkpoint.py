"""Do: the verbs checkpoint and replay: named points of a migration, and the sinks set back to one."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import click

from adapters.postgres import Postgres
from adapters.postgres_dump import dump_tool
from cli.backup import backup_source, backup_target
from cli.cutover_wiring import actor, carried_by, look_forward
from cli.options import SECONDS, as_json, config_of, dry_run, emit
from cli.way_back import back_prefix
from cli.wiring import open_registry, open_source, open_target, open_transport, telemetry
from cutover.authority import AuthorityRow
from cutover.behind import believed
from cutover.checkpoints import Checkpoints, refuse_illegal
from cutover.drain import drain
from cutover.replay import Begun, Replay
from ops.clock import SystemClock
from ops.config import Config
from schemas.authority import Migration
from schemas.checkpoint import Checkpoint
from schemas.errors import Code, Refusal
from schemas.ports import Transport

BEFORE_CUTOVER = "before cutover"


@dataclass(frozen=True, slots=True)
class _Held:
    """What both verbs need, open at once."""

    config: Config
    session: Postgres
    row: AuthorityRow
    transport: Transport
    points: Checkpoints

    def replay(self) -> Replay:
        transport = self.config.transport
        return Replay(
            self.session,
            self.row,
            self.transport,
            open_registry(self.config, self.transport),
            self.points,
            lambda name: open_source(self.config, name),
            prefix=transport.prefix,
            back_prefix=back_prefix(self.config),
            window_ms=transport.replay_window_s * 1000,
            owner=f"replay-{actor()}",
        )


@contextmanager
def _held(config: Config, purpose: str) -> Iterator[_Held]:
    session = open_target(config, purpose)
    transport = open_transport(config)
    try:
        row = AuthorityRow(session, actor=actor())
        points = points_of(config, session, transport)
        yield _Held(config, session, row, transport, points)
    finally:
        session.close()
        transport.close()


def points_of(config: Config, session: Postgres, transport: Transport) -> Checkpoints:
    return Checkpoints(
        session,
        transport,
        list(config.source_databases),
        SystemClock(),
        actor=actor(),
        back_prefix=back_prefix(config),
    )


def checkpoint_before_cutover(config: Config, session: Postgres, before: Migration) -> Checkpoint:
    """One of its own for every switch; those that no replay could begin from any more are dropped."""
    transport = open_transport(config)
    try:
        points = points_of(config, session, transport)
        made = points.keep(points.look(BEFORE_CUTOVER, before), ending="_before_cutover")
        points.drop_made_before(BEFORE_CUTOVER, window_ms=config.transport.replay_window_s * 1000)
        return made
    finally:
        transport.close()


@click.command("checkpoint")
@click.argument("name", required=False, default="")
@click.option("--backup-source", "of_sources", is_flag=True, help="Back up every SQLite file with it.")
@click.option("--backup-target", "of_target", is_flag=True, help="Back up the target with it, by pg_dump.")
@click.option("--list", "only_list", is_flag=True, help="Say which there are.")
@click.option("--drop", "dropped", default="", metavar="NAME", help="Forget this one; its backups stay.")
@as_json
@dry_run
@click.pass_context
def checkpoint_command(
    ctx: click.Context,
    name: str,
    of_sources: bool,
    of_target: bool,
    only_list: bool,
    dropped: str,
    json_output: bool,
    dry_run: bool,
) -> None:
    """Keep where all streams stand, under a name that `replay --from` takes."""
    config = config_of(ctx)
    with _held(config, "checkpoint") as held:
        if only_list:
            found = held.points.all()
            ended = {one.name: held.points.thrown_away(one) for one in found}
            lines = [_line(one) + (f"; ended: {ended[one.name]}" if ended[one.name] else "") for one in found]
            document = [{**_as_json(one), "ended": ended[one.name] or None} for one in found]
            emit({"checkpoints": document}, lines or ["there is none"], json_output=json_output)
            return
        if dropped:
            one = held.points.find(dropped) if dry_run else held.points.drop(dropped)
            verb = "would be dropped" if dry_run else "dropped"
            kept = f"; its backups stay: {', '.join(one.backups.values())}" if one.backups else ""
            emit(_as_json(one), [f"{one.name} {verb}{kept}"], json_output=json_output)
            return
        _take(held, name, of_sources=of_sources, of_target=of_target, json_output=json_output, dry_run=dry_run)


def _take(held: _Held, name: str, *, of_sources: bool, of_target: bool, json_output: bool, dry_run: bool) -> None:
    before = held.row.read()
    refuse_illegal("checkpoint", before, held.points.now())
    if of_target:
        dump_tool()
    looked = held.points.look("asked for", before)
    if dry_run:
        lines = [f"would keep {source} at {point.applied}" for source, point in looked.sources.items()]
        lines += [f"would back up {source}" for source in (looked.sources if of_sources else ())]
        emit(_as_json(looked), [*lines, *(["would back up the target"] if of_target else [])], json_output=json_output)
        return
    events = telemetry(held.config, "checkpoint", terminal=False)
    backups: dict[str, str] = {}
    digests: dict[str, str] = {}
    if of_sources:
        for source in looked.sources:
            made = backup_source(held.config, source, events)
            click.echo(made.line, err=json_output)
            backups[source], digests[source] = str(made.path), made.digest
    if of_target:
        made = backup_target(held.config, events)
        click.echo(made.line, err=json_output)
        backups["target database"] = str(made.path)
    # Looked at again: a backup takes its time, and the topics keep what comes after a point only for so long.
    after = held.row.read()
    if after.token != before.token:
        raise Refusal(
            Code.CHECKPOINT_REFUSED,
            "the migration moved while the backups were made: they are of another moment than the streams",
            position=after.token,
            hint="tailrace checkpoint again; the backups stay",
        )
    point = held.points.look("asked for", after)
    signed = {source: replace(one, backup_sha256=digests.get(source, "")) for source, one in point.sources.items()}
    kept = held.points.keep(replace(point, sources=signed), name, backups=backups)
    events.event("checkpoint.made", _line(kept))
    emit(_as_json(kept), [_line(kept)], json_output=json_output)


@click.command("replay")
@click.option("--from", "name", required=True, metavar="CHECKPOINT", help="Where the sinks begin again.")
@click.option("--timeout", "timeout_s", type=SECONDS, default=600.0, help="How long to wait: 30s, 5m, 2h.")
@as_json
@dry_run
@click.pass_context
def replay_command(ctx: click.Context, name: str, timeout_s: float, json_output: bool, dry_run: bool) -> None:
    """Read the topics again from a checkpoint: the target ends equal to the sources, whatever it held.

    Rows that only the target ever saw go, too. Until it is done the target is not consistent: no read and no switch.
    """
    config = config_of(ctx)
    with _held(config, "replay") as held:
        believed(held.row.read, lambda: carried_by(config))
        checkpoint = held.points.find(name)
        replay = held.replay()
        running = replay.running()
        if running is not None and running[0] == name and not dry_run:
            click.echo(f"the replay from {name} is under way already: waiting for it", err=True)
            begun = Begun(running[1], {})
        else:
            replay.refuse(checkpoint)
            if dry_run:
                _say_dry(held, checkpoint, json_output=json_output)
                return
            begun = replay.run(checkpoint)
            telemetry(config, "replay", terminal=False).event("replay.begun", f"from {name}: up to {begun.upto}")
        seconds = _wait(held, begun.upto, timeout_s)
    lines = [f"{source}: read again up to {seq}" for source, seq in sorted(begun.upto.items())]
    if touched := sum(begun.touched.values()):
        lines.append(f"{touched} keys that the target had changed since were looked up at the sources")
    document = {"checkpoint": name, "upto": begun.upto, "touched": begun.touched, "seconds": seconds}
    emit(
        document,
        [*lines, f"consistent again after {seconds:.1f} s; tailrace verify proves it"],
        json_output=json_output,
    )


def _say_dry(held: _Held, checkpoint: Checkpoint, *, json_output: bool) -> None:
    now = held.points.now()
    steps = [
        "touch at the sources what the target changed since",
        *(
            f"set the sink of {source} back from {now[source].applied} to {point.applied}"
            for source, point in sorted(checkpoint.sources.items())
        ),
        "the sinks read the topics again; the target is not consistent until they have",
    ]
    emit({"checkpoint": checkpoint.name, "steps": steps}, steps, json_output=json_output)


def _wait(held: _Held, upto: Mapping[str, int], timeout_s: float) -> float:
    """The sinks do it; whoever waits may go away. Raises Transient(DRAIN_TIMEOUT)."""
    begun_s = time.monotonic()
    if timeout_s <= 0:
        raise Refusal(Code.USAGE, "--timeout 0 waits for nothing", hint="tailrace lag --wait --below 0")
    drain(
        upto,
        lambda: look_forward(held.session, held.config),
        SystemClock(),
        budget_s=timeout_s,
        keep_lease=lambda: None,
    )
    return time.monotonic() - begun_s


def _as_json(one: Checkpoint) -> dict[str, Any]:
    return {
        "name": one.name,
        "at_ms": one.at_ms,
        "by": one.actor,
        "why": one.why,
        "authority": one.authority,
        "token": one.token,
        "sources": {source: {"applied": point.applied} for source, point in one.sources.items()},
        "backups": dict(one.backups),
    }


def _line(one: Checkpoint) -> str:
    points = ", ".join(f"{source} at {point.applied}" for source, point in sorted(one.sources.items()))
    stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(one.at_ms / 1000))
    kept = f"; backups: {', '.join(one.backups.values())}" if one.backups else ""
    return f"{one.name} ({stamp}, {one.why}, writes belong to {one.authority}): {points}{kept}"
