"""The file's own state is told as it is: a whole one is never refused, a damaged one always."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from schemas.errors import Failed


def _damage(path: Path, *, deep: bool = False) -> list[str]:
    with closing(SqliteDatabase(path, read_only=True)) as database:
        try:
            return database.damage(deep=deep)
        except Failed as error:  # an older SQLite may not get as far as a list
            return [error.code]


def test_a_whole_file_is_not_called_damaged(tmp_path: Path) -> None:
    """SQLite 3.40's quick_check says "NULL value in t.a" here."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute("CREATE TABLE t (a, b, PRIMARY KEY (b, a)) WITHOUT ROWID")
        app.execute("INSERT INTO t VALUES (1, 2)")
        app.commit()
    assert [] == _damage(path)
    assert [] == _damage(path, deep=True)


def test_a_page_of_noise_is_found(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        app.executemany("INSERT INTO t VALUES (?, ?)", [(at, "x" * 500) for at in range(100)])
        app.commit()
    content = bytearray(path.read_bytes())
    content[-4096:] = b"\x5a" * 4096
    path.write_bytes(content)
    assert 1 <= len(_damage(path)) <= 3
    assert 1 <= len(_damage(path, deep=True)) <= 3


def test_a_null_in_a_key_that_forbids_it_is_found(tmp_path: Path) -> None:
    """What integrity_check confirms is refused: here the declaration was changed under rows that break it."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        app.execute("INSERT INTO t VALUES (1, NULL)")
        app.execute("PRAGMA writable_schema = ON")
        app.execute("UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a NOT NULL)'")
        app.commit()
    assert ["NULL value in t.a"] == _damage(path)


def test_what_needs_the_application_stops_no_check_of_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as app:
        app.create_collation("german", lambda a, b: (a > b) - (a < b))
        app.execute("CREATE TABLE k (k TEXT COLLATE german PRIMARY KEY)")
        app.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a)")
        app.execute("INSERT INTO t VALUES (1, NULL)")
        app.commit()
        assert [] == _damage(path)
        app.execute("PRAGMA writable_schema = ON")
        app.execute(
            "UPDATE sqlite_schema SET sql = 'CREATE TABLE t (id INTEGER PRIMARY KEY, a NOT NULL)' WHERE name = 't'"
        )
        app.commit()
    assert ["NULL value in t.a"] == _damage(path)
