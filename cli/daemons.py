"""Do: the verbs capture, snapshot and sink: one process each, all sources of the configuration in one loop.

Invariant: whatever ends a daemon, opening included, is an event in its log: a supervisor sees only an exit code
(test_a_daemon_that_cannot_open_says_so_in_its_log). SIGHUP is a restart inside the process: everything but the locks is
closed and opened anew, so that secrets are read again and nothing half old is left (test_sighup_opens_everything_anew).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

import click

from cli.compaction import Compaction
from cli.cutover_wiring import Steward
from cli.growth import readings_of
from cli.hooks import hooks_of
from cli.options import chosen_sources, config_of
from cli.shift_wiring import WatchStepper
from cli.way_back import back_capture_of, back_sink_of
from cli.wiring import (
    capture_lock,
    capture_of,
    open_registry,
    open_transport,
    sink_group_of,
    sink_of,
    snapshot_of,
    telemetry,
)
from ops.clock import SystemClock
from ops.config import Config, load
from ops.health import FOLDER, STEP_S, HealthFile, StepperHealth
from ops.loop import Ended, Loop, Signals, Stepper
from ops.notify import Notifier
from ops.reload import moved
from ops.supervise import parent_alive, supervised
from ops.telemetry import Telemetry
from ops.units import Done, Units
from schemas.errors import Code, ConfigError, Refusal
from schemas.ports import Registry, Transport

ORPHAN_S = 20.0
"""Under a supervisor: a capture of a killed one, not started by anybody now, sees within this that it is alone."""

Made = list[tuple[str, Stepper]]
Make = Callable[[Config, Transport, Registry, Telemetry, Done], Made]


class Daemon:
    """One process from its start to its end.

    Args:
        make: builds the steppers on a transport; called again at every reload.
        locked: only one such process may run for each source.
    """

    def __init__(
        self,
        ctx: click.Context,
        process: str,
        sources: tuple[str, ...],
        make: Make,
        *,
        quiet: bool,
        locked: bool = False,
    ) -> None:
        self._path: Path = ctx.obj
        self._config = config_of(ctx)
        self._process = process
        self._names = chosen_sources(self._config, sources)
        self._make = make
        self._locked = locked
        self._events = telemetry(self._config, process, terminal=not quiet)
        self._units = Units(self._events)
        self._signals = Signals(hangup_ends=sys.stdin.isatty())
        self._notifier = Notifier(step_s=STEP_S[process])
        self._health = HealthFile(self._config.path(self._config.run_folder) / FOLDER, process)

    def run(self) -> None:
        """Locks first, since they stay over reloads; everything is given back in the opposite order."""
        self._signals.install()
        try:
            with ExitStack() as locks:
                for name in self._names if self._locked else ():
                    lock = capture_lock(self._config, name)
                    lock.take(source=name, wait_s=ORPHAN_S if supervised() else 0.0)
                    locks.callback(lock.release)
                self._health.open()
                locks.callback(self._health.close)
                while self._life() is Ended.RELOAD:
                    self._reload()
        except Exception as error:
            self._events.event("daemon.refused", str(error), level="error")
            raise
        self._events.event("daemon.stopped", f"{self._process} stopped between two steps")

    def _life(self) -> Ended:
        """Open, run until a signal, close."""
        with ExitStack() as held:
            transport = open_transport(self._config, say=self._events.say)
            held.callback(transport.close)
            registry = open_registry(self._config, transport)
            steppers = self._make(self._config, transport, registry, self._events, self._units.done)
            names = ", ".join(self._names)
            self._events.event("daemon.started", f"{self._process} of {names}")
            self._notifier.ready(f"{self._process} of {names}")
            self._health.write("running")
            loop = Loop(steppers, SystemClock(), self._events, signals=self._signals, beat=self._beat)
            try:
                ended = loop.run(parent_alive=parent_alive)
            finally:
                self._units.flush()
            if ended is Ended.RELOAD:
                for _, stepper in steppers:
                    stepper.close()
            else:
                # The end of the process frees the rest, without a word to servers that may not answer.
                self._notifier.stopping()
                self._health.write("stopping")
        return ended

    def _beat(self, steppers: Mapping[str, StepperHealth]) -> None:
        self._units.flush()
        self._health.health.steppers = dict(steppers)
        self._health.write("running")
        failing = [f"{name} fails with {one.error_code}" for name, one in steppers.items() if one.failures]
        self._notifier.alive("; ".join(failing) or f"{len(steppers)} at work")

    def _reload(self) -> None:
        """The configuration as it is now, where a running daemon may take it; else the one it has, and a word."""
        self._notifier.reloading()
        self._health.write("reloading")
        try:
            fresh = load(self._path)
        except ConfigError as error:
            self._events.event("daemon.reload_refused", f"the old configuration stays: {error}", level="error")
            return
        fixed = moved(self._config, fresh)
        if fixed:
            text = f"{', '.join(fixed)} moved, which takes a restart: the old configuration stays"
            self._events.event("daemon.reload_refused", text, level="error")
            return
        self._config = fresh
        self._events.event("daemon.reloaded", f"{self._process} opens everything anew")


@click.command("capture")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def capture_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Tail the change logs of the sources into the stream."""

    def make(config: Config, transport: Transport, registry: Registry, events: Telemetry, done: Done) -> Made:
        names = chosen_sources(config, sources)
        says = {name: events.bound(source=name) for name in names}
        made: Made = [(name, capture_of(config, name, transport, registry, say, done)) for name, say in says.items()]
        made += [
            (f"{name} back", back_sink_of(config, name, transport, registry, say, done)) for name, say in says.items()
        ]
        if set(names) == set(config.source_databases):
            made += [
                ("steward", Steward(config, events.say, hooks_of(config, events))),
                ("watch", WatchStepper(config, ctx.obj, events)),
            ]
        made += [(f"{name} growth", readings_of(config, name, transport)) for name in names]
        return [*made, ("compaction", Compaction(transport, SystemClock()))]

    Daemon(ctx, "capture", sources, make, quiet=quiet, locked=True).run()


