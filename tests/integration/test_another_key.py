"""A table comes to be identified by another key while everything runs: it is copied again and nothing stays stuck."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.test_hard_cases import assert_same
from tests.small import Small

CASES = {
    "dropped and made again with another key": (
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, v)", "INSERT INTO t VALUES (1, 1)"),
        ("DROP TABLE t", "CREATE TABLE t(k TEXT PRIMARY KEY, w)", "INSERT INTO t VALUES ('a', 9)"),
    ),
    "made again with a key of the same column": (
        ("CREATE TABLE t(a INTEGER PRIMARY KEY, b TEXT NOT NULL)", "INSERT INTO t VALUES (1, 'x')"),
        ("DROP TABLE t", "CREATE TABLE t(a INTEGER, b TEXT, PRIMARY KEY (b, a))", "INSERT INTO t VALUES (1, 'x')"),
    ),
    "a NULL arrives in the declared key": (
        ("CREATE TABLE t(k TEXT PRIMARY KEY, v)", "INSERT INTO t VALUES ('a', 1)"),
        ("INSERT INTO t VALUES (NULL, 2)", "UPDATE t SET v = 3 WHERE k IS NULL"),
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_another_key_identifies_the_rows(tmp_path: Path, database_url: str, name: str) -> None:
    before, live = CASES[name]
    world = Small(tmp_path, database_url, *before)
    try:
        world.settle()
        world.run(*live)
        world.settle()
        assert_same(world, "t")
        assert world.verification.run().clean
    finally:
        world.close()


def test_a_null_that_went_away_again(tmp_path: Path, database_url: str) -> None:
    """The triggers go on logging rowids: the copy waited for ever for another generation, and a verification looked for
    the declared key among the rowids."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(k TEXT PRIMARY KEY, v)")
    try:
        world.settle()
        world.run("INSERT INTO t VALUES (NULL, 2), ('a', 1)")
        for _ in range(20):
            world.capture.step()
        world.run("DELETE FROM t WHERE k IS NULL", "UPDATE t SET v = 5")
        world.settle()
        assert_same(world, "t")
        assert world.verification.run().clean
        # A restart finds the declared key good again, and copies the table under it.
        world.capture = world.new_capture()
        world.run("UPDATE t SET v = 6")
        world.settle()
        assert_same(world, "t")
        assert world.verification.run().clean
    finally:
        world.close()
