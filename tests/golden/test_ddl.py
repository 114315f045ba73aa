"""The target's DDL for one table of every kind, word for word. A change here is a change that users see.

`TAILRACE_WRITE_GOLDEN=1 pytest tests/golden` writes the files anew; read the difference before committing it."""

from __future__ import annotations

import os
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from schemas.ddl import create_table, indexes, not_nulls
from schemas.introspect import introspect
from schemas.plan import build_table_plan
from schemas.profile import profile_table

GOLDEN = Path(__file__).with_name("ddl.sql")
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
    text = "\n".join(lines) + "\n"
    if os.environ.get("TAILRACE_WRITE_GOLDEN"):
        GOLDEN.write_text(text)
    assert GOLDEN.read_text() == text
