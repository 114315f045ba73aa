"""Decide: the configuration, typed, from one TOML file; an unknown key is an error that names the nearest known one.

Invariant: secrets are never kept here: `${NAME}`, `${file:PATH}` and `${command:..}` are replaced at the moment of use
(ops/secrets.py), so a rotated secret is read again at the next connect.
Relative paths resolve against the folder of the configuration file, so that a daemon may start anywhere.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

import msgspec

from ops.config_cutover import CutoverConfig, cutover_problem
from ops.config_hooks import HooksConfig, hooks_problem
from ops.config_routing import HealthConfig, RouterConfig, ShiftConfig, problem
from ops.secrets import resolve, resolve_url
from schemas.errors import Code, ConfigError, Refusal
from schemas.formats import CONFIGURATION, refuse_unreadable
from schemas.names import target_names
from schemas.policy import CHOICES, strange_name

MIB = 1024 * 1024
MIN_SESSION_S = 3.0


class TransportConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[transport]: where the stream lives. `local` is one file and needs no broker."""

    kind: str = "local"
    path: str = "tailrace-stream.db"
    prefix: str = "tailrace"
    partitions: int = 1
    bootstrap_servers: str = ""
    driver: str = "kafka-python"
    """kafka-python, or confluent (the extra `fast`)."""
    replication_factor: int = 1
    topics: str = "create"
    """create: missing topics are made; existing: an administrator makes them, nothing is created."""
    client: dict[str, str | int | float | bool] = {}
    """Settings of the Kafka client, under kafka-python's names."""
    replay_window_s: int = 7 * 24 * 3600
    max_message_bytes: int = 16 * MIB


class RegistryConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[registry]: where Avro schemas live. Empty url: in the stream itself, topic `<prefix>.schemas`."""

    url: str = ""
    """Of Confluent's calls; Apicurio: http://host/apis/ccompat/v7."""
    username: str = ""
    password: str = ""
    ca_file: str = ""
    allow_plaintext: bool = False
    """Let schemas and the password travel in plain text to another machine."""


class LimitsConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[limits]: what may grow, and what happens at the limit."""

    max_log_bytes: int = 1024 * MIB
    min_free_bytes: int = 256 * MIB
    max_wal_bytes: int = 256 * MIB
    """Above this, what a long reader keeps in the source's -wal is said, and copies read more slowly."""
    at_limit: str = "detach"
    """detach: our triggers go and the application lives (a resync is needed); keep: the log goes on growing."""
    max_row_bytes: int = 16 * MIB
    max_transaction_rows: int = 200_000
    max_lag_changes: int = 10_000


class ColumnConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """[columns."source.table.column"]: what differs for one column; empty: as for all. See schemas/policy.py."""

    type: str = ""
    on_nul: str = ""
    on_mixed: str = ""
    on_misfit: str = ""
    restore: str = ""


