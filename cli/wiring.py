"""Do: build concrete adapters and join the siblings; the only file that knows who implements which port.

Order, and why: the source is opened before the transport, so that a wrong path is told before anything is created; the
transport before the registry, which lives in it; the target last, since capture must be able to run while it is down.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from msgspec.structs import asdict

from adapters.filelock import FileLock
from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from adapters.registry import TopicRegistry
from adapters.sqlite import SqliteDatabase
from capture.limits import LogLimits
from capture.sqlite_source import SqliteSource
from capture.tail import CaptureSettings, CaptureTail
from cli.kafka import open_kafka
from ops.clock import SystemClock
from ops.config import Config
from ops.retry import call_with_retries, with_retries
from ops.telemetry import Telemetry
from ops.units import Done, unheard
from schemas.errors import Code, ConfigError
from schemas.names import schema_topic, target_names
from schemas.policy import ColumnPolicy, Policies
from schemas.ports import REGISTRY_CALLS, TRANSPORT_CALLS, Registry, TopicSettings, Transport
from schemas.transit import plain_url, refuse_plaintext
from sink.group import SinkGroup
from sink.postgres_target import PostgresTarget
from sink.tail import SinkSettings, SinkTail
from snapshot.tail import SILENT_MS, SnapshotTail

Say = Callable[[str, str], None]
TARGET_URL_FILE = "embedded-target"
OPEN_S = 10.0


def open_source(config: Config, name: str, *, read_only: bool = False) -> SqliteDatabase:
    return SqliteDatabase(config.source_path(name), read_only=read_only)


def open_transport(config: Config, *, say: Say | None = None) -> Transport:
    """The stream that is configured. `say`: what was altered of its topics."""
    if config.transport.kind == "kafka":
        return with_retries(open_kafka(config, say=say), TRANSPORT_CALLS)
    path = refuse_folder(config)
    log = call_with_retries(lambda: LocalLog(path), for_s=OPEN_S)
    return with_retries(log, TRANSPORT_CALLS)


def refuse_folder(config: Config) -> Path:
    """Where the local log is, or will be. Raises ConfigError."""
    path = config.path(config.transport.path)
    if path.is_dir():
        raise ConfigError(
            Code.CONFIG_INVALID, f"transport.path: {path} is a folder, the stream is one file", hint="name a file in it"
        )
    return path


def open_registry(config: Config, transport: Transport) -> Registry:
    """The registry that is configured: the schemas topic, or an HTTP one. Asks nothing yet."""
    topic = schema_topic(config.transport.prefix)
    if not config.registry.url:
        return with_retries(TopicRegistry(transport, topic), REGISTRY_CALLS)
    from adapters.registry_http import HttpRegistry

    _refuse_plain_registry(config)
    chosen = config.registry
    registry = HttpRegistry(
        chosen.url,
        transport,
        topic,
        login=lambda: (config.secret(chosen.username), config.secret(chosen.password)),
        ca_file=str(config.path(chosen.ca_file)) if chosen.ca_file else "",
    )
    return with_retries(registry, REGISTRY_CALLS)


def _refuse_plain_registry(config: Config) -> None:
    url = urlsplit(config.registry.url)
    if url.scheme not in ("http", "https") or not url.hostname or url.username or url.query or url.fragment:
        raise ConfigError(
            Code.CONFIG_INVALID,
            "registry.url is no plain http or https address",
            hint='registry.url = "https://host:8081"; the user goes to registry.username and registry.password',
        )
    if not (config.allow_plaintext or config.registry.allow_plaintext):
        refuse_plaintext("the registry at", plain_url(config.registry.url), hint="use https")


def target_url(config: Config) -> str:
    """The configured URL, or that of the embedded server which `up --embedded` runs in the run folder."""
    if config.target_database_url:
        return config.target_url()
    embedded = config.path(config.run_folder) / TARGET_URL_FILE
    if embedded.exists():
        return embedded.read_text().strip()
    raise ConfigError(
        Code.CONFIG_INVALID,
        "target_database_url is empty",
        hint="set it; `tailrace up --embedded` uses a throw-away server instead (trials only)",
    )


def open_target(config: Config, purpose: str) -> Postgres:
    """Connects at first use; the URL and its secrets are read then, and again at every reconnect."""
    return Postgres(
        lambda: target_url(config),
        application_name=f"tailrace-{purpose}",
        role=config.target_role or None,
        session_timeout_s=config.session_timeout_s,
        allow_plaintext=config.allow_plaintext,
    )


def telemetry(config: Config, process: str, *, terminal: bool) -> Telemetry:
    return Telemetry(process, folder=config.path(config.log_folder), terminal=terminal)


def topic_settings(config: Config) -> TopicSettings:
    transport = config.transport
    return TopicSettings(
        partitions=transport.partitions,
        min_compaction_lag_ms=transport.replay_window_s * 1000,
        max_message_bytes=transport.max_message_bytes,
    )


def target_schema(config: Config, source: str) -> str:
    names = target_names([config.target_schema(source)], preserve=config.identifiers == "preserve", what="schema")
    return next(iter(names.values()))


def policies_of(config: Config) -> Policies:
    """What is ordered for values, per database and per column."""
    default = ColumnPolicy(config.types, config.on_nul, config.on_mixed, config.on_misfit)
    own = {name: {key: value for key, value in asdict(one).items() if value} for name, one in config.columns.items()}
    return Policies(default, own)


def capture_settings(config: Config, source: str) -> CaptureSettings:
    return CaptureSettings(
        prefix=config.transport.prefix,
        target_schema=target_schema(config, source),
        preserve=config.identifiers == "preserve",
        policies=policies_of(config),
        batch_rows=config.batch_size,
        max_row_bytes=config.limits.max_row_bytes,
        limits=LogLimits(
            config.limits.max_log_bytes,
            config.limits.min_free_bytes,
            config.limits.max_wal_bytes,
            detach=config.limits.at_limit == "detach",
        ),
        topic=topic_settings(config),
        wants=config.wants,
    )


def capture_lock(config: Config, source: str) -> FileLock:
    """One capture per database: beside the real path, never on the database itself."""
    return FileLock(Path(os.path.realpath(config.source_path(source)) + ".tailrace-lock"))


def up_lock(config: Config) -> FileLock:
    """One `up` per run folder: a second one would take the first one's embedded server and URL away."""
    folder = config.path(config.run_folder)
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / "up.lock", code=Code.UP_RUNNING, what="another up runs on this configuration")


