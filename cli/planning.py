"""Do: read the sources and derive the plan, as a document, as lines and as SQL; by the same code that `up` uses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from capture.sqlite_triggers import log_statements, trigger_statements
from cli.wiring import open_source, target_schema
from ops.config import Config
from schemas.bookkeeping import statements as bookkeeping
from schemas.ddl import create_table, grants, indexes
from schemas.introspect import introspect
from schemas.model import Database, KeyKind, Table
from schemas.names import target_names
from schemas.objects import verdicts
from schemas.plan import TablePlan, build_table_plan
from schemas.profile import profile_table

COPY_ROWS_A_SECOND = 50_000
"""Rows of middling width on a small machine (bench/copy.py); `check --speed` measures the two sides."""


def plans_of(config: Config, source: str) -> tuple[Database, dict[str, TablePlan], dict[str, int]]:
    """(database, plan by table, rows by table), in one view of the source."""
    db = open_source(config, source)
    preserve = config.identifiers == "preserve"
    try:
        with db.read_view():
            database = introspect(db)
            tables = [table for table in database.tables.values() if replicable(config, table)]
            names = target_names([table.name for table in tables], preserve=preserve, what="table")
            plans, rows = {}, {}
            for table in tables:
                profile = profile_table(db, table)
                rows[table.name] = profile.rows
                plans[table.name] = build_table_plan(
                    table,
                    profile,
                    source=source,
                    prefix=config.transport.prefix,
                    target_schema=target_schema(config, source),
                    preserve=preserve,
                    target_table=names[table.name],
                    types=config.types,
                )
    finally:
        db.close()
    return database, plans, rows


def replicable(config: Config, table: Table) -> bool:
    return config.wants(table.name) and table.key.kind is not KeyKind.WHOLE_ROW


def plan_document(config: Config, sources: Sequence[str]) -> dict[str, Any]:
    """`plan --json`."""
    result: dict[str, Any] = {}
    for source in sources:
        database, plans, rows = plans_of(config, source)
        tables = [
            {
                "table": name,
                "target": f"{plan.target_schema}.{plan.target_table}",
                "topic": plan.topic,
                "rows": rows[name],
                "key": list(plan.key),
                "key_reason": database.tables[name].key.reason,
                "columns": [
                    {"column": c.name, "declared": c.declared, "type": c.pg_type, "codec": c.codec, "why": c.why}
                    for c in plan.columns
                ],
            }
            for name, plan in plans.items()
        ]
        result[source] = {
            "tables": tables,
            "objects": _objects(config, database, plans),
            "bytes": config.source_path(source).stat().st_size,
            "estimate_s": max(1, round(sum(rows.values()) / COPY_ROWS_A_SECOND)),
        }
    return {"sources": result}


def _objects(config: Config, database: Database, plans: dict[str, TablePlan]) -> list[dict[str, str]]:
    # What the operator leaves out is asked of nobody, also where it could not be moved.
    left_out = {name: table for name, table in database.tables.items() if not config.wants(name)}
    named = replace(database, tables={n: t if n not in left_out else _bare(t) for n, t in database.tables.items()})
    return [
        {"table": one.table, "name": one.name, "kind": one.kind, "verdict": one.verdict.value, "reason": one.reason}
        for one in verdicts(named, plans)
    ]


def _bare(table: Table) -> Table:
    return replace(table, key=replace(table.key, kind=KeyKind.DECLARED))


def plan_lines(document: dict[str, Any]) -> list[str]:
    lines = []
    for source, part in document["sources"].items():
        lines.append(
            f"source {source}: {len(part['tables'])} tables, {sum(t['rows'] for t in part['tables']):,} rows, "
            f"{part['bytes']:,} bytes; the copy takes some {part['estimate_s']} s at {COPY_ROWS_A_SECOND:,} rows a second"
        )
        for table in part["tables"]:
            lines.append(
                f"  {table['table']} -> {table['target']}: {table['rows']:,} rows, key ({', '.join(table['key'])}), "
                f"{table['key_reason']}"
            )
            lines += [
                f"    {c['column']} {c['declared'] or '(no type)'} -> {c['type']}: {c['why']}" for c in table["columns"]
            ]
        verdicts: dict[str, int] = {}
        for one in part["objects"]:
            verdicts[one["verdict"]] = verdicts.get(one["verdict"], 0) + 1
        lines.append(f"  objects: {', '.join(f'{count} {verdict}' for verdict, count in sorted(verdicts.items()))}")
        lines += [
            f"    {one['verdict']}: {one['kind']} {one['name']} on {one['table']}"
            + (f" ({one['reason']})" if one["reason"] else "")
            for one in part["objects"]
            if one["verdict"] != "carried"
        ]
    return lines


def plan_sql(config: Config, sources: Sequence[str]) -> list[str]:
    texts = [*bookkeeping()]
    for source in sources:
        database, plans, _ = plans_of(config, source)
        texts.append(f'CREATE SCHEMA IF NOT EXISTS "{target_schema(config, source)}"')
        for plan in plans.values():
            texts += create_table(plan, sink_role="tailrace_sink")
        for name, plan in plans.items():
            texts += [one.sql for one in indexes(database.tables[name], plan) if one.sql]
        width = max([len(plan.key) for plan in plans.values()], default=1)
        texts.append(f"-- in {config.source_path(source).name}, the SQLite side")
        texts += log_statements(width)
        for number, name in enumerate(plans, 1):
            texts += trigger_statements(database.tables[name], number)
    return texts


def grants_sql(config: Config) -> list[str]:
    schemas = [target_schema(config, source) for source in config.source_databases]
    return grants(
        schemas,
        owner=config.target_role or "tailrace_owner",
        sink="tailrace_sink",
        application="tailrace_app",
        read_only="tailrace_readonly",
    )
