"""Rows that REPLACE displaces by ways one does not think of: each was found by the model and is named here."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture.install import install


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "d.db", create=True)
    yield made
    made.close()


def _logged(db: SqliteDatabase, *statements: str) -> set[object]:
    before = db.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
    for statement in statements:
        db.run(statement)
    return {row[0] for row in db.rows("SELECT k0 FROM _tailrace_log WHERE seq > ?", (before,))}


@pytest.mark.parametrize(
    "statement",
    ["UPDATE OR REPLACE t SET rowid = 1 WHERE k = 'b'", "INSERT OR REPLACE INTO t(rowid, k) VALUES (1, 'c')"],
)
def test_a_row_displaced_through_the_rowid_of_a_table_with_a_declared_key(db: SqliteDatabase, statement: str) -> None:
    db.run("CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v)")
    db.run("INSERT INTO t VALUES ('a', 1), ('b', 2)")
    install(db, "identity")
    logged = _logged(db, statement)
    assert [] == db.rows("SELECT k FROM t WHERE k = 'a'")
    assert "a" in logged


@pytest.mark.parametrize(
    ("declared", "default", "stored", "shown"),
    [
        ("TEXT", "2", "'2'", "v"),
        ("NUMERIC", "'2'", "2", "v"),
        ("INTEGER", "'2'", "2", "v"),
        ("REAL", "2", "2.0", "v || ''"),
        ("", "2", "2", "v"),
    ],
)
def test_a_row_displaced_through_a_generated_column_over_a_default(
    db: SqliteDatabase, declared: str, default: str, stored: str, shown: str
) -> None:
    """The generated column has no affinity of its own, so it shows the default exactly as its column stored it."""
    db.run(
        f"CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v {declared} NOT NULL DEFAULT {default}, "
        f"h AS ({shown}) UNIQUE) WITHOUT ROWID"
    )
    db.run(f"INSERT INTO t(k, v) VALUES ('a', {stored})")
    install(db, "identity")
    logged = _logged(db, "INSERT OR REPLACE INTO t(k, v) VALUES ('b', NULL)")
    assert [("b",)] == db.rows("SELECT k FROM t")
    assert {"a", "b"} == logged
