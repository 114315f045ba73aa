"""Do: the verb quarantine: list, show, retry and waive rows that could not be captured or applied.

Invariant: a kept record is never applied again: it may be older than what the target has. Retry touches the key, so that
the row is read and sent as it is now. What the way back could not bring waits in the source's own file; a row that is waived
there goes forward after the rollback as the source has it (test_a_row_that_sqlite_cannot_hold_keeps_writes_where_they_are).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.content import touch_keys
from cli.options import as_json, config_of, dry_run, emit
from cli.quarantine_back import rows_kept_back, send_back, waive_back
from cli.trace import trace_row
from cli.wiring import open_registry, open_target, open_transport
from cutover.prepare import plans_of
from ops.config import Config
from schemas.avro import unframe
from schemas.errors import Code, Refusal
from schemas.model import BadText, Key
from schemas.plan import plan_from_json
from schemas.ports import Registry
from schemas.rows import KeyCodec
from sink.progress import prepared

_ROWS = """SELECT q.source, q."table", q.key, q.reason, q.since::text, q.waived, t.plan::text
    FROM tailrace.quarantine q LEFT JOIN tailrace.tables t ON t.source = q.source AND t."table" = q."table"
    ORDER BY q.since, q.source, t."table" """


@dataclass(frozen=True, slots=True)
class Kept:
    """One row that stays behind."""

    source: str
    table: str
    key: Key
    columns: tuple[str, ...]
    reason: str
    since: str
    waived: str | None
    side: str = "target"
    """Where the row is missing. `source`: it was written on PostgreSQL, and a rollback would lose it."""

    def as_json(self) -> dict[str, Any]:
        named = {name: _shown(value) for name, value in zip(self.columns, self.key, strict=True)}
        document = {
            "source": self.source,
            "table": self.table,
            "key": named,
            "reason": self.reason,
            "since": self.since,
            "side": self.side,
        }
        return {**document, "waived": self.waived}

    def line(self) -> str:
        key = ", ".join(f"{name}={_shown(value)!r}" for name, value in zip(self.columns, self.key, strict=True))
        waived = f", waived: {self.waived}" if self.waived else ""
        missing = "; missing in SQLite" if self.side == "source" else ""
        return f"{self.source}.{self.table} {key}: {self.reason} (since {self.since}{waived}{missing})"


def _shown(value: object) -> object:
    """A value as JSON can carry it; bytes as SQLite would write them."""
    if isinstance(value, BadText):
        return f"CAST(x'{value.hex()}' AS TEXT)"
    return f"x'{value.hex()}'" if isinstance(value, bytes) else value


@click.group("quarantine")
def quarantine_command() -> None:
    """Rows that could not be captured or applied: kept, shown, tried again."""


@quarantine_command.command("list")
@as_json
@click.pass_context
def list_command(ctx: click.Context, json_output: bool) -> None:
    """Every quarantined row with its reason."""
    _emit(kept(config_of(ctx)), json_output=json_output)


@quarantine_command.command("show", context_settings={"ignore_unknown_options": True})
@click.argument("table")
@click.argument("key", nargs=-1)
@click.option("--source", default=None, help="Needed when several sources have a table of this name.")
@as_json
@click.pass_context
def show_command(ctx: click.Context, table: str, key: tuple[str, ...], source: str | None, json_output: bool) -> None:
    """The quarantined rows of one table; with a key also where that row stands on its way."""
    config = config_of(ctx)
    found = [one for one in kept(config) if one.table == table and source in (None, one.source)]
    if not key:
        _emit(found, json_output=json_output)
        return
    found = [one for one in found if tuple(map(str, one.key)) == key]
    if not found:
        raise Refusal(
            Code.USAGE,
            f"no row {' '.join(key)} of {table} is in quarantine",
            table=table,
            hint="tailrace quarantine list",
        )
    trace = trace_row(config, table, key, source=source or found[0].source)
    lines = [*(one.line() for one in found), *(f"  {name}: {value}" for name, value in trace.items())]
    emit({"quarantine": [one.as_json() for one in found], "trace": trace}, lines, json_output=json_output)


@quarantine_command.command("retry")
@click.option("--table", default=None)
@as_json
@dry_run
@click.pass_context
def retry_command(ctx: click.Context, table: str | None, json_output: bool, dry_run: bool) -> None:
    """Touch the keys: the rows are read and sent again as they are now; the kept, old record is never re-applied."""
    config = config_of(ctx)
    chosen = [one for one in kept(config) if table in (None, one.table)]
    if not dry_run:
        for one in chosen:
            send = touch_keys if one.side == "target" else send_back
            send(config, one.source, one.table, [one.key])
    verb = "would be touched" if dry_run else "touched"
    emit({"touched": 0 if dry_run else len(chosen)}, [f"{len(chosen)} keys {verb}"], json_output=json_output)


@quarantine_command.command("waive")
@click.argument("source")
@click.argument("table")
@click.option("--reason", required=True)
@as_json
@dry_run
@click.pass_context
def waive_command(ctx: click.Context, source: str, table: str, reason: str, json_output: bool, dry_run: bool) -> None:
    """Accept that these rows stay behind; verify still reports them."""
    config = config_of(ctx)
    config.source_path(source)
    chosen = [one for one in kept(config) if (one.source, one.table, one.waived) == (source, table, None)]
    if not chosen:
        raise Refusal(
            Code.USAGE,
            f"nothing of {source}.{table} waits in quarantine",
            source=source,
            hint="tailrace quarantine list",
        )
    count = len(chosen)
    if not dry_run and chosen[0].side == "source":
        count = waive_back(config, source, table, reason)
    elif not dry_run:
        target = open_target(config, "quarantine")
        try:
            count = target.run(
                'UPDATE tailrace.quarantine SET waived = %s WHERE source = %s AND "table" = %s AND waived IS NULL',
                (reason, source, table),
            )
        finally:
            target.close()
    verb = "would be waived" if dry_run else "waived"
    emit({"waived": 0 if dry_run else count}, [f"{count} rows {verb}: {reason}"], json_output=json_output)


def kept(config: Config) -> Sequence[Kept]:
    """Everything in quarantine, oldest first."""
    target = open_target(config, "quarantine")
    try:
        there = prepared(target)
        found = target.rows(_ROWS) if there else []
        plans = {(plan.source, plan.table): plan for plan in plans_of(target)} if there else {}
    finally:
        target.close()
    back = rows_kept_back(config, plans)
    if not found and not back:
        return []
    transport = open_transport(config)
    try:
        registry = open_registry(config, transport)
        return [_kept(registry, row) for row in found] + [_kept(registry, row, side="source") for row in back]
    finally:
        transport.close()


def _kept(registry: Registry, row: tuple[Any, ...], *, side: str = "target") -> Kept:
    source, table, raw, reason, since, waived, plan = row
    schema_id, payload = unframe(bytes(raw))
    (key,) = KeyCodec(registry.schema(schema_id)).decode([payload])
    # A row quarantined under an older key has other columns than the plan of today.
    columns = plan_from_json(plan).key if plan else ()
    if len(columns) != len(key):
        columns = tuple(f"key{at}" for at in range(1, len(key) + 1))
    return Kept(source, table, key, tuple(columns), reason, since, waived, side)


def _emit(rows: Iterable[Kept], *, json_output: bool) -> None:
    rows = list(rows)
    lines = [one.line() for one in rows] or ["nothing is in quarantine"]
    emit([one.as_json() for one in rows], lines, json_output=json_output)