class Config(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One tailrace.toml."""

    source_databases: dict[str, str]
    target_database_url: str = ""
    allow_plaintext: bool = False
    """Records and passwords may travel unencrypted to other machines."""
    batch_size: int = 1000
    target_role: str = ""
    """Role that owns what is created (SET ROLE after connecting); empty: the connecting role."""
    identifiers: str = "fold"
    types: str = "profile"
    on_nul: str = "bytea"
    on_mixed: str = "jsonb"
    on_misfit: str = "widen"
    exclude_tables: list[str] = []
    include_tables: list[str] = []
    views: list[str] | str = []
    """Views to make on the target when it opens: names, or "all"."""
    target_schemas: dict[str, str] = {}
    backup_folder: str = "tailrace-backups"
    log_folder: str = "."
    run_folder: str = ".tailrace"
    sink_group: bool = False
    """Several sinks of this configuration share its sources; False: a second sink is refused."""
    session_timeout_s: float = 10.0
    """How long a sink or a copy that fell silent keeps what it works on from the others."""
    columns: dict[str, ColumnConfig] = {}
    transport: TransportConfig = TransportConfig()
    registry: RegistryConfig = RegistryConfig()
    limits: LimitsConfig = LimitsConfig()
    cutover: CutoverConfig = CutoverConfig()
    router: RouterConfig = RouterConfig()
    shift: ShiftConfig = ShiftConfig()
    health: HealthConfig = HealthConfig()
    hooks: HooksConfig = HooksConfig()
    format: int = CONFIGURATION.current
    folder: str = ""
    """Folder of the file this was read from; relative paths resolve against it."""

    def path(self, relative: str) -> Path:
        return Path(self.folder, relative)

    def source_path(self, name: str) -> Path:
        """Raises ConfigError when the source is not configured."""
        if name not in self.source_databases:
            known = ", ".join(sorted(self.source_databases))
            raise ConfigError(
                Code.CONFIG_INVALID, f"there is no source {name!r} in [source_databases]", hint=f"one of: {known}"
            )
        return self.path(self.source_databases[name])

    def target_schema(self, source: str) -> str:
        return self.target_schemas.get(source, source)

    def wants(self, table: str) -> bool:
        """Is this table replicated? Names match exactly or as `source.table`."""
        if self.include_tables and table not in self.include_tables:
            return False
        return table not in self.exclude_tables

    def target_url(self) -> str:
        """The target's URL with its secrets as they are now. Raises ConfigError naming where one is missing."""
        return resolve_url(self.target_database_url, folder=Path(self.folder))

    def client_settings(self) -> dict[str, str | int | float | bool]:
        """[transport.client] with its secrets as they are now; never kept."""
        return {
            name: self.secret(value) if isinstance(value, str) else value
            for name, value in self.transport.client.items()
        }

    def secret(self, text: str) -> str:
        """A setting with its secrets as they are now; never kept."""
        return resolve(text, folder=Path(self.folder))


_ALLOWED = {
    "identifiers": {"fold", "preserve"},
    **{name: set(CHOICES[name]) for name in ("types", "on_nul", "on_mixed", "on_misfit")},
    "transport.kind": {"local", "kafka"},
    "transport.driver": {"kafka-python", "confluent"},
    "transport.topics": {"create", "existing"},
    "limits.at_limit": {"detach", "keep"},
}


def load(path: Path) -> Config:
    """Read and check one configuration file.

    Raises: ConfigError(CONFIG_MISSING | CONFIG_INVALID) naming the file and the key.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise ConfigError(
            Code.CONFIG_MISSING, f"{path} does not exist", hint="tailrace init DATABASE.. writes one"
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(Code.CONFIG_INVALID, f"{path}: {error}", hint="mend the file and try again") from error
    return parse(document, folder=path.resolve().parent, name=str(path))


def parse(document: dict[str, Any], *, folder: Path, name: str) -> Config:
    """Check a parsed document."""
    if isinstance(number := document.get("format", 1), int):
        refuse_unreadable(CONFIGURATION, number, name)
    _refuse_unknown(document, Config, name, "")
    for table in ("transport", "registry", "limits", "cutover", "router", "shift", "health", "hooks"):
        _refuse_unknown(document.get(table, {}), type(getattr(Config({}), table)), name, f"{table}.")
    for column, settings in document.get("columns", {}).items() if isinstance(document.get("columns"), dict) else ():
        _refuse_unknown(settings, ColumnConfig, name, f'columns."{column}".')
    try:
        config = msgspec.convert({**document, "folder": str(folder)}, Config)
    except msgspec.ValidationError as error:
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: {error}", hint="mend this key and try again") from error
    for key, allowed in _ALLOWED.items():
        value: Any = config
        for part in key.split("."):
            value = getattr(value, part)
        if value not in allowed:
            raise ConfigError(
                Code.CONFIG_INVALID, f"{name}: {key} = {value!r}", hint=f"one of: {', '.join(sorted(allowed))}"
            )
    if isinstance(config.views, str) and config.views != "all":
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: views = {config.views!r}", hint='a list of names, or "all"')
    for column, one in config.columns.items():
        for key, value in msgspec.structs.asdict(one).items():
            if value and value not in CHOICES[key]:
                near = difflib.get_close_matches(value, CHOICES[key], n=1)
                hint = f'did you mean "{near[0]}"?' if near else f"one of: {', '.join(CHOICES[key])}"
                raise ConfigError(Code.CONFIG_INVALID, f'{name}: columns."{column}".{key} = {value!r}', hint=hint)
    if not config.source_databases:
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: [source_databases] is empty", hint='add: name = "file.db"')
    _refuse_shared(config, name)
    _refuse_numbers(config, name)
    if strange := strange_name(config.columns, config.source_databases):
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: {strange[0]}", hint=strange[1])
    return config


def _refuse_shared(config: Config, name: str) -> None:
    """Two sources are two files and, unless the configuration says so itself, two schemas."""
    files: dict[str, str] = {}
    for source in config.source_databases:
        path = os.path.realpath(config.source_path(source))
        if path in files:
            raise ConfigError(
                Code.CONFIG_INVALID,
                f"{name}: sources {files[path]!r} and {source!r} are one file, {path}",
                hint="one name a file: leave one of them out",
            )
        files[path] = source
    own = [source for source in config.source_databases if source not in config.target_schemas]
    try:
        target_names(own, preserve=config.identifiers == "preserve", what="schema")
    except Refusal as refusal:
        raise ConfigError(
            Code.CONFIG_INVALID, f"{name}: {refusal.message}", hint="give one of them a name in [target_schemas]"
        ) from refusal


def _refuse_numbers(config: Config, name: str) -> None:
    positive = {
        "batch_size": config.batch_size,
        "transport.partitions": config.transport.partitions,
        "transport.replication_factor": config.transport.replication_factor,
        "limits.max_row_bytes": config.limits.max_row_bytes,
        "limits.max_transaction_rows": config.limits.max_transaction_rows,
    }
    for key, value in positive.items():
        if value < 1:
            raise ConfigError(Code.CONFIG_INVALID, f"{name}: {key} = {value}", hint="a whole number from 1 on")
    if config.session_timeout_s < MIN_SESSION_S:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"{name}: session_timeout_s = {config.session_timeout_s:g}: a sink that works would count as silent",
            hint=f"seconds, from {MIN_SESSION_S:g} on",
        )
    wrong = cutover_problem(config.cutover) or hooks_problem(config.hooks, config.cutover.lease_s)
    if wrong := wrong or problem(config.shift, config.health):
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: {wrong[0]}", hint=wrong[1])
    if config.limits.max_row_bytes > config.transport.max_message_bytes:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"{name}: limits.max_row_bytes is above transport.max_message_bytes: such a row could never be sent",
            hint="raise transport.max_message_bytes with it",
        )


def _refuse_unknown(table: Any, kind: type[msgspec.Struct], name: str, prefix: str) -> None:
    if not isinstance(table, dict):
        return
    known = [field for field in kind.__struct_fields__ if field != "folder"]
    for key in table:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {prefix}{near[0]}?" if near else f"known keys: {', '.join(known)}"
            raise ConfigError(Code.CONFIG_INVALID, f"{name}: unknown key {prefix}{key}", hint=hint)


def sample(
    sources: dict[str, str], *, target_url: str = "postgresql://user@127.0.0.1/db", bootstrap_servers: str = ""
) -> str:
    """A commented tailrace.toml for these sources; with `bootstrap_servers` its stream is in topics of that broker."""
    kind = (
        f'kind = "kafka"\nbootstrap_servers = {_toml_text(bootstrap_servers)}'
        if bootstrap_servers
        else 'kind = "local"'
    )
    lines = "\n".join(f"{_toml_key(name)} = {_toml_text(path)}" for name, path in sources.items())
    return f"""# Tailrace: moves these SQLite databases to PostgreSQL while the application goes on writing.
# The password does not belong here: use PGPASSWORD, ~/.pgpass, ${{NAME}} for an environment variable, ${{file:PATH}} or
# ${{command:ARGUMENTS}}. Off this machine it wants sslmode=verify-full (or require).
target_database_url = {_toml_text(target_url)}

# Changes read in one go from a change log.
batch_size = 1000
# Role that owns the tables on the target (see `tailrace plan --grants`); default: the connecting role.
# target_role = "tailrace_owner"
# "fold": identifiers in lower case, as unquoted SQL expects them; "preserve": as they are in SQLite.
identifiers = "fold"
# Several `tailrace sink` of this configuration share its sources; one that dies or falls silent is replaced.
# sink_group = true
# session_timeout_s = 10
# Tables that stay behind, by name.
exclude_tables = []
# Views that the target gets when it opens, where their SQL has a counterpart: names, or "all".
# views = "all"

[source_databases]
# name = file. Each goes to the PostgreSQL schema of its name.
{lines}

[transport]
# "local": the stream is one file on this machine. "kafka": topics of a broker; see docs/kafka.md.
{kind}
path = "tailrace-stream.db"

[limits]
# The change log lives in your database file. At the limit: "detach" lets the application live and needs a resync.
max_log_bytes = {1024 * MIB}
min_free_bytes = {256 * MIB}
at_limit = "detach"
"""


def _toml_text(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _toml_key(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z0-9_-]+", name) else _toml_text(name)