def capture_of(
    config: Config, source: str, transport: Transport, registry: Registry, say: Say, done: Done = unheard
) -> CaptureTail:
    return CaptureTail(
        SqliteSource(open_source(config, source), source),
        transport,
        registry,
        SystemClock(),
        capture_settings(config, source),
        say=say,
        done=done,
    )


def snapshot_of(config: Config, source: str, registry: Registry, say: Say, done: Done = unheard) -> SnapshotTail:
    reader = SqliteSource(open_source(config, source), source)
    target = open_target(config, f"snapshot-{source}")
    return SnapshotTail(
        reader,
        reader,
        target,
        registry,
        SystemClock(),
        max_wal_bytes=config.limits.max_wal_bytes,
        policies=policies_of(config),
        silent_ms=max(SILENT_MS, int(config.session_timeout_s * 1000)),
        say=say,
        done=done,
    )


def sink_of(
    config: Config,
    source: str,
    transport: Transport,
    registry: Registry,
    say: Say,
    done: Done = unheard,
    *,
    target: Postgres | None = None,
) -> SinkTail:
    """`target`: the session of a group's member, which all its sinks share."""
    return SinkTail(
        source,
        PostgresTarget(target or open_target(config, f"sink-{source}"), registry, source, on_misfit=config.on_misfit),
        transport,
        SystemClock(),
        SinkSettings(config.transport.prefix, max_transaction_rows=config.limits.max_transaction_rows),
        owner=f"{os.getpid()}-{uuid.uuid4().hex}",
        say=say,
        done=done,
    )


def sink_group_of(
    config: Config, transport: Transport, registry: Registry, say: Say, done: Done = unheard
) -> SinkGroup:
    """One member for all sources of the configuration."""
    target = open_target(config, "sink-member")
    return SinkGroup(
        f"{config.transport.prefix}:{SinkSettings(config.transport.prefix).group}",
        list(config.source_databases),
        target,
        lambda source: sink_of(config, source, transport, registry, say, done, target=target),
        SystemClock(),
        timeout_ms=int(config.session_timeout_s * 1000),
        say=say,
    )
