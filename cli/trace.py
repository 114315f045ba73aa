"""Do: follow one row through change log, stream progress and target, for people who ask "where is my row?"."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Any

from adapters.sqlite import SqliteDatabase
from capture.meta import as_logged
from capture.meta import exists as installed
from capture.meta import read as read_meta
from capture.sqlite_source import SqliteView
from cli.wiring import open_source, open_target
from ops.config import Config
from schemas.ddl import full_name
from schemas.errors import Code, Misfit, Refusal
from schemas.introspect import introspect
from schemas.model import LOG, Affinity, Database, Key, Table, Value
from schemas.names import beside_parameters, quote
from schemas.plan import TablePlan, plan_from_json
from schemas.rows import RowCodec
from sink.progress import prepared, read_progress


def trace_row(config: Config, table: str, key: Sequence[str], *, source: str | None) -> dict[str, Any]:
    """One document: each station with what it knows. A station that cannot be asked says so."""
    name, db, database = _find(config, table, source)
    try:
        one = database.tables[table]
        if len(key) != len(one.key_columns):
            raise Refusal(
                Code.USAGE,
                f"the key of {table} has {len(one.key_columns)} columns ({', '.join(one.key_columns)}), {len(key)} given",
                table=table,
                hint=f"tailrace trace {table} {' '.join(column.upper() for column in one.key_columns)}",
            )
        wanted = _key(one, key)
        with db.read_view():
            view = SqliteView(db)
            meta = read_meta(db)
            number = meta.number_of(table)
            row = view.rows(one, [wanted]).get(wanted)
            marks = " AND ".join(f"k{at} IS ?" for at in range(len(wanted)))
            entries = db.rows(
                f"SELECT seq, op FROM {LOG} WHERE tab = ? AND {marks} ORDER BY seq DESC LIMIT 5", (number, *wanted)
            )
            head = view.head()
    finally:
        db.close()
    document: dict[str, Any] = {
        "source": name,
        "table": table,
        "key": list(wanted),
        "in source": "present" if row is not None else "absent",
        "change log": [f"{op}@{seq}" for seq, op in entries] or "no entry left (pruned once acknowledged)",
        "log head": head,
    }
    document.update(_target(config, name, one, wanted, newest=entries[0][0] if entries else None))
    return document


def _find(config: Config, table: str, source: str | None) -> tuple[str, SqliteDatabase, Database]:
    found: list[tuple[str, SqliteDatabase, Database]] = []
    for name in [source] if source else list(config.source_databases):
        db = open_source(config, name)
        with db.read_view():
            database = as_logged(read_meta(db), introspect(db)) if installed(db) else introspect(db)
        if table in database.tables:
            found.append((name, db, database))
        else:
            db.close()
    if len(found) == 1:
        return found[0]
    for _, db, _ in found:
        db.close()
    what = "no source has" if not found else f"{', '.join(name for name, _, _ in found)} all have"
    raise Refusal(Code.USAGE, f"{what} a table {table!r}", table=table, hint="tailrace plan; --source NAME chooses one")


def _key(table: Table, texts: Sequence[str]) -> Key:
    """Words of the command line as key values: numbers where the column's affinity makes numbers of them."""
    affinities = {column.name: column.affinity for column in table.columns}
    values: list[Value] = []
    for column, text in zip(table.key_columns, texts, strict=True):
        if affinities.get(column, Affinity.INTEGER) in (Affinity.INTEGER, Affinity.NUMERIC):
            with contextlib.suppress(ValueError):
                number = int(text)
                if -(2**63) <= number < 2**63:
                    values.append(number)
                    continue
        values.append(text)
    return tuple(values)


def _target(config: Config, source: str, table: Table, key: Key, *, newest: int | None) -> dict[str, Any]:
    target = open_target(config, "trace")
    try:
        if not prepared(target):
            return {"in target": "nothing there yet"}
        with target.snapshot():
            progress = read_progress(target, source)
            if progress is None or table.name not in progress.tables:
                return {"in target": "table not requested yet"}
            one = progress.tables[table.name]
            plan_text = target.rows(
                'SELECT plan::text FROM tailrace.tables WHERE source = %s AND "table" = %s', (source, table.name)
            )[0][0]
            verdict = target.rows(
                "SELECT to_timestamp(at_ms / 1000.0)::text, rows, differing + missing + extra, not_compared "
                'FROM tailrace.verdicts WHERE source = %s AND "table" = %s',
                (source, table.name),
            )
            count = _count(target, plan_from_json(plan_text), key) if plan_text else None
        return {
            "in target": {None: "table not made yet", 0: "absent", 1: "present"}.get(count, f"{count} rows"),
            "table state": str(one.state),
            "applied": progress.applied,
            "applied past newest entry": "unknown" if newest is None else progress.applied >= newest,
            "floor": progress.floor_of(table.name),
            "quarantined in table": one.quarantined,
            "last verdict": f"{verdict[0][0]}: {verdict[0][1]} rows, {verdict[0][2]} differences, {verdict[0][3]} not compared"
            if verdict
            else "never verified",
        }
    finally:
        target.close()


def _count(target: Any, plan: TablePlan, key: Key) -> int:
    try:
        values = RowCodec(plan).sqlite_keys_to_pg([key])[0]
    except Misfit:
        return 0  # the target's column could not hold it
    equal = " AND ".join(
        f"{beside_parameters(quote(name))} = %s::{plan.columns[at].pg_type}"
        for name, at in zip(plan.target_key, plan.key_indexes, strict=True)
    )
    name = beside_parameters(full_name(plan))
    return int(target.rows(f"SELECT count(*) FROM {name} WHERE {equal}", values)[0][0])
