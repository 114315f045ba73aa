"""Two dozen kinds of damage on the target, one a row, each found by `verify` and mended by `repair` through the stream."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tests.live import Live
from tests.nasty.meaning import differences

DDL = """CREATE TABLE d(id INTEGER PRIMARY KEY, i INTEGER, r REAL, t TEXT, t2 TEXT, b BLOB, n DECIMAL(10,2), day DATE,
    at DATETIME, flag BOOLEAN, nul TEXT, any, num NUMERIC, doc JSON)"""
ROW = (
    7,
    0.5,
    "Straße é",
    "other",
    b"\x00\xff",
    12.5,
    "2024-02-29",
    "2024-02-29 12:00:00",
    1,
    "a\x00b",
    5,
    "5 apples",
    "{}",
)

DAMAGE = {
    "a lost row": "DELETE FROM app.d WHERE id = {id}",
    "an extra row": 'INSERT INTO app.d SELECT 1000, i, r, t, t2, b, n, day, at, flag, nul, "any", num, doc '
    "FROM app.d WHERE id = {id}",
    "one bit of a float": "UPDATE app.d SET r = 0.5000000000000001 WHERE id = {id}",
    "minus zero": "UPDATE app.d SET r = '-0' WHERE id = {id}",
    "text cut at NUL": "UPDATE app.d SET nul = 'a' WHERE id = {id}",
    "'' for NULL": "UPDATE app.d SET t2 = '' WHERE id = {id}",
    "NULL for ''": "UPDATE app.d SET t2 = NULL WHERE id = {id}",
    "a trailing space": "UPDATE app.d SET t = t || ' ' WHERE id = {id}",
    "NFD for NFC": "UPDATE app.d SET t = normalize(t, NFD) WHERE id = {id}",
    "swapped columns": "UPDATE app.d SET t = t2, t2 = t WHERE id = {id}",
    "another case": "UPDATE app.d SET t = upper(t) WHERE id = {id}",
    "a wrong blob": "UPDATE app.d SET b = '\\x00fe' WHERE id = {id}",
    "text for an integer in jsonb": 'UPDATE app.d SET "any" = \'"5"\' WHERE id = {id}',
    "a real for an integer in jsonb": "UPDATE app.d SET \"any\" = '5.0' WHERE id = {id}",
    "a foreign kind of JSON": "UPDATE app.d SET \"any\" = '[5]' WHERE id = {id}",
    "a shifted date": "UPDATE app.d SET day = day + 1 WHERE id = {id}",
    "a moment moved by less than its form shows": "UPDATE app.d SET at = at + interval '1 microsecond' WHERE id = {id}",
    "infinity for a date": "UPDATE app.d SET day = 'infinity' WHERE id = {id}",
    "zeros behind a number": "UPDATE app.d SET n = 12.50 WHERE id = {id}",
    "a rounded number": "UPDATE app.d SET n = 13 WHERE id = {id}",
    "a flipped boolean": "UPDATE app.d SET flag = NOT flag WHERE id = {id}",
    "a document spelled anew": "UPDATE app.d SET doc = '{{ }}' WHERE id = {id}",
    "an integer off by one": "UPDATE app.d SET i = i + 1 WHERE id = {id}",
    "a number for text": "UPDATE app.d SET num = '5' WHERE id = {id}",
}


def _made(folder: Path) -> list[Path]:
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(DDL)
        for at, kind in enumerate(DAMAGE, 1):
            row: list[object] = list(ROW)
            if kind == "minus zero":
                row[1] = 0.0
            if kind == "NULL for ''":
                row[3] = ""
            if kind == "'' for NULL":
                row[3] = None
            db.execute(f"INSERT INTO d VALUES ({at}, {', '.join('?' * len(row))})", row)
        db.execute("INSERT INTO d(id, \"any\", num) VALUES (500, 'text', 5), (501, 2.5, 2.5)")
    return [folder / "app.db"]


@pytest.fixture
def live(tmp_path: Path, database_url: str) -> Iterator[Live]:
    made = Live(tmp_path, database_url, _made)
    yield made
    made.close()


@pytest.mark.slow
def test_every_kind_of_damage_is_found_and_mended(live: Live) -> None:
    live.up()
    live.settle()
    assert 0 == live.run("verify").returncode
    with psycopg.connect(live.url, autocommit=True) as target:
        for at, (kind, sql) in enumerate(DAMAGE.items(), 1):
            assert 1 == target.execute(sql.format(id=at).encode()).rowcount, kind
    found = live.run("verify", "--json")
    assert 4 == found.returncode
    (table,) = json.loads(found.stdout)["sources"]["app"]["tables"]
    seen = {key[0] for key in table["keys"]}
    numbers = {kind: at if kind != "an extra row" else 1000 for at, kind in enumerate(DAMAGE, 1)}
    assert [] == [kind for kind, number in numbers.items() if number not in seen]
    assert set(numbers.values()) == seen
    assert (1, 1, len(DAMAGE) - 2) == (table["missing"], table["extra"], table["differing"])
    assert 0 == live.run("repair").returncode
    live.settle()
    assert 0 == live.run("verify").returncode
    assert [] == list(differences(live.folder / "app.db", live.url, "app"))
