"""The short cut of a form and the form itself, asked of SQLite: what is sure matches, and has no NUL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing

import pytest

from schemas.forms import matches, surely

FORMS = {
    "date": "2024-05-31",
    "timestamp:_0": "2024-05-31 23:59:01",
    "timestamp:T0": "2024-05-31T23:59:01",
    "timestamp:T0Z": "2024-05-31T23:59:01Z",
    "timestamp:_3": "2024-05-31 23:59:01.120",
    "timestamp:_6": "2024-05-31 23:59:01.000000",
    "timestamp:_u": "2024-05-31 23:59:01",
    "timestamp:T6+00:00": "2024-05-31T23:59:01.000100+00:00",
    "timestamp:_m": "2024-05-31 23:59",
    "timestamp:_x": "2024-05-31 23:59:01.120",
    "timestamp:Tn": "2024-05-31T23:59",
}
DAYS = ["2024-02-29", "2023-02-29", "2024-04-31", "2024-12-19", "0000-01-01", "-0044-03-15", "2024-13-01", "2024-01-00"]
DAYS += ["2024-1-1", "20240101", "now", "", "9999-12-31", "10000-01-01", "٢٠٢٤-01-01", "2024-01-01 "]
REST = ["", " 10:11:12", "T10:11:12", "T10:11:12Z", " 10:11:12.000000", " 24:00:00", " 23:59:60", "T10:11:12+02:00"]
REST += [" 10:11", " 10:11:12.120", "\0", " 10:11:12\0", "T10:11:12Z\0x", " 10:11:12 ", "T10:11:12.000100+00:00"]


REST += [" 10:11:12.120000", " 10:11:00", "T10:11"]


@pytest.fixture(scope="module")
def db() -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(":memory:")) as one:
        # RTRIM and NUMERIC affinity: neither may have a say.
        one.execute("CREATE TABLE t(c DATE COLLATE RTRIM)")
        texts = [day + rest for day in DAYS for rest in REST]
        values = [*texts, *FORMS.values(), *(text.encode() for text in (*texts, *FORMS.values()))]
        one.executemany("INSERT INTO t VALUES (?)", [(value,) for value in (*values, 2460000, 2460000.5, None)])
        yield one


@pytest.mark.parametrize("form", FORMS)
def test_what_is_sure_matches(db: sqlite3.Connection, form: str) -> None:
    sure, full = surely(form, "c"), matches(form, "c")
    assert sure is not None
    found = db.execute(f"SELECT c, typeof(c), instr(c, char(0)), {full} FROM t WHERE {sure}").fetchall()
    assert set() == {kind for _, kind, _, _ in found} - {"text"}
    assert [] == [one for one, _, nul, matching in found if nul or not matching]


@pytest.mark.parametrize(("form", "text"), FORMS.items())
def test_the_short_cut_is_taken(db: sqlite3.Connection, form: str, text: str) -> None:
    assert (1, 1) == db.execute(
        f"SELECT {surely(form, 'c')}, {matches(form, 'c')} FROM t WHERE c = ?", (text,)
    ).fetchone()


def test_json_has_no_short_cut() -> None:
    assert None is surely("json", "c")
