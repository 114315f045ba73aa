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
from capture.install import install, rebuild
from capture.sqlite_triggers import ALL_RULES, Rules, key_expressions, log_statements, trigger_statements
from schemas.introspect import introspect
from schemas.model import LOG, Table
from tests.model.sql_workload import late_trigger, schema, statement

RUNS = int(os.environ.get("TAILRACE_MODEL_RUNS", "300"))
ERRORS = (sqlite3.Error, apsw.Error)
STATEMENTS = 40


class Several:
    """Two connections to one file, as two processes of the application would have: statements fall on either, and a
    transaction of one makes the other wait in vain (SQLITE_BUSY), which is an error like any other here."""

    def __init__(self, path: Path, seed: int) -> None:
        self._random = Random(-seed)
        self._all = [sqlite3.connect(path, isolation_level=None, timeout=0) for _ in range(2)]
        self._all[0].execute("PRAGMA journal_mode=WAL")
        for one in self._all:
            one.execute("PRAGMA synchronous=OFF")
        self._now = self._all[0]
        self.pinned = False

    def execute(self, sql: str) -> Any:
        if not self.pinned and self._random.random() < 0.25:
            self._now = self._random.choice(self._all)
        return self._now.execute(sql)

    @property
    def in_transaction(self) -> bool:
        return any(one.in_transaction for one in self._all)

    def close(self) -> None:
        for one in self._all:
            one.close()


def _typed(values: Any) -> tuple[tuple[str, Any], ...]:
    return tuple((type(value).__name__, value) for value in values)


def _connect(library: str, path: Path, seed: int) -> Any:
    if library == "apsw":
        return apsw.Connection(":memory:")
    if library == "several connections":
        return Several(path, seed)
    if library == "installed":
        return sqlite3.connect(path, isolation_level=None)
    return sqlite3.connect(":memory:", isolation_level=None)


