"""Do: the verbs verify and repair."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from adapters.postgres import Postgres
from capture import meta as metas
from capture.install import touch
from capture.sqlite_source import SqliteSource
from cli.final import mark_before
from cli.options import as_json, chosen_sources, config_of, dry_run, emit
from cli.wiring import open_source, open_target
from cutover.authority import AuthorityRow
from cutover.final import Mark, store_mark
from ops.clock import SystemClock
from ops.config import Config
from schemas.authority import Authority
from schemas.errors import Code, Refusal, TailraceError
from schemas.introspect import introspect
from schemas.model import Key
from sink.progress import prepared
from verify.integrity import IntegrityReport, TargetIntegrity, check_source
from verify.report import Report
from verify.verification import Verification

_OPENED = frozenset({Authority.TARGET, Authority.TO_SOURCE, Authority.COMPLETED})
"""What comes at the switch is promised from then on."""


def verify_source(config: Config, name: str, *, tables: Sequence[str] = (), share: float = 1.0) -> Report:
    """Compare one source with the target. Raises Refusal(TARGET_UNPREPARED) before anything was copied."""
    target = open_target(config, "verify")
    db = open_source(config, name)
    try:
        if not prepared(target):
            raise Refusal(Code.TARGET_UNPREPARED, "nothing was copied yet", source=name, hint="tailrace up")
        with db.read_view():
            installed = {table.name for table in metas.read(db).tables.values()}
            expected = [*installed, *(table for table in introspect(db).tables if config.wants(table))]
        source = SqliteSource(db, name)
        whole = not tables and share >= 1.0
        mark = _mark(config, target, name) if whole else None
        report = Verification(source, source, target, SystemClock(), expected=expected, share=share).run(tables)
        if report.clean and mark is not None:
            store_mark(target, name, mark)
        return report
    finally:
        db.close()
        target.close()


def _mark(config: Config, target: Postgres, name: str) -> Mark | None:
    """Both sides can be compared while the stream is away; a switch will then ask for another verification."""
    try:
        return mark_before(config, target, name)
    except TailraceError as error:
        click.echo(f"{name}: no mark for the final verification of a switch: {error.message}", err=True)
        return None


def report_lines(report: Report) -> list[str]:
    rows = sum(table.rows for table in report.tables)
    lines = []
    for table in report.tables:
        if not table.clean:
            lines.append(
                f"  {table.table}: {table.rows:,} rows compared, {table.differing} differing, {table.missing} missing, "
                f"{table.extra} extra, {table.not_compared} not compared {table.reason}"
            )
            lines += [f"    key {key!r}" for key in table.keys[:5]]
    word = "equal" if report.clean else "differences found" if report.differences else "not everything was compared"
    if not report.tables:
        word = "nothing was compared"
    return [f"{report.source}: {len(report.tables)} tables, {rows:,} rows compared: {word}", *lines]


def integrity_source(config: Config, name: str, tables: Sequence[str]) -> IntegrityReport:
    """Both engines' own checks, and everything that was promised. Raises Refusal(TARGET_UNPREPARED)."""
    target = open_target(config, "integrity")
    db = open_source(config, name)
    report = IntegrityReport(name)
    try:
        if not prepared(target):
            raise Refusal(Code.TARGET_UNPREPARED, "nothing was copied yet", source=name, hint="tailrace up")
        damage = db.damage(deep=True)
        with db.read_view():
            meta = metas.read(db)
            database = metas.as_logged(meta, introspect(db))
            check_source(db, database, damage, report)
        expected = [table.name for table in meta.tables.values()]
        opened = AuthorityRow(target, actor="verify").read().authority in _OPENED
        TargetIntegrity(target, report, opened=opened).run(database, expected, tables)
    finally:
        db.close()
        target.close()
    return report


def integrity_lines(report: IntegrityReport) -> list[str]:
    word = "whole" if report.clean else f"{len(report.findings)} findings" if report.tables else "nothing was looked at"
    lines = [f"{report.source}: {report.tables} tables: {word}"]
    lines += [
        f"  {one.kind} {one.name}{f' of {one.table}' if one.table else ''}: {one.text}" for one in report.findings
    ]
    return [*lines, *(f"  note: {one}" for one in report.notes)]


@click.command("verify")
@click.argument("tables", nargs=-1)
@click.option("--source", "sources", multiple=True)
@click.option("--sample", "percent", type=click.FloatRange(0, 100, min_open=True), default=100.0, show_default=True)
@click.option("--integrity", is_flag=True, help="Check both engines, and every index, constraint and sequence by name.")
@as_json
@click.pass_context
def verify_command(
    ctx: click.Context,
    tables: tuple[str, ...],
    sources: tuple[str, ...],
    percent: float,
    integrity: bool,
    json_output: bool,
) -> None:
    """Compare every row on both sides while they are live. Exit 4 when differences were found."""
    config = config_of(ctx)
    if integrity:
        checked = [integrity_source(config, name, tables) for name in chosen_sources(config, sources)]
        whole = all(report.clean for report in checked)
        lines = [line for report in checked for line in integrity_lines(report)]
        emit(
            {"sources": {one.source: one.as_json() for one in checked}, "clean": whole}, lines, json_output=json_output
        )
        ctx.exit(0 if whole else 4)
    reports = [
        verify_source(config, name, tables=tables, share=percent / 100) for name in chosen_sources(config, sources)
    ]
    if tables:
        reports = [
            report for report in reports if any(not one.reason.startswith("the target does") for one in report.tables)
        ] or reports
    clean = all(report.clean for report in reports)
    document: dict[str, Any] = {"sources": {one.source: one.as_json() for one in reports}, "clean": clean}
    emit(document, [line for report in reports for line in report_lines(report)], json_output=json_output)
    if any(report.differences for report in reports):
        ctx.exit(4)
    if not clean and percent >= 100:
        ctx.exit(4)


@click.command("repair")
@click.argument("tables", nargs=-1)
@click.option("--source", "sources", multiple=True)
@as_json
@dry_run
@click.pass_context
def repair_command(
    ctx: click.Context, tables: tuple[str, ...], sources: tuple[str, ...], json_output: bool, dry_run: bool
) -> None:
    """Touch the keys that differ, so that the stream sends their rows again."""
    config = config_of(ctx)
    result: dict[str, dict[str, int]] = {}
    for name in chosen_sources(config, sources):
        report = verify_source(config, name, tables=tables)
        result[name] = {}
        for table in report.tables:
            if table.keys:
                result[name][table.table] = (
                    len(table.keys) if dry_run else touch_keys(config, name, table.table, table.keys)
                )
    verb = "would be touched" if dry_run else "touched: their rows are sent again"
    lines = [f"{name}.{table}: {count} keys {verb}" for name, part in result.items() for table, count in part.items()]
    emit(result, lines or ["nothing differs"], json_output=json_output)


def touch_keys(config: Config, source: str, table: str, keys: Sequence[Key]) -> int:
    """Log keys at the source."""
    db = open_source(config, source)
    try:
        metas.refuse_fenced(db, "to send rows again")
        with db.read_view():
            meta = metas.read(db)
            one = metas.as_logged(meta, introspect(db)).tables[table]
        number = meta.number_of(table)
        if number is None:
            raise Refusal(Code.TABLE_UNSUPPORTED, "this table is not replicated", table=table, hint="tailrace plan")
        return touch(db, one, number, keys)
    finally:
        db.close()
