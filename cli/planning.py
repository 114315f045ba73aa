"""Do: read the sources and derive the plan, as a document and as SQL; by the same code that `up` uses."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from capture.sqlite_triggers import log_statements, trigger_statements
from cli.profiling import ProfileBar, ProfileCache
from cli.wiring import open_source, policies_of, target_schema
from ops.config import Config
from schemas.advice import seen
from schemas.bookkeeping import statements as bookkeeping
from schemas.ddl import create_table, grants, indexes, not_nulls
from schemas.errors import Code, ConfigError, Failed
from schemas.introspect import introspect
from schemas.model import Database, KeyKind, Table
from schemas.names import fold, quote, target_names
from schemas.objects import ObjectVerdict, Verdict, When, parents_of, verdicts, wanted_views
from schemas.opening import after_switch, at_switch
from schemas.orphans import orphans
from schemas.plan import TablePlan
from schemas.planner import plan_table
from schemas.policy import Policies
from schemas.ports import Sqlite
from schemas.restore import unrestorable
from schemas.sequences import generated_key, identity

COPY_ROWS_A_SECOND = 50_000
"""Rows of middling width on a small machine (bench/copy.py); `check --speed` measures the two sides."""


@dataclass(frozen=True, slots=True)
class SourcePlan:
    """One source as one view of it shows. `rows`, `sizes` (bytes on disk, None: not known), `longest` (column -> bytes of
    its longest value), `refused` (column -> why its policy cannot be followed): by table."""

    database: Database
    plans: dict[str, TablePlan]
    rows: dict[str, int]
    sizes: dict[str, int] | None
    longest: dict[str, dict[str, int]]
    orphaned: Mapping[tuple[str, int], int]
    """(table, place of the foreign key) -> rows without a parent."""
    refused: dict[str, dict[str, str]]


def plan_of(config: Config, source: str, *, show: ProfileBar | None = None) -> SourcePlan:
    """Everything derived from one source, in one view of it.

    Raises ConfigError for a column in the configuration that the source does not have."""
    db = open_source(config, source)
    preserve = config.identifiers == "preserve"
    policies = policies_of(config)
    cache = ProfileCache(config.path(config.run_folder) / f"profile-{source}.json")
    try:
        # Before the view opens: what is written in between makes the kept profile look older than it is, never newer.
        state = cache.state(db)
        with db.read_view():
            database = introspect(db)
            _refuse_unknown_columns(policies, source, database)
            tables = [table for table in database.tables.values() if replicable(config, table)]
            names = target_names([table.name for table in tables], preserve=preserve, what="table")
            made = SourcePlan(database, {}, {}, _sizes(db, database), {}, orphans(db, tables).rows, {})
            for table in tables:
                asked = [(c.name, policies.of(source, table.name, c.name).type) for c in table.columns]
                planned = plan_table(
                    db,
                    table,
                    policies,
                    source=source,
                    prefix=config.transport.prefix,
                    target_schema=target_schema(config, source),
                    preserve=preserve,
                    target_table=names[table.name],
                    profile=cache.find(table, state, asked),
                    said=show.table(source, table.name) if show is not None else lambda rows, expected: None,  # noqa: ARG005
                )
                cache.keep(table, state, asked, planned.profile)
                made.rows[table.name] = planned.profile.rows
                made.longest[table.name] = {name: one.max_bytes for name, one in planned.profile.columns.items()}
                made.plans[table.name] = planned.plan
                made.refused[table.name] = planned.refused
    finally:
        db.close()
    cache.save()
    return made


def _refuse_unknown_columns(policies: Policies, source: str, database: Database) -> None:
    """A setting for a column that is not there does nothing, and its author thinks it does."""
    known = {
        fold(f"{source}.{table.name}.{column.name}"): f"{source}.{table.name}.{column.name}"
        for table in database.tables.values()
        for column in table.columns
    }
    for name in policies.names(source):
        if fold(name) not in known:
            near = difflib.get_close_matches(fold(name), known, n=1)
            raise ConfigError(
                Code.CONFIG_INVALID,
                f'[columns."{name}"]: source {source} has no such column',
                source=source,
                hint=f'did you mean "{known[near[0]]}"?' if near else "tailrace plan lists the columns",
            )


def unknown_tables(config: Config) -> dict[str, str]:
    """Names in include_tables, exclude_tables and views that no source has -> what was meant. Such a setting does nothing, and
    its author thinks it does: an included table would stay behind, an excluded one would be copied."""
    known: set[str] = set()
    for source in config.source_databases:
        db = open_source(config, source)
        try:
            with db.read_view():
                database = introspect(db)
                known |= {*database.tables, *(one.name for one in database.objects)}
        finally:
            db.close()
    found = {}
    views = [] if isinstance(config.views, str) else config.views
    for setting in ("include_tables", "exclude_tables", "views"):
        for name in views if setting == "views" else getattr(config, setting):
            if name not in known:
                # A name in other letters is the nearest of all, and names are compared as they are written.
                alike = [one for one in known if fold(one) == fold(name)]
                near = alike or difflib.get_close_matches(name, known, n=1)
                found[f"{setting}: {name}"] = f"did you mean {near[0]!r}?" if near else "tailrace plan lists the tables"
    return found


def _refuse_unknown_tables(config: Config) -> None:
    for name, hint in unknown_tables(config).items():
        raise ConfigError(Code.CONFIG_INVALID, f"{name}: no source has it", hint=hint)


def _sizes(db: Sqlite, database: Database) -> dict[str, int] | None:
    """Bytes of each table with its indexes; None where this SQLite was built without dbstat."""
    try:
        pages = {name: int(size) for name, size in db.rows("SELECT name, sum(pgsize) FROM dbstat GROUP BY name")}
    except Failed as error:
        if error.code is not Code.SOURCE_IO:
            raise
        return None
    return {
        name: pages.get(name, 0) + sum(pages.get(index.name, 0) for index in table.indexes)
        for name, table in database.tables.items()
    }


def replicable(config: Config, table: Table) -> bool:
    return config.wants(table.name) and table.key.kind is not KeyKind.WHOLE_ROW


def plan_document(config: Config, sources: Sequence[str], *, show: ProfileBar | None = None) -> dict[str, Any]:
    """`plan --json`."""
    _refuse_unknown_tables(config)
    return {"sources": {source: _document(config, source, show) for source in sources}}


def refusals(document: dict[str, Any]) -> list[str]:
    """What the plan refuses, by name."""
    return [
        f"{source}.{one['table']}" + (f".{one['name']}" if one["kind"] == "column" else "") + f": {one['reason']}"
        for source, part in document["sources"].items()
        for one in part["objects"]
        if one["verdict"] == "refused"
    ]


def _document(config: Config, source: str, show: ProfileBar | None) -> dict[str, Any]:
    one = plan_of(config, source, show=show)
    policies = policies_of(config)
    objects = _objects(config, one)
    tables = [
        {
            "table": name,
            "target": f"{plan.target_schema}.{plan.target_table}",
            "topic": plan.topic,
            "rows": one.rows[name],
            "bytes": None if one.sizes is None else one.sizes[name],
            "key": list(plan.key),
            "key_reason": one.database.tables[name].key.reason,
            "columns": [
                {"column": c.name, "declared": c.declared, "type": c.pg_type, "codec": c.codec, "why": c.why}
                for c in plan.columns
            ],
            "not_restorable": unrestorable(plan, policies),
            "seen": [{"column": column, "text": text} for column, text in seen(one.database.tables[name], plan)],
        }
        for name, plan in one.plans.items()
    ]
    return {
        "tables": tables,
        "objects": [
            {
                "table": o.table,
                "name": o.name,
                "target": o.target or None,
                "kind": o.kind,
                "verdict": o.verdict.value,
                "reason": o.reason,
                "when": o.when.value,
            }
            for o in objects
        ],
        "stages": [
            {"when": when.value, "objects": [f"{o.kind} {o.label} of {o.table}" for o in objects if o.when is when]}
            for when in When
            if when is not When.NEVER
        ],
        "choices": _choices(config, one, objects),
        "bytes": config.source_path(source).stat().st_size,
        "estimate_s": max(1, round(sum(one.rows.values()) / COPY_ROWS_A_SECOND)),
    }


def _objects(config: Config, one: SourcePlan) -> list[ObjectVerdict]:
    # What the operator leaves out is asked of nobody, also where it could not be moved.
    tables = one.database.tables
    left_out = {name for name in tables if not config.wants(name)}
    named = replace(one.database, tables={n: t if n not in left_out else _bare(t) for n, t in tables.items()})
    found = verdicts(named, one.plans, views=config.views, longest=one.longest, orphaned=one.orphaned)
    return found + [
        ObjectVerdict(table, column, "column", Verdict.REFUSED, why, When.NEVER)
        for table, columns in one.refused.items()
        for column, why in columns.items()
    ]


def _choices(config: Config, one: SourcePlan, objects: Sequence[ObjectVerdict]) -> list[str]:
    """Settings that would give another plan."""
    found = []
    codecs = {column.codec.partition(":")[0] for plan in one.plans.values() for column in plan.columns}
    if config.types != "storage" and codecs & {"boolean", "date", "timestamp", "json", "numeric"}:
        found.append(
            'types = "storage" keeps 0 and 1, dates and JSON as numbers and text, as the application reads them now'
        )
    if any(o.kind == "view" and o.reason.startswith("not asked for") for o in objects):
        found.append('views = "all" makes the views that have a counterpart when the target opens')
    refused = sorted({o.table for o in objects if o.verdict is Verdict.REFUSED})
    if refused:
        found.append(f"exclude_tables = {json.dumps(refused)} leaves behind what cannot be moved")
    if config.identifiers != "preserve" and any(p.table != p.target_table for p in one.plans.values()):
        found.append('identifiers = "preserve" keeps the case of names, which must then be quoted everywhere')
    return found


def _bare(table: Table) -> Table:
    return replace(table, key=replace(table.key, kind=KeyKind.DECLARED))


def plan_sql(config: Config, sources: Sequence[str]) -> list[str]:
    """What is run on both sides, in order; it runs as it is printed."""
    _refuse_unknown_tables(config)
    texts = [*bookkeeping()]
    for source in sources:
        one = plan_of(config, source)
        parents = parents_of(one.database, one.plans)
        schema = target_schema(config, source)
        texts.append(f"CREATE SCHEMA IF NOT EXISTS {quote(schema)}")
        for plan in one.plans.values():
            texts += create_table(plan, sink_role="tailrace_sink")
        for table, plan in parents.values():
            texts += [made.sql for made in indexes(table, plan, longest=one.longest[table.name]) if made.sql]
            texts += not_nulls(plan)
            column = generated_key(table, plan)
            texts += [identity(plan, column)] if column is not None else []
        preserve = config.identifiers == "preserve"
        views, _ = wanted_views(one.database, parents, config.views, schema=schema, preserve=preserve)
        steps = at_switch(parents, views)
        if steps:
            texts.append("-- at the switch\n" + ";\n".join(sql for step in steps for sql in step.statements))
        later = after_switch(parents)
        if later:
            texts.append("-- after the switch\n" + ";\n".join(sql for step in later for sql in step.statements))
        width = max([len(plan.key) for plan in one.plans.values()], default=1)
        texts.append(f"-- in {config.source_path(source).name}, the SQLite side")
        texts += log_statements(width)
        for number, name in enumerate(one.plans, 1):
            texts += trigger_statements(one.database.tables[name], number)
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
