"""What does not simply cross, arriving while daemons run: widened, copied again or kept behind, as it is ordered."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.live import Live
from tests.nasty.meaning import differences

DDL = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, i INTEGER, n NUMERIC, s TEXT, u, v)",
    "CREATE TABLE named(k TEXT PRIMARY KEY, v)",
    "CREATE TABLE found(id INTEGER PRIMARY KEY, s TEXT, b TEXT UNIQUE)",
    "CREATE INDEX found_s ON found(s)",
    "INSERT INTO t VALUES (1, 1, 0.5, 'text', 'word', 1), (2, 2, 7, 'more', 'words', 2)",
    "INSERT INTO named VALUES ('a', 1), ('b', 2)",
    "INSERT INTO found VALUES (1, 'short', 'one'), (2, 'short', 'two')",
)


def _made(folder: Path) -> list[Path]:
    with closing(sqlite3.connect(folder / "app.db", isolation_level=None)) as db:
        db.execute("PRAGMA journal_mode = WAL")
        for statement in DDL:
            db.execute(statement)
    return [folder / "app.db"]


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[list[Live]]:
    made: list[Live] = []
    yield made
    for one in made:
        one.close()


def _app(live: Live, *statements: str) -> None:
    with closing(sqlite3.connect(live.folder / "app.db", timeout=20, isolation_level=None)) as db:
        for statement in statements:
            db.execute(statement)


def _there(live: Live, sql: str) -> list[tuple[Any, ...]]:
    with psycopg.connect(live.url) as target:
        return target.execute(sql.encode()).fetchall()


def _codecs(live: Live, table: str) -> dict[str, str]:
    ((plan,),) = _there(live, f"SELECT plan::text FROM tailrace.tables WHERE \"table\" = '{table}'")
    return {column["name"]: column["codec"] for column in json.loads(plan)["columns"]}


def _kept(live: Live) -> dict[tuple[str, str], str]:
    listed = json.loads(live.run("quarantine", "list", "--json").stdout)
    return {(one["table"], str(next(iter(one["key"].values())))): one["reason"] for one in listed}


def _same(live: Live) -> None:
    verified = live.run("verify")
    assert 0 == verified.returncode, verified.stdout + verified.stderr
    assert [] == list(differences(live.folder / "app.db", live.url, "app"))


@pytest.mark.slow
def test_by_default_everything_widens_and_nothing_stays_behind(
    tmp_path: Path, database_url: str, lives: list[Live]
) -> None:
    live = Live(tmp_path, database_url, _made)
    lives.append(live)
    live.up()
    live.settle()
    _app(
        live,
        "INSERT INTO t VALUES (3, 'three', '9223372036854775808', 'a' || char(0) || 'b', 5, x'00')",
        "INSERT INTO t VALUES (4, 4, 1e400, CAST(x'ff41' AS TEXT), NULL, 'text')",
        "INSERT INTO named VALUES (NULL, 'a NULL in a declared key')",
        "UPDATE found SET s = (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "SELECT group_concat(hex(randomblob(5))) FROM n) WHERE id = 1",
        "INSERT INTO found VALUES (3, 'after it', (SELECT s || 'x' FROM found WHERE id = 1))",
    )
    live.settle()
    assert {"i": "affinity-text:INTEGER", "s": "text-bytes", "u": "jsonb"}.items() <= _codecs(live, "t").items()
    assert "_tailrace_rowid" in _codecs(live, "named")
    indexes = " ".join(row[0] for row in _there(live, "SELECT indexdef FROM pg_indexes WHERE tablename = 'found'"))
    assert 2 == indexes.count("md5(")
    _same(live)


QUARANTINE = 'on_misfit = "quarantine"\non_nul = "quarantine"'


@pytest.mark.slow
def test_ordered_so_what_does_not_fit_stays_behind_until_the_order_changes(
    tmp_path: Path, database_url: str, lives: list[Live]
) -> None:
    live = Live(tmp_path, database_url, _made, settings=QUARANTINE)
    lives.append(live)
    up = live.up()
    live.settle()
    before = _codecs(live, "t")
    _app(
        live,
        "INSERT INTO t VALUES (3, 'three', 1, '', '', 1)",
        "INSERT INTO t VALUES (4, 4, 4, 'a' || char(0) || 'b', '', 1)",
        "INSERT INTO t(id, v) VALUES (5, zeroblob(20000000))",
        "UPDATE t SET i = 'two' WHERE id = 2",
        "INSERT INTO named VALUES (x'00', 'a key that the column does not hold')",
        "UPDATE found SET s = (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "SELECT group_concat(hex(randomblob(5))) FROM n) WHERE id = 1",
        "INSERT INTO t VALUES (6, 6, 6, 'the stream goes on', '', 1)",
    )
    live.until(lambda: bool(_there(live, "SELECT 1 FROM app.t WHERE id = 6")))
    assert before == _codecs(live, "t")
    kept = _kept(live)
    rows = {("t", "2"), ("t", "3"), ("t", "4"), ("t", "5"), ("named", "x'00'"), ("found", "1")}
    assert rows == set(kept)
    assert "on_misfit" in kept["t", "2"]
    assert "on_nul" in kept["t", "4"]
    status = live.status()
    assert not status["can_cutover"]
    assert "app: 6 rows in quarantine" in status["blocking_reasons"]  # type: ignore[operator]
    assert 4 == live.run("verify").returncode
    # Waived, the gate opens, and a row that is not there is still a difference.
    assert 0 == live.run("quarantine", "waive", "app", "t", "--reason", "tried").returncode
    assert 4 == live.run("verify", "t").returncode
    # Deleted at the source, a key that never fitted comes free.
    _app(live, "DELETE FROM named WHERE typeof(k) = 'blob'")
    live.until(lambda: ("named", "x'00'") not in _kept(live))
    live.end(up)
    live.configure("", limits="max_row_bytes = 33554432", transport="max_message_bytes = 33554432")
    live.up()
    assert 0 == live.run("quarantine", "retry").returncode
    live.settle()
    assert {} == _kept(live)
    _same(live)


@pytest.mark.slow
def test_text_of_any_class_is_named_and_blocks_until_it_is_waived(
    tmp_path: Path, database_url: str, lives: list[Live]
) -> None:
    live = Live(tmp_path, database_url, _made, settings='on_mixed = "text"')
    lives.append(live)
    up = live.up()
    live.settle()
    _app(live, "INSERT INTO t(id, u, v) VALUES (3, 5, 'word'), (4, 2.5, 1), (5, x'00', 1)")
    live.until(lambda: ("t", "5") in _kept(live))
    assert ("loose-text", "loose-text") == tuple(_codecs(live, "t")[name] for name in "uv")
    assert [("1",), ("2",), ("word",), ("1",)] == _there(live, "SELECT v FROM app.t ORDER BY id")
    _app(live, "DELETE FROM t WHERE id = 5")
    live.settle()
    assert 0 == live.run("verify").returncode
    reasons = live.status()["blocking_reasons"]
    assert any("app.t.u" in reason for reason in reasons)  # type: ignore[attr-defined]
    live.end(up)
    live.configure(
        'on_mixed = "text"\n[columns."app.t.u"]\nrestore = "waived"\n[columns."app.t.v"]\nrestore = "waived"'
    )
    assert [] == live.status()["blocking_reasons"]
    # An order that the running table does not follow is said, whether the daemons were restarted or not.
    live.configure(
        'on_mixed = "text"\n[columns."app.t.u"]\nrestore = "waived"\n[columns."app.t.v"]\nrestore = "waived"\n'
        '[columns."app.t.i"]\ntype = "text"'
    )
    (reason,) = live.status()["blocking_reasons"]  # type: ignore[misc]
    assert 'column app.t.i: type = "text" is ordered, the table has bigint' in reason  # type: ignore[has-type]
