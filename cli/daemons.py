"""Do: the verbs capture, snapshot and sink: one process each, all sources of the configuration in one loop."""

from __future__ import annotations

import click

from cli.compaction import Compaction
from cli.options import chosen_sources, config_of
from cli.wiring import capture_lock, capture_of, open_registry, open_transport, sink_of, snapshot_of, telemetry
from ops.clock import SystemClock
from ops.config import Config
from ops.loop import Loop, Stepper
from ops.supervise import parent_alive


def _run(config: Config, process: str, steppers: list[tuple[str, Stepper]], *, quiet: bool) -> None:
    events = telemetry(config, process, terminal=not quiet)
    events.event("daemon.started", f"{process} of {', '.join(name for name, _ in steppers)}")
    try:
        Loop(steppers, SystemClock(), events).run(parent_alive=parent_alive)
    except Exception as error:
        events.event("daemon.refused", str(error), level="error")
        raise
    events.event("daemon.stopped", f"{process} stopped between two steps")


@click.command("capture")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def capture_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Tail the change logs of the sources into the stream."""
    config = config_of(ctx)
    chosen = chosen_sources(config, sources)
    say = telemetry(config, "capture", terminal=not quiet).say
    locks = [capture_lock(config, name) for name in chosen]
    for name, lock in zip(chosen, locks, strict=True):
        lock.take(source=name)
    transport = open_transport(config)
    registry = open_registry(config, transport)
    steppers: list[tuple[str, Stepper]] = [
        (name, capture_of(config, name, transport, registry, say)) for name in chosen
    ]
    steppers.append(("compaction", Compaction(transport, SystemClock())))
    try:
        _run(config, "capture", steppers, quiet=quiet)
    finally:
        transport.close()
        for lock in locks:
            lock.release()


@click.command("snapshot")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def snapshot_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Copy and finalise the tables that ask for it."""
    config = config_of(ctx)
    say = telemetry(config, "snapshot", terminal=not quiet).say
    transport = open_transport(config)
    registry = open_registry(config, transport)
    steppers: list[tuple[str, Stepper]] = [
        (name, snapshot_of(config, name, registry, say)) for name in chosen_sources(config, sources)
    ]
    try:
        _run(config, "snapshot", steppers, quiet=quiet)
    finally:
        transport.close()


@click.command("sink")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def sink_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Apply the stream to the target."""
    config = config_of(ctx)
    say = telemetry(config, "sink", terminal=not quiet).say
    transport = open_transport(config)
    registry = open_registry(config, transport)
    steppers: list[tuple[str, Stepper]] = [
        (name, sink_of(config, name, transport, registry, say)) for name in chosen_sources(config, sources)
    ]
    try:
        _run(config, "sink", steppers, quiet=quiet)
    finally:
        transport.close()