def difference(folder: Path, library: str, seed: int, rules: Rules) -> str:
    """Run one random history; empty when the log missed nothing."""
    path = folder / f"{seed}-app.db"
    with closing(_connect(library, path, seed)) as connection:
        installed = path if library == "installed" else None
        found = history(connection, folder, seed, rules, errors=ERRORS, installed=installed) or ""
    for suffix in ("", "-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    return found


class Replayed:
    """One table's rows as the log alone tells them: the keys it names, read again."""

    def __init__(self, table: Table, number: int) -> None:
        self.name, self.number = table.name, number
        self.key = key_expressions(table)
        self.rows: dict[Any, Any] = {}

    def state(self, connection: Any) -> dict[Any, Any]:
        rows = connection.execute(f"SELECT {', '.join(self.key)}, * FROM {self.name}").fetchall()
        return {_typed(row[: len(self.key)]): _typed(row[len(self.key) :]) for row in rows}

    def follow(self, connection: Any, position: int) -> str:
        """Read what was logged since; returns what differs afterwards."""
        columns = ", ".join(f"k{at}" for at in range(len(self.key)))
        sql = f"SELECT {columns} FROM {LOG} WHERE seq > {position} AND tab = {self.number} ORDER BY seq"
        entries = connection.execute(sql).fetchall()
        now = self.state(connection)
        for values in entries:
            self.rows.pop(_typed(values), None)
            if _typed(values) in now:
                self.rows[_typed(values)] = now[_typed(values)]
        return "" if now == self.rows else f"{self.name}: {set(now.items()) ^ set(self.rows.items())}"


def history(
    connection: Any,
    folder: Path,
    seed: int,
    rules: Rules | None,
    *,
    errors: tuple[type[Exception], ...],
    newer_schema_is_skipped: bool = False,
    installed: Path | None = None,
) -> str | None:
    """Run one random history on an empty database; empty when the log missed nothing.

    Args:
        connection: has execute(sql) with fetchall() of what it returns, and in_transaction.
        rules: None runs the same statements without any trigger of ours, and compares nothing.
        newer_schema_is_skipped: None when the library is too old for this seed's schema.
        installed: the database's file; triggers and log are made, and made anew, by what `up` and capture call.
    """
    random = Random(seed)
    ddl = schema(random)
    tables = introspected(folder / f"{seed}.db", ddl)
    try:
        for sql in ddl:
            connection.execute(sql)
    except errors:
        if newer_schema_is_skipped:
            return None
        raise
    numbers = {table.name: number for number, table in enumerate(tables, 1)}
    own = [] if rules is None else _own(tables, rules)
    if installed is not None:
        numbers = _install(installed)
    else:
        for sql in (*log_statements(max(len(table.key_columns) for table in tables)), *own):
            connection.execute(sql)
    replayed = [Replayed(table, numbers[table.name]) for table in tables]
    for pragma in ("foreign_keys", "recursive_triggers"):
        connection.execute(f"PRAGMA {pragma}={random.randrange(2)}")
    position = 0
    ran: list[str] = []
    late_at = random.randrange(STATEMENTS * 3)
    for at in range(STATEMENTS):
        if at >= late_at and not connection.in_transaction:
            late_at = STATEMENTS
            if installed is not None:
                connection.execute(late_trigger(random))
                _rebuild(installed)
            else:
                _create_late(connection, random, own)
        sql = statement(random)
        ran.append(sql)
        try:
            connection.execute(sql)
        except errors:
            continue
        if connection.in_transaction or rules is None:
            continue
        for one in replayed:
            wrong = one.follow(connection, position)
            if wrong:
                return f"seed {seed}: {ddl} after {ran[-8:]}: {wrong}"
        position = connection.execute(f"SELECT coalesce(max(seq), 0) FROM {LOG}").fetchall()[0][0]
    return ""


def _install(path: Path) -> dict[str, int]:
    """The way of `up`; returns the tables' numbers."""
    db = SqliteDatabase(path)
    try:
        return {one.name: number for number, one in install(db, "identity", wal=True).meta.tables.items()}
    finally:
        db.close()


def _rebuild(path: Path) -> None:
    """The way of capture, when it sees that the schema moved."""
    db = SqliteDatabase(path)
    try:
        with db.read_view():
            names = list(introspect(db).tables)
        rebuild(db, wanted=names)
    finally:
        db.close()


def _own(tables: list[Table], rules: Rules) -> list[str]:
    return [sql for number, table in enumerate(tables, 1) for sql in trigger_statements(table, number, rules)]


def _create_late(connection: Any, random: Random, own: list[str]) -> None:
    """The application adds a trigger; ours are made anew after it, as capture's rebuild does."""
    if isinstance(connection, Several):
        connection.pinned = True
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(late_trigger(random))
    there = connection.execute(
        "SELECT name FROM sqlite_master WHERE type = 'trigger' AND name GLOB '_tailrace*'"
    ).fetchall()
    for sql in (*(f'DROP TRIGGER "{name}"' for (name,) in there), *own, "COMMIT"):
        connection.execute(sql)
    if isinstance(connection, Several):
        connection.pinned = False


def introspected(path: Path, ddl: list[str]) -> list[Table]:
    model = SqliteDatabase(path, create=True)
    try:
        for sql in ddl:
            model.run(sql)
        return list(introspect(model).tables.values())
    finally:
        model.close()
        path.unlink()


@pytest.mark.parametrize("library", ["sqlite3", "apsw", "several connections", "installed"])
@pytest.mark.parametrize("part", range(2))
def test_the_log_misses_nothing(tmp_path: Path, library: str, part: int) -> None:
    for seed in range(part, RUNS, 2):
        assert difference(tmp_path, library, seed, ALL_RULES) == ""


@pytest.mark.parametrize(
    "rule",
    ["before", "default_of_not_null", "expand_generated", "key_too", "old_key", "typeof_key", "collate", "rowid_too"],
)
def test_every_rule_is_needed(tmp_path: Path, rule: str) -> None:
    broken = replace(ALL_RULES, **{rule: False})
    assert any(difference(tmp_path, "sqlite3", seed, broken) for seed in range(3000))
