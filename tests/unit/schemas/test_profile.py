"""One scan of a real table: classes, awkward text, and the form that all texts of a column share."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from schemas.introspect import introspect
from schemas.model import ROWID_COLUMN
from schemas.profile import TableProfile, profile_table


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    yield one
    one.close()


def profiled(db: SqliteDatabase) -> TableProfile:
    return profile_table(db, introspect(db).tables["t"])


def of(db: SqliteDatabase, declared: str, *values: object) -> str:
    db.run("DROP TABLE IF EXISTS t")
    db.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    for value in values:
        db.run("INSERT INTO t(v) VALUES (?)", (value,))  # type: ignore[arg-type]
    return profiled(db).columns["v"].form


def test_classes_are_counted(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE t(v NUMERIC)")
    for value in (1, 0, 2.5, math.inf, "a", "b\x00c", b"x" * 9, None, None):
        db.run("INSERT INTO t VALUES (?)", (value,))
    profile = profiled(db)
    one = profile.columns["v"]
    assert 9 == profile.rows
    assert (2, 2, 2, 1, 2) == (one.ints, one.reals, one.texts, one.blobs, one.nulls)
    assert (1, True, True) == (one.awkward_text, one.small_ints, one.infinite)
    assert 9 == profile.columns[ROWID_COLUMN].ints


def test_pieces_say_together_what_one_scan_says(db: SqliteDatabase) -> None:
    """Clean pieces are only tested against what was seen; the one with something new is counted."""
    db.run("CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL, d, e BOOLEAN, f)")
    for at in range(0, 60_000, 20):
        db.run(
            "INSERT INTO t VALUES (?, 'x', ?, 0.5, NULL, ?, x'00')", (at - 100, at if at % 400 else None, at % 40 // 20)
        )
    db.run("UPDATE t SET a = 'nul' || char(0) WHERE id = 59000")
    db.run("UPDATE t SET b = 'word', c = 9e999, d = 1.5 WHERE id = 40000")
    db.run("INSERT INTO t(id, e) VALUES (9000000000000000000, 2)")
    found = profiled(db)
    one = found.columns
    assert (3001, 3001) == (found.rows, one["id"].ints)
    assert (3000, 1, 1) == (one["a"].texts, one["a"].awkward_text, one["a"].nulls)
    assert (2849, 1, 151) == (one["b"].ints, one["b"].texts, one["b"].nulls)
    assert (3000, 0, 1) == (one["c"].reals, one["c"].ints, one["c"].nulls)
    assert (1, 3000) == (one["d"].reals, one["d"].nulls)
    assert (3001, False) == (one["e"].ints, one["e"].small_ints)
    assert (3000, 1) == (one["f"].blobs, one["f"].nulls)


def test_an_empty_table_says_nothing(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v DATE)")
    profile = profiled(db)
    assert 0 == profile.rows
    assert frozenset() == profile.columns["v"].classes
    assert not profile.columns["v"].small_ints
    assert "" == profile.columns["v"].form


def test_more_columns_than_one_select_allows(db: SqliteDatabase) -> None:
    names = [f"c{at}" for at in range(450)]
    db.run(f"CREATE TABLE t({', '.join(f'{name} BOOLEAN' for name in names)})")
    db.run(f"INSERT INTO t VALUES ({', '.join(str(at) for at in range(450))})")
    columns = profiled(db).columns
    assert [1] * 450 == [columns[name].ints for name in names]
    assert [True, True, False] == [columns[name].small_ints for name in ("c0", "c1", "c449")]


@pytest.mark.parametrize(
    ("declared", "values", "form"),
    [
        ("DATE", ("2024-02-29", "0001-01-01"), "date"),
        ("DATE", ("2024-02-29", None), "date"),
        ("DATE", ("2024-02-29", "2024-02-30"), ""),
        ("DATE", ("2024-02-29", "now"), ""),
        ("DATE", ("2024-02-29", ""), ""),
        ("DATE", ("2024-02-29", 20240229), ""),
        ("TEXT", ("2024-02-29",), ""),
        ("DATETIME", ("2024-02-29 12:00:00", "2024-02-29 12:00:01"), "timestamp:_0"),
        ("DATETIME", ("2024-02-29 12:00:00", "2024-02-29T12:00:01"), ""),
        ("DATETIME", ("2024-02-29 12:00:00", "2024-02-29"), ""),
        ("DATETIME", ("2024-02-29 12:00:00", "2024-02-29 12:00:00.000001"), "timestamp:_u"),
        ("DATETIME", ("2024-02-29 12:00:00.000001", "2024-02-29 12:00:00"), "timestamp:_u"),
        ("DATETIME", ("2024-02-29 12:00:00.001", "2024-02-29 12:00:00.000001"), "timestamp:_x"),
        ("DATETIME", ("2024-02-29 12:00:00.001", "2024-02-29 12:00:00.001000"), ""),
        ("DATETIME", ("2024-02-29 12:00", "2024-02-29 12:00:01", "2024-02-29 12:00:00.000001"), "timestamp:_n"),
        ("DATETIME", ("2024-02-29 12:00", "2024-02-29 12:00:00"), ""),
        ("DATETIME", ("2024-02-29 12:00:00.000001", "2024-02-29 12:00:00.000000"), "timestamp:_6"),
        ("DATETIME", ("2024-02-29 12:00:00.000000", "2024-02-29 12:00:00"), ""),
        ("DATETIME", ("2024-02-29T12:00:00.000001", "2024-02-29T12:00:00.000002"), "timestamp:Tu"),
        ("TIMESTAMP", ("2024-02-29T12:00:00Z",), "timestamp:T0Z"),
        ("TIMESTAMP", ("2024-02-29T12:00:00Z", "2024-02-29T12:00:00"), ""),
        ("TIMESTAMP", ("2024-02-29T12:00:00+02:00",), ""),
        ("TIMESTAMP", ("2024-02-29 12:00",), "timestamp:_m"),
        ("JSON", ("{}", '{"a": [1, 2.0, null]}'), "json"),
        ("JSON", ("{}", "{"), ""),
        ("JSON", ("{}", "NaN"), ""),
    ],
)
def test_the_form_all_texts_share(db: SqliteDatabase, declared: str, values: tuple[object, ...], form: str) -> None:
    assert form == of(db, declared, *values)
