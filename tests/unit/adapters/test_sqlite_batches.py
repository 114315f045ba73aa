"""Batches of rows: order, a text that is not UTF-8 in the middle, and stopping early."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from schemas.model import BadText


def test_bad_text_in_the_middle_repeats_and_drops_nothing(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "b.db", create=True)
    db.run("CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    for number in range(25):
        db.run("INSERT INTO t VALUES (?, ?)", (number, f"v{number}"))
    db.run("UPDATE t SET v = CAST(x'ff41' AS TEXT) WHERE id = 13")
    batches = list(db.batches("SELECT id, v FROM t ORDER BY id", batch_rows=10))
    assert list(range(25)) == [row[0] for batch in batches for row in batch]
    assert BadText(b"\xffA") == next(row[1] for batch in batches for row in batch if row[0] == 13)
    assert [("v1",)] == db.rows("SELECT v FROM t WHERE id = 1")
    db.close()


def test_whoever_stops_early_leaves_no_view_open(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "b.db", create=True)
    db.run("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    db.run_many("INSERT INTO t VALUES (?)", [(number,) for number in range(100)])
    with closing(db.batches("SELECT id FROM t", batch_rows=10)) as batches:
        assert 10 == len(next(batches))
    db.run("DROP TABLE t")
    db.close()
