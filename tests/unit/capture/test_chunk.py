"""One chunk of a cut, read in one view of a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.chunk import FIRST_SLICE_ROWS, Chunk, first_gap, read_chunk
from capture.install import install
from capture.sqlite_source import SqliteSource
from schemas.change import Entry, Position
from schemas.introspect import introspect
from schemas.model import Table


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    one.run("CREATE TABLE cases(id INTEGER PRIMARY KEY, v)")
    one.run("CREATE TABLE tags(name TEXT PRIMARY KEY, v)")
    install(one, "one", wal=True)
    yield one
    one.close()


def numbered(db: SqliteDatabase) -> dict[int, Table]:
    tables = introspect(db).tables
    return {number: tables[one.name] for number, one in metas.read(db).tables.items()}


def chunk_of(db: SqliteDatabase, *, after: int = 1, limit_rows: int = 10_000, limit_bytes: int = 1 << 30) -> Chunk:
    tables = numbered(db)
    with SqliteSource(db, "main").view() as view:
        entries = view.entries(Position(after), limit_rows=limit_rows)
        return read_chunk(view, entries, tables, head=view.head(), limit_bytes=limit_bytes)


def test_a_key_that_changed_often_is_read_once(db: SqliteDatabase) -> None:
    for number in range(FIRST_SLICE_ROWS * 3):
        db.run("INSERT OR REPLACE INTO cases VALUES (?, ?)", (number % 2, number))
    chunk = chunk_of(db)
    assert [(0,), (1,)] == sorted(one.key for one in chunk.records["cases"])
    assert {chunk.head} == {one.seq for one in chunk.records["cases"]}
    assert chunk.reached


def test_heavy_rows_end_the_chunk_at_a_prefix(db: SqliteDatabase) -> None:
    with db.write():
        for number in range(FIRST_SLICE_ROWS * 4):
            db.run("INSERT INTO cases VALUES (?, zeroblob(1000))", (number,))
    chunk = chunk_of(db, limit_bytes=FIRST_SLICE_ROWS * 1000)
    assert FIRST_SLICE_ROWS == len(chunk.entries) == len(chunk.records["cases"])
    assert not chunk.reached
    assert chunk.head > chunk.entries[-1].seq


def test_one_row_above_the_limit_still_moves_the_position(db: SqliteDatabase) -> None:
    db.run("INSERT INTO cases VALUES (1, zeroblob(100000))")
    assert 1 == len(chunk_of(db, limit_bytes=1).entries)


def test_fewer_rows_than_the_log_holds_do_not_reach_the_head(db: SqliteDatabase) -> None:
    db.run("INSERT INTO cases VALUES (1, 1), (2, 2), (3, 3)")
    assert [False, True] == [chunk_of(db, limit_rows=limit).reached for limit in (2, 3)]


def test_no_entries_reach_the_head(db: SqliteDatabase) -> None:
    chunk = chunk_of(db, after=1)
    assert ([], {}, True) == (list(chunk.entries), dict(chunk.records), chunk.reached)


def test_a_null_in_a_declared_key_names_its_table_and_gives_no_records(db: SqliteDatabase) -> None:
    db.run("INSERT INTO cases VALUES (1, 1)")
    tables = numbered(db)
    db.run("INSERT INTO tags VALUES (NULL, 2)")
    with SqliteSource(db, "main").view() as view:
        entries = view.entries(Position(1), limit_rows=100)
        chunk = read_chunk(view, entries, tables, head=view.head(), limit_bytes=1 << 30)
    assert ("tags", {}, False) == (chunk.rekey, dict(chunk.records), chunk.reached)


def test_the_first_entry_must_follow_the_position() -> None:
    entries = [Entry(5, None, 1, "u", (1,))]
    assert [None, 5, None] == [
        first_gap(entries, Position(4)),
        first_gap(entries, Position(3)),
        first_gap([], Position(3)),
    ]
