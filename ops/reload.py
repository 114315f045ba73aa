"""Decide: which values of the configuration a running daemon takes over.

What says where the data are and how they are named takes a restart, which an operator does on purpose; connections,
limits, sizes and secrets come anew with a reload. Pure.
"""

from __future__ import annotations

from ops.config import Config

FIXED = (
    "source_databases",
    "target_role",
    "identifiers",
    "types",
    "exclude_tables",
    "include_tables",
    "target_schemas",
    "log_folder",
    "run_folder",
    "transport.kind",
    "transport.path",
    "transport.prefix",
    "transport.partitions",
)


def moved(before: Config, after: Config) -> list[str]:
    """Keys that differ and take a restart."""
    return [key for key in FIXED if _value(before, key) != _value(after, key)]


def _value(config: Config, key: str) -> object:
    value: object = config
    for part in key.split("."):
        value = getattr(value, part)
    return value
