"""The keys logged between two points, read again, turn the earlier state into the current one: exactly, with types."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import apsw
import pytest

from adapters.sqlite import SqliteDatabase
from capture.sqlite_triggers import ALL_RULES, LOG, Rules, key_expressions, log_statements, trigger_statements
from schemas.introspect import introspect
from schemas.model import Table
from tests.model.sql_workload import schema, statement

RUNS = int(os.environ.get("TAILRACE_MODEL_RUNS", "300"))
ERRORS = (sqlite3.Error, apsw.Error)


def _state(connection: Any, key: list[str]) -> dict[Any, Any]:
    rows = connection.execute(f"SELECT {', '.join(key)}, * FROM t").fetchall()
    return {_typed(row[: len(key)]): _typed(row[len(key) :]) for row in rows}


def _typed(values: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((type(value).__name__, value) for value in values)


def _connect(library: str) -> Any:
    if library == "apsw":
        return apsw.Connection(":memory:")
    return sqlite3.connect(":memory:", isolation_level=None)


def difference(folder: Path, library: str, seed: int, rules: Rules) -> str:
    """Run one random history; empty when the log missed nothing."""
    with closing(_connect(library)) as connection:
        return history(connection, folder, seed, rules, errors=ERRORS) or ""


def history(
    connection: Any,
    folder: Path,
    seed: int,
    rules: Rules,
    *,
    errors: tuple[type[Exception], ...],
    newer_schema_is_skipped: bool = False,
) -> str | None:
    """Run one random history on an empty database; empty when the log missed nothing.

    Args:
        connection: has execute(sql) with fetchall() of what it returns, and in_transaction.
        newer_schema_is_skipped: None when the library is too old for this seed's schema.
    """
    random = Random(seed)
    ddl = schema(random)
    table = _introspected(folder / f"{seed}.db", ddl)
    key = key_expressions(table)
    try:
        for sql in ddl:
            connection.execute(sql)
    except errors:
        if newer_schema_is_skipped:
            return None
        raise
    for sql in (*log_statements(len(key)), *trigger_statements(table, 1, rules)):
        connection.execute(sql)
    shadow: dict[Any, Any] = {}
    position = 0
    ran: list[str] = []
    for _ in range(40):
        sql = statement(random)
        ran.append(sql)
        try:
            connection.execute(sql)
        except errors:
            continue
        if connection.in_transaction:
            continue
        columns = ", ".join(f"k{at}" for at in range(len(key)))
        entries = connection.execute(f"SELECT seq, {columns} FROM {LOG} WHERE seq > {position}").fetchall()
        now = _state(connection, key)
        for seq, *values in entries:
            position = seq
            shadow.pop(_typed(values), None)
            if _typed(values) in now:
                shadow[_typed(values)] = now[_typed(values)]
        if now != shadow:
            return f"seed {seed}: {ddl} after {ran[-6:]}: {set(now.items()) ^ set(shadow.items())}"
    return ""


def _introspected(path: Path, ddl: list[str]) -> Table:
    model = SqliteDatabase(path, create=True)
    try:
        for sql in ddl:
            model.run(sql)
        return introspect(model).tables["t"]
    finally:
        model.close()
        path.unlink()


@pytest.mark.parametrize("library", ["sqlite3", "apsw"])
def test_the_log_misses_nothing(tmp_path: Path, library: str) -> None:
    for seed in range(RUNS):
        assert difference(tmp_path, library, seed, ALL_RULES) == ""


@pytest.mark.parametrize(
    "rule", ["before", "default_of_not_null", "expand_generated", "key_too", "old_key", "typeof_key", "collate"]
)
def test_every_rule_is_needed(tmp_path: Path, rule: str) -> None:
    broken = replace(ALL_RULES, **{rule: False})
    assert any(difference(tmp_path, "sqlite3", seed, broken) for seed in range(2000))
