"""Do: what following costs a day: sizes of change log, stream and bookkeeping, read by capture and shown by status.

The readings lie in the run folder of the capture daemon. On another host, and in the first minutes, growth is unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from adapters.postgres import Postgres
from capture.sqlite_source import SqliteSource
from cli.wiring import open_source, open_target
from ops.clock import SystemClock
from ops.config import Config
from ops.readings import Readings, per_day, read, seconds_to
from schemas.errors import TailraceError
from schemas.ports import Transport

BOOKKEEPING = (
    "SELECT coalesce(sum(pg_total_relation_size(oid)), 0)::bigint FROM pg_class WHERE relkind = 'r' AND relnamespace = "
    "(SELECT oid FROM pg_namespace WHERE nspname = 'tailrace')"
)
NAMES = ("stream_bytes", "bookkeeping_bytes")


def _path(config: Config, source: str) -> Path:
    return config.path(config.run_folder) / "growth" / f"{source.encode().hex()}.json"


def readings_of(config: Config, source: str, transport: Transport) -> Readings:
    """Of one source, for the capture daemon."""
    size = getattr(transport, "size_bytes", None)

    def take() -> dict[str, int | None]:
        return {
            "log_bytes": _log_bytes(config, source),
            "stream_bytes": size() if size is not None else None,
            "bookkeeping_bytes": _bookkeeping_bytes(config),
        }

    return Readings(_path(config, source), take, SystemClock())


def _log_bytes(config: Config, source: str) -> int | None:
    try:
        db = open_source(config, source)
        try:
            with SqliteSource(db, source).view() as view:
                return view.log_bytes()
        finally:
            db.close()
    except TailraceError:
        return None  # capture itself says why


def _bookkeeping_bytes(config: Config) -> int | None:
    target: Postgres | None = None
    try:
        target = open_target(config, "growth")
        return int(target.rows(BOOKKEEPING)[0][0])
    except TailraceError:
        return None  # the sink says why
    finally:
        if target is not None:
            target.close()


def with_growth(document: dict[str, Any], config: Config) -> dict[str, Any]:
    """The status document with `growth` of every source, and of what all share."""
    now_ms = SystemClock().now_ms()
    shared: dict[str, float | None] = {f"{name}_per_day": None for name in NAMES}
    for name, one in document["sources"].items():
        readings = read(_path(config, name))
        day = per_day(readings, "log_bytes", now_ms=now_ms)
        limit = config.limits.max_log_bytes
        one["growth"] = {
            "log_bytes_per_hour": None if day is None else day / 24,
            "log_bytes_per_day": day,
            "log_limit_bytes": limit,
            "seconds_to_limit": seconds_to(limit, readings, "log_bytes", now_ms=now_ms),
        }
        for what in NAMES:
            grown = per_day(readings, what, now_ms=now_ms)
            shared[f"{what}_per_day"] = shared[f"{what}_per_day"] if grown is None else grown
    return {**document, "growth": shared}