@click.command("snapshot")
@click.argument("sources", nargs=-1)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def snapshot_command(ctx: click.Context, sources: tuple[str, ...], quiet: bool) -> None:
    """Copy and finalise the tables that ask for it."""

    def make(config: Config, _: Transport, registry: Registry, events: Telemetry, done: Done) -> Made:
        return [
            (name, snapshot_of(config, name, registry, events.bound(source=name), done))
            for name in chosen_sources(config, sources)
        ]

    Daemon(ctx, "snapshot", sources, make, quiet=quiet).run()


@click.command("sink")
@click.argument("sources", nargs=-1)
@click.option("--group", "shared", is_flag=True, help="Share all sources with the other sinks of this configuration.")
@click.option("--quiet", is_flag=True, help="Log to files only.")
@click.pass_context
def sink_command(ctx: click.Context, sources: tuple[str, ...], shared: bool, quiet: bool) -> None:
    """Apply the stream to the target. A sink of named sources refuses a second one; --group shares them."""
    if shared and sources:
        raise Refusal(Code.USAGE, "--group shares all sources", hint="leave the names out, or --group")

    def make(config: Config, transport: Transport, registry: Registry, events: Telemetry, done: Done) -> Made:
        names = chosen_sources(config, sources)
        says = {name: events.bound(source=name) for name in names}
        backs = {name: back_capture_of(config, name, transport, registry, say) for name, say in says.items()}
        if shared or (config.sink_group and not sources):
            group = sink_group_of(config, transport, registry, events.say, done)
            made: Made = [("group", group), *((name, group.sink_of(name)) for name in names)]
            return [*made, *((f"{name} back", group.owners(name, back)) for name, back in backs.items())]
        made = [(name, sink_of(config, name, transport, registry, say, done)) for name, say in says.items()]
        return [*made, *((f"{name} back", back) for name, back in backs.items())]

    Daemon(ctx, "sink", sources, make, quiet=quiet).run()
