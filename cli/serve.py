"""Do: the verb serve: the schemas topic as a schema registry that others can read.

Invariant: it writes nothing, neither to the stream nor on a call; it listens on loopback unless told otherwise, since
schemas name every table and column.
"""

from __future__ import annotations

import ipaddress
import signal
import threading
from contextlib import ExitStack

import click

from adapters.registry import TopicRegistry
from adapters.registry_server import RegistryServer
from cli.options import as_json, config_of, emit
from cli.wiring import Say, open_transport, telemetry
from ops.config import Config
from ops.supervise import parent_alive
from schemas.errors import Code, ConfigError, Refusal
from schemas.names import schema_topic

LOOK_S = 0.5


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
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    try:
        with ExitStack() as held:
            transport = open_transport(config)
            held.callback(transport.close)
            registry = TopicRegistry(transport, schema_topic(config.transport.prefix), create=False)
            registry.known()
            server = _listen(host, port, registry, events.say)
            held.callback(server.close)
            server.start()
            events.event("daemon.started", f"serve at {server.url}")
            emit({"url": server.url}, [f"schemas at {server.url}"], json_output=json_output)
            while not stop.wait(LOOK_S) and parent_alive():
                pass
    except Exception as error:
        events.event("daemon.refused", str(error), level="error")
        raise
    events.event("daemon.stopped", "serve stopped")


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


def _listen(host: str, port: int, registry: TopicRegistry, say: Say) -> RegistryServer:
    try:
        return RegistryServer(host, port, registry.known, say)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            Code.USAGE, f"{host}:{port} cannot be listened on: {error}", hint="name another --port; 0 takes a free one"
        ) from error
