"""Do: the verb serve: the schemas topic as a schema registry that others can read.

Invariant: it writes nothing, neither to the stream nor on a call; it listens on loopback unless told otherwise, since
schemas name every table and column. SIGHUP opens the stream anew under the listening server
(test_serve_signs_its_health_and_takes_a_reload).
"""

from __future__ import annotations

import ipaddress
import sys
import threading
import time
from contextlib import ExitStack
from pathlib import Path

import click

from adapters.registry import TopicRegistry
from adapters.registry_server import RegistryServer
from cli.options import as_json, config_of, emit
from cli.wiring import Say, open_transport, telemetry
from ops.config import Config, load
from ops.health import FOLDER, STEP_S, HealthFile, StepperHealth
from ops.loop import Signals
from ops.notify import Notifier
from ops.reload import moved
from ops.supervise import parent_alive
from ops.telemetry import Telemetry
from schemas.errors import Code, ConfigError, Refusal, TailraceError
from schemas.names import schema_topic
from schemas.ports import Transport

LOOK_S = 0.2
BEAT_S = 1.0
READ_S = 5.0
"""How often the stream is asked whether it still answers, beside the calls of others."""


class Served:
    """The schemas of the configured stream, through a connection that a reload exchanges under the listening server."""

    def __init__(self, config: Config) -> None:
        self._lock = threading.Lock()
        self._transport, self._registry = _opened(config)

    def known(self) -> dict[int, tuple[str, str]]:
        with self._lock:
            return self._registry.known()

    def exchange(self, config: Config) -> None:
        """With secrets as they are now. Where the new connection is refused, the old one stays."""
        fresh = _opened(config)
        with self._lock:
            former, (self._transport, self._registry) = self._transport, fresh
            former.close()

    def close(self) -> None:
        with self._lock:
            self._transport.close()


def _opened(config: Config) -> tuple[Transport, TopicRegistry]:
    transport = open_transport(config)
    try:
        registry = TopicRegistry(transport, schema_topic(config.transport.prefix), create=False)
        registry.known()
    except BaseException:
        transport.close()
        raise
    return transport, registry


@click.command("serve")
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=8081, show_default=True, help="0: any free one.")
@click.option(
    "--allow-remote", is_flag=True, help="Listen off loopback: plain text, no password, names of all columns."
)
@click.option("--quiet", is_flag=True, help="Log to files only.")
@as_json
@click.pass_context
def serve_command(ctx: click.Context, host: str, port: int, allow_remote: bool, quiet: bool, json_output: bool) -> None:
    """Answer the read calls of a Confluent schema registry from the stream, and GET /health."""
    config = config_of(ctx)
    _refuse(config, host, allow_remote=allow_remote)
    events = telemetry(config, "serve", terminal=not quiet)
    signals = Signals(hangup_ends=sys.stdin.isatty())
    signals.install()
    health = HealthFile(config.path(config.run_folder) / FOLDER, "serve")
    try:
        with ExitStack() as held:
            health.open()
            held.callback(health.close)
            served = Served(config)
            held.callback(served.close)
            server = _listen(host, port, served, events.say)
            held.callback(server.close)
            server.start()
            events.event("daemon.started", f"serve at {server.url}")
            emit({"url": server.url}, [f"schemas at {server.url}"], json_output=json_output)
            _watch(_Watched(ctx.obj, config, served, server, health, events), signals)
    except Exception as error:
        events.event("daemon.refused", str(error), level="error")
        raise
    events.event("daemon.stopped", "serve stopped")


class _Watched:
    """What happens beside the calls: signs of life, and a reload.

    The server listens on through a reload: host and port are of the command, not of the configuration.
    """

    def __init__(
        self, path: Path, config: Config, served: Served, server: RegistryServer, health: HealthFile, events: Telemetry
    ) -> None:
        self._path = path
        self._config = config
        self._served = served
        self._server = server
        self._file = health
        self._events = events
        self._stream = StepperHealth()
        self._read_due_s = 0.0
        self.notifier = Notifier(step_s=STEP_S["serve"])

    def sign(self) -> None:
        # Before the look, as every daemon: the age is then what the look takes.
        self._file.health.steppers = {"schemas": self._stream}
        self._file.write("running")
        failing = f"schemas fail with {self._stream.error_code}" if self._stream.failures else "schemas are served"
        self.notifier.alive(failing)
        if time.monotonic() < self._read_due_s:
            return
        now_ms = time.time_ns() // 1_000_000
        try:
            self._served.known()
        except TailraceError as error:
            self._stream.failures += 1
            self._stream.failing_since_ms = self._stream.failing_since_ms or now_ms
            self._stream.state, self._stream.error_code = "failing", str(error.code)
        else:
            self._stream = StepperHealth("running", step_at_ms=now_ms, moved_at_ms=now_ms)
        self._read_due_s = time.monotonic() + READ_S

    def reload(self) -> None:
        self.notifier.reloading()
        self._file.write("reloading")
        try:
            fresh = load(self._path)
            if fixed := moved(self._config, fresh):
                raise ConfigError(Code.CONFIG_INVALID, f"{', '.join(fixed)} moved", hint="that takes a restart")
            self._served.exchange(fresh)
        except TailraceError as error:
            self._events.event("daemon.reload_refused", f"the old connection stays: {error}", level="error")
        else:
            self._config = fresh
            self._server.forget()
            self._events.event("daemon.reloaded", "serve opened the stream anew")
        self._read_due_s = 0.0
        self.notifier.ready(f"serve at {self._server.url}")


def _watch(watched: _Watched, signals: Signals) -> None:
    watched.notifier.ready("serve")
    signed_s = 0.0
    while not signals.stop and parent_alive():
        if signals.reload:
            signals.reload = False
            watched.reload()
        if time.monotonic() - signed_s >= BEAT_S:
            signed_s = time.monotonic()
            watched.sign()
        time.sleep(LOOK_S)
    watched.notifier.stopping()


def _refuse(config: Config, host: str, *, allow_remote: bool) -> None:
    if config.registry.url:
        raise Refusal(
            Code.REGISTRY_OTHER,
            "the schemas of this stream live in the registry under registry.url: there is nothing to serve",
            hint="point consumers at that registry",
        )
    if not allow_remote and not _is_loopback(host):
        raise ConfigError(
            Code.USAGE,
            f"{host} is not on loopback: whoever reaches it reads the names of all tables and columns, without a password",
            hint="say --allow-remote, or put a proxy that asks for a password before 127.0.0.1",
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _listen(host: str, port: int, served: Served, say: Say) -> RegistryServer:
    try:
        return RegistryServer(host, port, served.known, say)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            Code.USAGE, f"{host}:{port} cannot be listened on: {error}", hint="name another --port; 0 takes a free one"
        ) from error
