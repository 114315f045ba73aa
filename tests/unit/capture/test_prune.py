"""Pruning on a real file, with another writer where it matters."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture.install import install
from capture.prune import LOCK_WAIT_MS, next_prune_ms, prune
from schemas.model import LOG, META

ENTRIES = 50


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    one.run("CREATE TABLE cases(id INTEGER PRIMARY KEY)")
    install(one, "one", wal=True)
    one.run(
        f"WITH n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {ENTRIES}) INSERT INTO cases SELECT i FROM n"
    )
    yield one
    one.close()


def log(db: SqliteDatabase) -> list[int]:
    return [row[0] for row in db.rows(f"SELECT seq FROM {LOG} ORDER BY seq")]


def stored(db: SqliteDatabase) -> int:
    return int(db.rows(f"SELECT value FROM {META} WHERE key = 'pruned_to'")[0][0])


def test_the_row_of_the_watermark_stays(db: SqliteDatabase) -> None:
    """Its digest tells a forked history, and seq only grows while the last row is there."""
    head = log(db)[-1]
    pruned_to = prune(db, upto=head, batch_rows=1000, pruned_to=0)
    assert [head] == log(db)
    assert head - 1 == pruned_to == stored(db)
    db.run("INSERT INTO cases VALUES (1000)")
    assert [head, head + 1] == log(db)


def test_a_batch_takes_no_more_than_its_rows(db: SqliteDatabase) -> None:
    first = log(db)[0]
    assert first + 9 == prune(db, upto=40, batch_rows=10, pruned_to=first - 1)
    assert first + 10 == log(db)[0]


def test_nothing_above_the_watermark_goes(db: SqliteDatabase) -> None:
    assert 19 == prune(db, upto=20, batch_rows=1000, pruned_to=0)
    assert 20 == log(db)[0]
    assert 19 == prune(db, upto=20, batch_rows=1000, pruned_to=19)


def test_a_stale_capture_does_not_move_pruned_to_back(db: SqliteDatabase) -> None:
    prune(db, upto=40, batch_rows=1000, pruned_to=0)
    prune(db, upto=10, batch_rows=1000, pruned_to=0)
    assert 39 == stored(db)


def test_a_failure_in_the_middle_leaves_log_and_mark_as_they_were(
    db: SqliteDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = log(db)

    def stop(name: str) -> None:
        raise RuntimeError(name)

    monkeypatch.setattr("capture.prune.reach", stop)
    with pytest.raises(RuntimeError, match="mid_prune"):
        prune(db, upto=40, batch_rows=1000, pruned_to=0)
    assert (before, 0) == (log(db), stored(db))


def test_a_busy_application_goes_first(db: SqliteDatabase) -> None:
    other = SqliteDatabase(db.path)
    try:
        patience = db.rows("PRAGMA busy_timeout")
        assert LOCK_WAIT_MS < patience[0][0]
        with other.write():
            other.run("INSERT INTO cases VALUES (1000)")
            assert 5 == prune(db, upto=40, batch_rows=1000, pruned_to=5)
        assert patience == db.rows("PRAGMA busy_timeout")
        assert 39 == prune(db, upto=40, batch_rows=1000, pruned_to=5)
    finally:
        other.close()


@pytest.mark.parametrize(
    ("before", "after", "due"),
    [(0, 10, 150), (0, 99, 2100), (5, 5, 2100)],
    ids=["more may go", "all is out", "the lock was taken"],
)
def test_pruning_keeps_up_with_a_busy_log(before: int, after: int, due: int) -> None:
    assert due == next_prune_ms(100, before=before, after=after, upto=100, every_ms=2000, pause_ms=50)
