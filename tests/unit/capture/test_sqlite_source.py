"""Rows by key and ranges in key order, for keys of every kind, on a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import install, touch
from capture.sqlite_source import SqliteSource, rows_sql
from schemas.change import Position
from schemas.introspect import introspect
from schemas.model import LOG, BadText, Key, KeyKind, Row, Table

BAD = "CAST(x'66ff' AS TEXT)"

# name -> (DDL, rows as SQL values, kind of key)
TABLES: dict[str, tuple[str, str, KeyKind]] = {
    "alias": ("(id INTEGER PRIMARY KEY, v)", "(-3, 'a'), (0, 'b'), (7, 'c'), (9e15, 'd')", KeyKind.ROWID_ALIAS),
    "text": ("(k TEXT PRIMARY KEY NOT NULL, v)", "('a', 1), ('B', 2), ('', 3), ('é', 4)", KeyKind.DECLARED),
    "bad": ("(k TEXT PRIMARY KEY NOT NULL, v)", f"('a', 1), ({BAD}, 2), ('z', 3), (x'66ff', 4)", KeyKind.DECLARED),
    "nocase": ("(k TEXT COLLATE NOCASE PRIMARY KEY NOT NULL, v)", "('b', 1), ('A', 2), ('C', 3)", KeyKind.DECLARED),
    "loose": (
        "(k PRIMARY KEY NOT NULL, v) WITHOUT ROWID",
        f"(1, 1), (1.5, 2), ('1', 3), (x'31', 4), (-0.0, 5), ({BAD}, 6), (CAST(x'21ff' AS TEXT), 7)",
        KeyKind.DECLARED,
    ),
    "pair": (
        "(v, b TEXT NOT NULL, a INT NOT NULL, PRIMARY KEY(a, b))",
        "(1, 'x', 1), (2, 'y', 1), (3, 'x', 2), (4, 'w', 3)",
        KeyKind.DECLARED,
    ),
    "bare": ("(v, w)", "(NULL, 1), (NULL, 1), ('x', NULL)", KeyKind.ROWID),
    "nulls": ("(k TEXT PRIMARY KEY, v)", "(NULL, 1), (NULL, 2), ('a', 3)", KeyKind.ROWID),
    "shadowed": ("(rowid TEXT, v)", "('a', 1), ('a', 1), (NULL, 3)", KeyKind.ROWID),
}


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    for name, (ddl, rows, _) in TABLES.items():
        one.run(f"CREATE TABLE {name}{ddl}")
        one.run(f"INSERT INTO {name} VALUES {rows}")
    install(one, "one", wal=True)
    yield one
    one.close()


def table_of(db: SqliteDatabase, name: str) -> Table:
    return introspect(db).tables[name]


def exact(rows: list[Row]) -> list[str]:
    """Order and storage classes both matter."""
    return [repr([(type(value).__name__, value) for value in row]) for row in rows]


def pages(source: SqliteSource, table: Table, *, limit_rows: int, upto: Key | None = None) -> list[Row]:
    result: list[Row] = []
    after: Key | None = None
    while found := source.range(table, after, limit_rows=limit_rows, upto=upto):
        assert limit_rows >= len(found)
        result += found
        after = source.key_of(table, found[-1])
        assert len(result) <= 100
    return result


@pytest.mark.parametrize("name", TABLES)
def test_pages_of_one_are_the_whole_table(db: SqliteDatabase, name: str) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, name)
    assert TABLES[name][2] == table.key.kind
    whole = list(source.range(table, None, limit_rows=1000))
    assert source.count(table) == len(whole)
    for limit_rows in (1, 2, 3):
        assert exact(whole) == exact(pages(source, table, limit_rows=limit_rows))


@pytest.mark.parametrize("name", TABLES)
def test_a_range_ends_at_its_upper_key(db: SqliteDatabase, name: str) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, name)
    whole = list(source.range(table, None, limit_rows=1000))
    for count, row in enumerate(whole, start=1):
        assert exact(whole[:count]) == exact(pages(source, table, limit_rows=2, upto=source.key_of(table, row)))


@pytest.mark.parametrize("name", TABLES)
def test_every_row_is_found_by_its_key(db: SqliteDatabase, name: str) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, name)
    whole = list(source.range(table, None, limit_rows=1000))
    keys = [source.key_of(table, row) for row in whole]
    with source.view() as view:
        found = view.rows(table, keys)
        for key, row in zip(keys, whole, strict=True):
            assert exact([row]) == exact(list(view.rows(table, [key]).values()))
    assert sorted(exact(whole)) == sorted(exact(list(found.values())))


@pytest.mark.parametrize("name", TABLES)
def test_rows_are_found_by_the_index(db: SqliteDatabase, name: str) -> None:
    """A scan a cut would make capture slower with every row of the table; statistics must not talk SQLite into one."""
    db.run("ANALYZE")
    table = table_of(db, name)
    keys: list[Key] = [(1,) * len(table.key_columns), (BadText(b"\xff"),) * len(table.key_columns)]
    sql = rows_sql(table, keys)
    params = [value for key in keys for value in key]
    plan = [str(row[3]) for row in db.rows(f"EXPLAIN QUERY PLAN {sql}", params)]
    alias = [step for step in plan if " t " in f"{step} "]
    assert alias
    assert [] == [step for step in alias if not step.startswith("SEARCH")]


@pytest.mark.parametrize("name", ["k", "t", "new", "old"])
def test_a_table_is_never_taken_for_the_list_of_keys(tmp_path: Path, name: str) -> None:
    """A table called k was the list of keys itself: a deleted row was found, and its deletion lost."""
    one = SqliteDatabase(tmp_path / "named.db", create=True)
    one.run(f"CREATE TABLE {name}(k0 TEXT PRIMARY KEY NOT NULL, v) WITHOUT ROWID")
    one.run(f"INSERT INTO {name} VALUES ('there', 1)")
    table = introspect(one).tables[name]
    with SqliteSource(one, "main").view() as view:
        assert {("there",): ("there", 1)} == view.rows(table, [("there",), ("gone",)])
    one.close()


def test_a_key_of_bad_text_is_not_the_blob_of_its_bytes(db: SqliteDatabase) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, "bad")
    with source.view() as view:
        text = view.rows(table, [(BadText(b"f\xff"),)])
        blob = view.rows(table, [(b"f\xff",)])
    assert [2] == [row[1] for row in text.values()]
    assert [4] == [row[1] for row in blob.values()]


def test_a_key_of_bad_text_does_not_make_texts_of_the_numbers_beside_it(db: SqliteDatabase) -> None:
    """CAST gives an affinity: '1' must not come to find the integer 1 by it."""
    source, table = SqliteSource(db, "main"), table_of(db, "loose")
    with source.view() as view:
        found = view.rows(table, [(BadText(b"f\xff"),), ("1",)])
    assert [3, 6] == sorted(int(str(row[1])) for row in found.values())


def test_a_logged_key_of_bad_text_finds_its_row(db: SqliteDatabase) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, "bad")
    after = db.rows(f"SELECT max(seq) FROM {LOG}")[0][0]
    db.run(f"UPDATE bad SET v = 20 WHERE k = {BAD}")
    with source.view() as view:
        (entry,) = {one.key[:1] for one in view.entries(Position(after), limit_rows=10)}
        assert [20] == [row[1] for row in view.rows(table, [entry]).values()]


def test_a_touched_key_of_bad_text_is_logged_as_text(db: SqliteDatabase) -> None:
    number = metas.read(db).number_of("bad")
    assert number is not None
    touch(db, table_of(db, "bad"), number, [(BadText(b"f\xff"),), (b"f\xff",), (None,)])
    assert [("text",), ("blob",), ("null",)] == db.rows(f"SELECT typeof(k0) FROM {LOG} ORDER BY seq DESC LIMIT 3")[::-1]


def test_asking_for_an_integer_finds_the_real_that_equals_it(db: SqliteDatabase) -> None:
    db.run("UPDATE loose SET k = 1.0 WHERE k = 1")
    source, table = SqliteSource(db, "main"), table_of(db, "loose")
    with source.view() as view:
        found = view.rows(table, [(1,)])
    assert exact([(1.0, 1)]) == exact(list(found.values()))
    assert exact([(1.0,)]) == exact(list(found))


def test_asking_in_other_case_finds_the_row_under_its_own_key(db: SqliteDatabase) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, "nocase")
    with source.view() as view:
        assert {("A",): ("A", 2)} == view.rows(table, [("a",)])


def test_more_keys_than_one_statement_takes(db: SqliteDatabase) -> None:
    db.run(
        "WITH n(i) AS (SELECT 100 UNION ALL SELECT i + 1 FROM n WHERE i < 3100) INSERT INTO pair SELECT 0, 'q', i FROM n"
    )
    source, table = SqliteSource(db, "main"), table_of(db, "pair")
    keys = [(number, "q") for number in range(100, 3101)] + [(5000, "absent")]
    with source.view() as view:
        assert 3001 == len(view.rows(table, keys))


def test_a_missing_row_is_absent(db: SqliteDatabase) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, "alias")
    with source.view() as view:
        assert [(7,)] == list(view.rows(table, [(8,), (7,), (-99,)]))


def test_a_view_stands_still_while_others_write(db: SqliteDatabase) -> None:
    source, table = SqliteSource(db, "main"), table_of(db, "alias")
    other = SqliteDatabase(db.path)
    try:
        with source.view() as view:
            head, mark = view.head(), view.mark()
            other.run("UPDATE alias SET v = 'new'")
            other.run("CREATE TABLE later(x)")
            assert (head, mark) == (view.head(), view.mark())
            assert {(7,): (7, "c")} == view.rows(table, [(7,)])
            assert [] == list(view.entries(Position(head), limit_rows=10))
        with source.view() as view:
            assert head + 4 == view.head()
            assert mark[0] != view.mark()[0]
    finally:
        other.close()


def test_changed_tells_of_each_foreign_commit_once(db: SqliteDatabase) -> None:
    source = SqliteSource(db, "main")
    other = SqliteDatabase(db.path)
    try:
        assert [True, False] == [source.changed(), source.changed()]
        other.run("UPDATE alias SET v = 'new'")
        assert [True, False] == [source.changed(), source.changed()]
    finally:
        other.close()
