"""The oracle of the sample application sees each way in which a write can go wrong."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from examples.legal_cases import repository
from examples.legal_cases.build import build
from examples.legal_cases.oracle import judge
from examples.legal_cases.repository import SqliteStore

NAMES = ("1-0-0-00001", "1-0-0-00002", "1-0-0-00003")


@pytest.fixture
def worked(tmp_path: Path) -> Iterator[tuple[Path, SqliteStore]]:
    """Three writes and a login, all acknowledged."""
    build(tmp_path, seed=1, cases=20)
    store = SqliteStore(tmp_path)
    repository.add_case(store, NAMES[0], "A new case")
    repository.move_money(store, NAMES[1], [1, 2], 7)
    repository.remove_case(store, NAMES[2], 0.5)
    repository.log_in(store, "1-0-0-00004", 3)
    lines = [f"{name} write source" for name in NAMES] + ["1-0-0-00004 login source"]
    (tmp_path / "routed-0.acks").write_text("".join(f"{line}\n" for line in lines))
    (tmp_path / "routed-0.errors").touch()
    yield tmp_path, store
    store.close()


def test_nothing_is_wrong_where_nothing_is(worked: tuple[Path, SqliteStore]) -> None:
    folder, store = worked
    found = judge(folder, store, ended=True)
    assert ({}, 4, 4, 0) == (
        found.wrong,
        found.acknowledged.total,
        found.acknowledged.at("source"),
        found.acknowledged.at("target"),
    )


@pytest.mark.parametrize(
    ("statement", "wrong"),
    [
        (f"DELETE FROM audit WHERE what = '{NAMES[1]}'", {"lost": 1}),
        (f"INSERT INTO audit VALUES ('', '{NAMES[0]}', NULL)", {"doubled": 1}),
        ("INSERT INTO audit VALUES ('', '1-0-0-00009', NULL)", {"written without being acknowledged": 1}),
        ("UPDATE ledger SET balance = balance - 3 WHERE account = 1", {"ledger off by": 3}),
        ("UPDATE counters SET value = value + 2", {"counter off by": 2}),
        ("INSERT INTO audit SELECT * FROM audit WHERE what = 'added' LIMIT 1", {"cases with a wrong audit": 1}),
        ("DELETE FROM audit WHERE what = 'removed'", {"cases with a wrong audit": 1}),
    ],
)
def test_the_oracle_finds_what_is_lost_and_what_is_doubled(
    worked: tuple[Path, SqliteStore], statement: str, wrong: dict[str, int]
) -> None:
    folder, store = worked
    store.rows("cases", statement)
    assert wrong == judge(folder, store, ended=True).wrong


def test_a_lost_session_and_a_complaint_are_found(worked: tuple[Path, SqliteStore]) -> None:
    folder, store = worked
    with sqlite3.connect(folder / "auth.db") as other:
        other.execute("DELETE FROM sessions WHERE token = '1-0-0-00004'")
    other.close()
    (folder / "routed-0.errors").write_text("1-0-0-00004: the session is not at the source\n")
    (folder / "routed-1.acks").write_text(f"{NAMES[0]} write target\n")
    assert {"sessions lost": 1, "errors of the application": 1, "acknowledged twice": 1} == judge(folder, store).wrong
