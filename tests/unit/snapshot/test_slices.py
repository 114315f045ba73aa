"""Consecutive short views: order, limits, heads, a schema that moved."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.sqlite_source import SqliteSource
from schemas.introspect import introspect
from schemas.model import BadText
from snapshot.chunks import ChunkSize
from snapshot.slices import MAX_SLICE_BYTES, Slices, weight_bytes
from tests.model.world import SteppingClock


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    made = SqliteDatabase(tmp_path / "s.db", create=True)
    made.run("PRAGMA journal_mode=WAL")
    made.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    install(made, "identity")
    yield made
    made.close()


def _slices(db: SqliteDatabase, *, rows: int, max_bytes: int = 1 << 30, behind: int = 0) -> Slices:
    source = SqliteSource(db, "s")
    table = introspect(db).tables["t"]
    version = db.schema_version() + behind
    size = ChunkSize(rows=rows)
    return Slices(
        source, source, SteppingClock(), table, after=None, size=size, schema_version=version, max_bytes=max_bytes
    )


def test_every_row_comes_once_and_in_order(db: SqliteDatabase) -> None:
    for number in range(-30, 2500):
        db.run("INSERT INTO t VALUES (?, ?)", (number, str(number)))
    slices = _slices(db, rows=700)
    found = [row for batch in slices.slices(["v", "id"], most=1000) for row in batch]
    assert [(str(number), number) for number in range(-30, 2500)] == found
    assert (2530, (2499,)) == (slices.rows, slices.last_key)
    assert slices.count > 1


def test_a_row_written_between_two_views_is_seen_and_raises_the_head(db: SqliteDatabase) -> None:
    for number in range(20):
        db.run("INSERT INTO t VALUES (?, 1)", (number,))
    before = db.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
    slices = _slices(db, rows=10)
    stream = slices.slices(["id", "v"])
    next(stream)
    assert before == slices.head
    db.run("INSERT INTO t VALUES (15000, 2)")
    rest = [row for batch in stream for row in batch]
    assert (15000, 2) == rest[-1]
    assert before + 1 == slices.head


def test_heavy_rows_after_many_small_ones_end_the_slice(db: SqliteDatabase) -> None:
    with db.write():
        db.run_many("INSERT INTO t VALUES (?, 1)", [(number,) for number in range(1000)])
        db.run_many("INSERT INTO t VALUES (?, zeroblob(100000))", [(number,) for number in range(1000, 2500)])
    slices = _slices(db, rows=100_000)
    first = next(slices.slices(["id", "v"], most=1))
    assert 1000 == len(first)
    # The first heavy batch crosses the limit: what follows waits for the next view.
    assert 100_000 * 1000 > MAX_SLICE_BYTES
    assert 2000 == slices.rows


def test_nothing_is_given_of_a_view_whose_schema_moved(db: SqliteDatabase) -> None:
    db.run("INSERT INTO t VALUES (1, 1)")
    slices = _slices(db, rows=10, behind=-1)
    assert [] == list(slices.slices(["id", "v"]))
    assert slices.moved


def test_a_chunk_ends_when_its_slices_weigh_enough(db: SqliteDatabase) -> None:
    for number in range(50):
        db.run("INSERT INTO t VALUES (?, 'ten bytes.')", (number,))
    slices = _slices(db, rows=10, max_bytes=90)
    assert 10 == sum(len(batch) for batch in slices.slices(["id", "v"]))


def test_weight_is_of_texts_and_blobs() -> None:
    assert 3 + 2 + 4 == weight_bytes([(1, "abc", None), (2.5, b"xy", BadText(b"\xff\xfe\xff\xfe"))])
    assert 0 == weight_bytes([])
