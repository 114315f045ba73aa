"""Do: the verbs capture, snapshot and sink: one process each, all sources of the configuration in one loop.

Invariant: whatever ends a daemon, opening included, is an event in its log: a supervisor sees only an exit code
(test_a_daemon_that_cannot_open_says_so_in_its_log).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import click

from cli.compaction import Compaction
from cli.options import chosen_sources, config_of
from cli.wiring import (
    Say,
    capture_lock,
    capture_of,
    open_registry,
    open_transport,
    sink_of,
    snapshot_of,
    telemetry,
)
from ops.clock import SystemClock
from ops.config import Config
from ops.loop import Loop, Stepper
from ops.supervise import parent_alive, supervised
from schemas.ports import Registry, Transport

ORPHAN_S = 20.0
"""Under a supervisor: a capture of a killed one, not started by anybody now, sees within this that it is alone."""

Made = list[tuple[str, Stepper]]
Make = Callable[[Transport, Registry, Say], Made]


def _run(config: Config, process: str, names: list[str], make: Make, *, quiet: bool, locked: bool = False) -> None:
    """Locks, then the stream, then the steppers; everything is given back in the opposite order."""
    events = telemetry(config, process, terminal=not quiet)
    try:
        with ExitStack() as held:
            for name in names if locked else ():
                lock = capture_lock(config, name)
                lock.take(source=name, wait_s=ORPHAN_S if supervised() else 0.0)
                held.callback(lock.release)
            transport = open_transport(config)
            held.callback(transport.close)
            steppers = make(transport, open_registry(config, transport), events.say)
            events.event("daemon.started", f"{process} of {', '.join(name for name, _ in steppers)}")
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

    def make(transport: Transport, registry: Registry, say: Say) -> Made:
        made: Made = [(name, capture_of(config, name, transport, registry, say)) for name in chosen]
        return [*made, ("compaction", Compaction(transport, SystemClock()))]

    _run(config, "capture", chosen, make, quiet=quiet, locked=True)


@click.command("snapshot")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def snapshot_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Copy and finalise the tables that ask for it."""
    config = config_of(ctx)
    chosen = chosen_sources(config, sources)

    def make(_: Transport, registry: Registry, say: Say) -> Made:
        return [(name, snapshot_of(config, name, registry, say)) for name in chosen]

    _run(config, "snapshot", chosen, make, quiet=quiet)


@click.command("sink")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def sink_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Apply the stream to the target."""
    config = config_of(ctx)
    chosen = chosen_sources(config, sources)

    def make(transport: Transport, registry: Registry, say: Say) -> Made:
        return [(name, sink_of(config, name, transport, registry, say)) for name in chosen]

    _run(config, "sink", chosen, make, quiet=quiet)
