"""The copy on a real target: rows it cannot take, a lost connection in a widening chunk, keys of every sign."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from capture.install import request_resync, touch
from capture.sqlite_source import SqliteSource
from schemas.change import TableState
from schemas.errors import TailraceError
from snapshot.chunks import ChunkSize
from snapshot.state import CopyState
from tests.small import Small

HUGE_KEY = 60_000


@pytest.fixture
def small(tmp_path: Path, database_url: str) -> Iterator[list[Small]]:
    made: list[Small] = []
    yield made
    for one in made:
        one.close()


def test_a_row_the_target_refuses_is_quarantined_and_the_copy_goes_on(
    small: list[Small], tmp_path: Path, database_url: str
) -> None:
    """A key too long for a btree row: text that does not compress."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(k TEXT PRIMARY KEY NOT NULL, v)")
    small.append(world)
    for number in range(40):
        world.app.run("INSERT INTO t VALUES (?, 1)", (f"k{number}",))
    world.app.run("INSERT INTO t SELECT group_concat(hex(randomblob(50)), '') , 2 FROM t")
    for _ in range(200):
        world.capture.step()
        world.sink.step()
        world.copy.step()
    progress = world.progress()
    assert TableState.FOLLOWING is progress.tables["t"].state
    assert 1 == progress.tables["t"].quarantined
    assert not progress.consistent
    assert [(40,)] == world.rows("SELECT count(*) FROM s.t")
    report = world.verification.run()
    assert not report.clean
    assert 1 == report.tables[0].missing


