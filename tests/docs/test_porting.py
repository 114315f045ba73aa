"""docs/porting.md: every pair of statements gives one result on both engines, every refused one is refused."""

from __future__ import annotations

import ast
import datetime
import re
import sqlite3
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import Postgres
from schemas.errors import TailraceError
from tests.fix_postgres import _database

TEXT = (Path(__file__).resolve().parent.parent.parent / "docs" / "porting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```sql ([a-z ]+)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def _pairs() -> list[tuple[str, str]]:
    plain = [(kind, sql) for kind, sql in BLOCKS if kind in ("sqlite", "postgresql")]
    assert [("sqlite", "postgresql")] * (len(plain) // 2) == [
        (plain[at][0], plain[at + 1][0]) for at in range(0, len(plain), 2)
    ]
    return [(plain[at][1], plain[at + 1][1]) for at in range(0, len(plain), 2)]


PAIRS = _pairs()
REFUSED = [sql for kind, sql in BLOCKS if kind == "refused"]


class Both:
    def __init__(self, url: str) -> None:
        self.here = sqlite3.connect(":memory:", isolation_level=None)
        self.there = Postgres(url, application_name="tests")
        setup = {kind: sql for kind, sql in BLOCKS if kind.endswith("setup")}
        self.here.executescript(setup["sqlite setup"])
        self.there.run(setup["postgresql setup"])
        names = self.there.rows("SELECT oid::regclass::text FROM pg_class WHERE relkind = 'S'")
        self.sequences = {name: self.there.rows(f"SELECT last_value FROM {name}")[0][0] for (name,) in names}

    def sqlite(self, text: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        self.here.execute("SAVEPOINT pair") if "BEGIN" not in text else None
        try:
            for statement, params in _statements(text):
                rows = self.here.execute(statement, params).fetchall()
        finally:
            if self.here.in_transaction:
                self.here.execute("ROLLBACK")
        return [tuple(map(_plain, row)) for row in rows]

    def postgresql(self, text: str) -> list[tuple[Any, ...]]:
        rows: list[tuple[Any, ...]] = []
        self.there.run("BEGIN")
        # A sequence does not go back with its transaction: what the pair before took would show in this one.
        for name, last in self.sequences.items():
            self.there.rows("SELECT setval(%s::regclass, %s)", (name, last))
        try:
            for statement, params in _statements(text):
                rows = self.there.rows(statement, params)
        finally:
            self.there.run("ROLLBACK")
        return [tuple(map(_plain, row)) for row in rows]


def _statements(text: str) -> list[tuple[str, tuple[Any, ...]]]:
    params: tuple[Any, ...] = ()
    if text.startswith("-- with "):
        first, text = text.split("\n", 1)
        params = ast.literal_eval(f"({first.removeprefix('-- with ')},)")
    return [(one.strip(), params) for one in re.split(r";\s*\n", text) if one.strip()]


def _plain(value: Any) -> Any:
    """True is 1, a Decimal its number, a moment its text: the values that an application compares."""
    if isinstance(value, bool):
        return int(value)
    if isinstance(value, Decimal):
        return float(value)
    return value.isoformat(" ") if isinstance(value, datetime.datetime) else value


@pytest.fixture(scope="module")
def both(postgres_url: str) -> Iterator[Both]:
    for url in _database(postgres_url):
        one = Both(url)
        yield one
        one.here.close()
        one.there.close()


@pytest.mark.parametrize(("sqlite", "postgresql"), PAIRS)
def test_a_pair_gives_one_result(both: Both, sqlite: str, postgresql: str) -> None:
    found = both.sqlite(sqlite)
    assert found
    assert found == both.postgresql(postgresql)


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_refused_is_refused(both: Both, sql: str) -> None:
    with pytest.raises(TailraceError):
        both.postgresql(sql)


def test_the_document_covers_the_usual_suspects() -> None:
    assert len(PAIRS) >= 40
    for word in (
        "?",
        "last_insert_rowid",
        "INSERT OR REPLACE",
        "datetime('now')",
        "LIKE",
        "group_concat",
        "LIMIT -1",
        "rowid",
        "typeof",
        "PRAGMA",
        "ON CONFLICT",
        "BEGIN IMMEDIATE",
        "NULLS FIRST",
        '"bob"',
        "visits / 2",
    ):
        assert word in TEXT
