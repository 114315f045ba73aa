"""The target's DDL for one table of every kind, word for word. A change here is a change that users see.

`TAILRACE_WRITE_GOLDEN=1 pytest tests/golden` writes the files anew; read the difference before committing it."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from capture.sqlite_triggers import log_statements, trigger_statements
from schemas.ddl import create_table, indexes, not_nulls
from schemas.introspect import introspect
from schemas.objects import parents_of, wanted_views
from schemas.opening import after_switch, at_return, at_switch
from schemas.plan import build_table_plan
from schemas.profile import profile_table
from schemas.sequences import advance, generated_key, identity, sequence

GOLDEN = Path(__file__).with_name("ddl.sql")
OBJECTS = Path(__file__).with_name("objects.sql")
TRIGGERS = Path(__file__).with_name("triggers.sql")
SOURCE = (
    "CREATE TABLE alias(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE COLLATE NOCASE, v)",
    'CREATE TABLE "Order Details"("Order" INT, "Line No" INT, price DECIMAL(10,2), '
    'PRIMARY KEY ("Order", "Line No")) WITHOUT ROWID',
    "CREATE TABLE nokey(a TEXT, b BLOB, c REAL, d BOOLEAN)",
    "CREATE TABLE nullkey(k TEXT PRIMARY KEY, xmin INT)",
    "CREATE TABLE mixed(k PRIMARY KEY NOT NULL, i INTEGER, g AS (i + 1))",
    "CREATE INDEX mixed_desc ON mixed(i DESC, k)",
    "CREATE INDEX mixed_partial ON mixed(i) WHERE i > 3",
    "CREATE INDEX mixed_expression ON mixed(abs(i))",
    "INSERT INTO alias VALUES (1, 'x', 1), (2, 'y', 'text'), (3, 'z', x'00')",
    'INSERT INTO "Order Details" VALUES (1, 1, 2.5), (1, 2, 3)',
    "INSERT INTO nokey VALUES ('a', x'01', 0.5, 1)",
    "INSERT INTO nullkey VALUES (NULL, 1), (NULL, 2)",
    "INSERT INTO mixed(k, i) VALUES (1, 1), ('1', 'many')",
)


def test_ddl_of_every_kind_of_table(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "source.db", create=True)
    try:
        for statement in SOURCE:
            db.run(statement)
        lines = []
        with db.read_view():
            for name, table in introspect(db).tables.items():
                plan = build_table_plan(table, profile_table(db, table), source="s", prefix="p", target_schema="s")
                lines += [
                    f"-- {name}: {table.key.kind}",
                    *create_table(plan, sink_role="tailrace_sink"),
                    *not_nulls(plan),
                ]
                lines += [one.sql or f"-- reported: {one.name}: {one.reason}" for one in indexes(table, plan)]
    finally:
        db.close()
    _compare(GOLDEN, lines)


MORE = (
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT DEFAULT 'it''s', made TEXT DEFAULT CURRENT_TIMESTAMP, "
    "active BOOLEAN DEFAULT 1 CHECK (active IN (0, 1)), score REAL DEFAULT (1.5 * 2), raw BLOB DEFAULT x'00ff')",
    "CREATE TABLE child(k TEXT PRIMARY KEY NOT NULL, parent INTEGER NOT NULL REFERENCES parent ON DELETE CASCADE, "
    "word TEXT COLLATE NOCASE, n INTEGER CHECK (n > 0 AND typeof(n) = 'integer'), loud TEXT AS (upper(word)) STORED, "
    "louder TEXT AS (loud || '!'), CHECK (word LIKE 'a%' OR length(word) < 5))",
    "CREATE TABLE ring(id INTEGER PRIMARY KEY AUTOINCREMENT, next INTEGER REFERENCES ring DEFERRABLE INITIALLY DEFERRED)",
    "CREATE VIEW large AS SELECT p.name, count(*) AS n FROM parent p JOIN child c ON c.parent = p.id WHERE c.n >= 10 "
    "GROUP BY p.name ORDER BY n DESC LIMIT 3",
    "INSERT INTO parent(id) VALUES (1)",
    "INSERT INTO child(k, parent, word, n) VALUES ('a', 1, 'abc', 2)",
)


def test_what_comes_at_the_switch_and_goes_with_the_return(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "source.db", create=True)
    try:
        for statement in MORE:
            db.run(statement)
        with db.read_view():
            database = introspect(db)
            plans = {
                name: build_table_plan(table, profile_table(db, table), source="s", prefix="p", target_schema="s")
                for name, table in database.tables.items()
            }
    finally:
        db.close()
    parents = parents_of(database, plans)
    views, failed = wanted_views(database, parents, "all", schema="s")
    assert {} == failed
    lines = ["-- sequences"]
    for table, plan in parents.values():
        column = generated_key(table, plan)
        lines += (
            [] if column is None else [identity(plan, column), advance(sequence(plan, column), plan, column, used=7)]
        )
    for title, steps in (
        ("at the switch", at_switch(parents, views)),
        ("after the switch", after_switch(parents)),
        ("at the return", at_return(parents, views)),
    ):
        lines += [f"-- {title}", *(sql for step in steps for sql in step.statements)]
    _compare(OBJECTS, lines)


def test_triggers_of_every_kind_of_table(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "source.db", create=True)
    try:
        for statement in (*SOURCE, *MORE):
            db.run(statement)
        with db.read_view():
            tables = introspect(db).tables
    finally:
        db.close()
    lines = [*log_statements(2)]
    for number, table in enumerate(tables.values(), 1):
        lines += [f"-- {table.name}: {table.key.kind}", *trigger_statements(table, number)]
    _compare(TRIGGERS, lines)


def _compare(path: Path, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    if os.environ.get("TAILRACE_WRITE_GOLDEN"):
        path.write_text(text)
    assert path.read_text() == text