def test_a_connection_lost_in_a_widening_chunk_of_a_resync(
    small: list[Small], tmp_path: Path, database_url: str
) -> None:
    """The shadow's widening was rolled back with the chunk; what is remembered must be what is there."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, v REAL)")
    small.append(world)
    world.run(*(f"INSERT INTO t VALUES ({number - 5}, {number}.5)" for number in range(10)))
    world.settle()
    request_resync(world.app, "t")
    while world.progress().tables["t"].state is not TableState.COPYING:
        world.capture.step()
        world.sink.step()
        world.copy.step()
    world.app.run("UPDATE t SET v = 'text' WHERE id = 0")
    state = world.copy._copy._state
    real = state.chunk

    def lose_the_connection(*arguments: object, **named: object) -> None:
        state.chunk = real  # type: ignore[method-assign]
        world.target.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid() "
            "AND datname = current_database()"
        )
        real(*arguments, **named)  # type: ignore[arg-type]

    state.chunk = lose_the_connection  # type: ignore[method-assign]
    with pytest.raises(TailraceError):
        for _ in range(50):
            world.copy.step()
    for _ in range(3):
        try:
            world.settle()
            break
        except TailraceError:
            continue
    assert world.verification.run().clean
    assert [("text",)] == world.rows("SELECT v FROM s.t WHERE id = 0")


def test_indexes_of_two_tables_whose_names_would_meet_are_both_there(
    small: list[Small], tmp_path: Path, database_url: str
) -> None:
    """`t_a` (b) and `t` (a_b) are both called t_a_b_idx by the rule for names."""
    world = Small(
        tmp_path,
        database_url,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a_b)",
        "CREATE TABLE t_a(id INTEGER PRIMARY KEY, b)",
        "CREATE INDEX one ON t(a_b)",
        "CREATE INDEX other ON t_a(b)",
    )
    small.append(world)
    world.settle()
    found = world.rows(
        "SELECT tablename::text, count(*) FROM pg_indexes WHERE schemaname = 's' AND indexname LIKE '%idx%' "
        "GROUP BY tablename ORDER BY tablename"
    )
    assert [("t", 1), ("t_a", 1)] == found


def test_the_source_is_durable_before_its_floor_or_its_rows_are_written(
    small: list[Small], tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A power loss gives seqs out again: new records under a floor that no disk ever held would be ignored for ever."""
    happened: list[str] = []

    def noted(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def call(*arguments: object, **named: object) -> object:
            happened.append(name)
            return real(*arguments, **named)

        monkeypatch.setattr(owner, name, call)

    world = Small(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    small.append(world)
    world.run(*(f"INSERT INTO t VALUES ({number}, 1)" for number in range(2000)))
    for owner, name in (
        (SqliteSource, "view"),
        (SqliteSource, "make_durable"),
        (CopyState, "begin"),
        (CopyState, "chunk"),
        (CopyState, "copied"),
    ):
        noted(owner, name)
    world.settle()
    for written in ("begin", "chunk", "copied"):
        at = happened.index(written)
        last_view = max(place for place in range(at) if happened[place] == "view")
        assert "make_durable" in happened[last_view:at]


def test_a_unique_value_that_moves_while_its_table_is_copied_again(
    small: list[Small], tmp_path: Path, database_url: str
) -> None:
    """Two views of one copy show the value at two rows: both are in the shadow, and the target has a unique index."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, u TEXT UNIQUE)")
    small.append(world)
    world.run(
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 700) INSERT INTO t SELECT i, i FROM n"
    )
    world.settle()
    request_resync(world.app, "t")
    while world.progress().tables["t"].state is not TableState.COPYING:
        world.capture.step()
        world.sink.step()
        world.copy.step()
    world.copy._copy._careful["t"] = 9
    world.copy._copy._sizes["t"] = ChunkSize(rows=300)
    while world.rows("SELECT count(*) FROM s._tailrace_shadow_t") == [(0,)]:
        world.copy.step()
    assert [(300,)] == world.rows("SELECT count(*) FROM s._tailrace_shadow_t")
    world.run("BEGIN", "UPDATE t SET u = 'x' WHERE id = 1", "UPDATE t SET u = '1' WHERE id = 600", "COMMIT")
    world.settle()
    assert [("x",), ("1",)] == world.rows("SELECT u FROM s.t WHERE id IN (1, 600) ORDER BY id")
    assert world.verification.run().clean
    unique = "SELECT count(*) FROM pg_index WHERE indrelid = 's.t'::regclass AND indisunique AND indisvalid"
    assert [(2,)] == world.rows(unique)


def test_a_quarantined_row_comes_free_under_a_wider_key(small: list[Small], tmp_path: Path, database_url: str) -> None:
    """The key's schema is another one when the row is sent again: the key is the same."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(k PRIMARY KEY NOT NULL, u TEXT UNIQUE)")
    small.append(world)
    world.run("INSERT INTO t VALUES (1, 'a')")
    world.settle()
    world.target.run("INSERT INTO s.t VALUES (77, 'taken')")
    world.run("INSERT INTO t VALUES (2, 'taken')")
    for _ in range(10):
        world.capture.step()
        world.sink.step()
    assert 1 == world.progress().tables["t"].quarantined
    world.run("INSERT INTO t VALUES ('text', 'b')")
    for _ in range(10):
        world.capture.step()
        world.sink.step()
    world.target.run("DELETE FROM s.t WHERE u = 'taken'")
    touch(world.app, world.source().database().tables["t"], 1, [(2,)])
    for _ in range(60):
        world.capture.step()
        world.sink.step()
        world.copy.step()
    assert 0 == world.progress().tables["t"].quarantined
    assert world.verification.run().clean


def test_a_copy_brings_what_the_stream_left_behind(small: list[Small], tmp_path: Path, database_url: str) -> None:
    """A row above the limit of a message is in quarantine; a copy carries it, and its entry goes."""
    world = Small(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    small.append(world)
    world.capture = world.new_capture(max_row_bytes=1000)
    world.run("INSERT INTO t VALUES (1, 'small')")
    world.settle()
    world.run("INSERT INTO t VALUES (2, zeroblob(5000))")
    for _ in range(10):
        world.capture.step()
        world.sink.step()
    assert 1 == world.progress().tables["t"].quarantined
    request_resync(world.app, "t")
    world.settle()
    assert 0 == world.progress().tables["t"].quarantined
    assert world.verification.run().clean


def test_a_table_that_cannot_be_made_keeps_no_other_waiting(
    small: list[Small], tmp_path: Path, database_url: str
) -> None:
    """PostgreSQL has no table of 1,700 columns; the one that comes first in every order is such a table."""
    wide = ", ".join(f"c{number}" for number in range(1700))
    ddl = (f"CREATE TABLE a(id INTEGER PRIMARY KEY, {wide})", "CREATE TABLE t(id INTEGER PRIMARY KEY)")
    world = Small(tmp_path, database_url, *ddl)
    small.append(world)
    world.app.run("INSERT INTO t VALUES (1)")
    refused = set()
    for _ in range(60):
        world.capture.step()
        world.sink.step()
        try:
            world.copy.step()
        except TailraceError as error:
            refused.add((error.table, error.hint))
    tables = world.progress().tables
    assert (TableState.FOLLOWING, TableState.REQUESTED) == (tables["t"].state, tables["a"].state)
    assert {("a", "exclude_tables leaves it behind")} == refused
    assert [(1,)] == world.rows("SELECT id FROM s.t")
