"""The application changes its schema while everything runs: each change does what DESIGN.md says, no statement of the
application fails, and no reader of the target ever sees a table empty."""

from __future__ import annotations

import signal
import sqlite3
import threading
from contextlib import closing
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.look import Looker
from cli.up import settled
from schemas.errors import TailraceError
from tests.fix_pipeline import Pipeline

CHANGES = {
    "add column, written at once": [
        "ALTER TABLE parties ADD COLUMN born",
        "UPDATE parties SET born = 1970 WHERE case_id < 20",
        "UPDATE parties SET born = x'00ff' WHERE case_id = 3",
    ],
    "add column with a default, nothing written": ["ALTER TABLE parties ADD COLUMN side TEXT NOT NULL DEFAULT 'left'"],
    "add generated column": ["ALTER TABLE ledger ADD COLUMN doubled AS (balance * 2)"],
    "two at once while a copy runs": [
        "ALTER TABLE documents RENAME COLUMN pages TO sheets",
        "ALTER TABLE parties RENAME COLUMN contact TO reached_by",
        "ALTER TABLE parties RENAME COLUMN reached_by TO reached",
        "UPDATE documents SET sheets = 'many' WHERE case_id < 5",
    ],
    "new table": ["CREATE TABLE fees(id INTEGER PRIMARY KEY, n REAL)", "INSERT INTO fees VALUES (1, 0.1), (-4, 9e999)"],
    "rename column": ["ALTER TABLE parties RENAME COLUMN contact TO reached_by", "UPDATE parties SET reached_by = 'x'"],
    "drop column": ["ALTER TABLE documents DROP COLUMN pages", "UPDATE documents SET sha256 = 'y' WHERE case_id < 9"],
    "create, copy, drop, rename": [
        "BEGIN",
        "CREATE TABLE ledger2(account INTEGER PRIMARY KEY, balance INTEGER NOT NULL, currency TEXT DEFAULT 'x')",
        "INSERT INTO ledger2(account, balance) SELECT * FROM ledger",
        "DROP TABLE ledger",
        "ALTER TABLE ledger2 RENAME TO ledger",
        "UPDATE ledger SET balance = balance + 1 WHERE account = 1",
        "COMMIT",
        "UPDATE ledger SET balance = balance - 1 WHERE account = 2",
    ],
    "vacuum of a rowid-keyed table": [
        "DELETE FROM audit WHERE rowid % 2 = 0",
        "VACUUM",
        "INSERT INTO audit VALUES (1, 2, 3)",
    ],
    "application trigger made after ours": [
        "CREATE TRIGGER late AFTER UPDATE ON ledger BEGIN INSERT INTO audit VALUES ('late', NEW.account, NULL); END",
        "UPDATE ledger SET balance = balance WHERE account < 5",
    ],
    "rename table": ["ALTER TABLE counters RENAME TO tallies", "UPDATE tallies SET value = value + 1"],
    "drop table": ["DROP TABLE documents"],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", list(CHANGES))
def test_change(pipeline: Pipeline, database_url: str, name: str) -> None:
    pipeline.install()
    pipeline.start()
    with closing(sqlite3.connect(pipeline.folder / "cases.db", isolation_level=None)) as app:
        app.executemany("INSERT INTO audit VALUES ('old', ?, NULL)", [(number,) for number in range(200)])
    pipeline.settle()
    with _Reader(database_url) as reader:
        # busy_timeout 0: the application sees at once if we hold a lock it needs.
        with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
            for statement in CHANGES[name]:
                app.execute(statement)
        pipeline.settle()
        for report in pipeline.verify():
            assert [] == [table.as_json() for table in report.tables if not table.clean]
    assert [] == reader.empty
    assert 0 < reader.looks


@pytest.mark.slow
def test_a_table_that_capture_has_not_seen_is_not_settled(pipeline: Pipeline, database_url: str) -> None:
    """A look between the application's CREATE TABLE and capture's called everything settled, without the table."""
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    looker = Looker(pipeline.config, list(pipeline.config.source_databases))
    pipeline.processes["capture"].send_signal(signal.SIGSTOP)
    try:
        with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
            app.execute("CREATE TABLE fees(id INTEGER PRIMARY KEY, n REAL)")
        before, document = looker.look(), looker.look()
    finally:
        pipeline.processes["capture"].send_signal(signal.SIGCONT)
        looker.close()
    assert (True, 0) == (document["sources"]["cases"]["consistent"], document["sources"]["cases"]["lag_changes"])
    assert not settled(document, before)
    assert "cases: its schema was changed, and capture has not taken that over yet" in document["blocking_reasons"]
    pipeline.settle()
    with closing(Postgres(database_url, application_name="reader")) as target:
        assert [(0,)] == target.rows("SELECT count(*) FROM cases.fees")


class _Reader:
    """Reads row counts of two tables in REPEATABLE READ, with a pause between snapshot and read, all the time."""

    def __init__(self, url: str) -> None:
        self.empty: list[str] = []
        self.looks = 0
        self._url = url
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> _Reader:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _read(self) -> None:
        target = Postgres(self._url, application_name="reader")
        try:
            while not self._stop.is_set():
                try:
                    with target.snapshot():
                        target.rows("SELECT 1 FROM tailrace.progress")
                        self._stop.wait(0.05)
                        for table in ("ledger", "audit", "parties"):
                            if target.rows(f"SELECT count(*) FROM cases.{table}")[0][0] == 0:
                                self.empty.append(table)
                    self.looks += 1
                except TailraceError:
                    # DDL of a widening may cancel a reader; it may not show it an empty table.
                    continue
        finally:
            target.close()


def test_uninstall_leaves_the_source_as_it_was(pipeline: Pipeline, tmp_path: Path) -> None:
    def schema(path: Path) -> list[object]:
        with closing(sqlite3.connect(path)) as connection:
            rows = connection.execute(
                "SELECT type, name, tbl_name, sql FROM sqlite_schema ORDER BY type, name"
            ).fetchall()
            return [*rows, connection.execute("PRAGMA journal_mode").fetchone()]

    paths = [pipeline.config.source_path(name) for name in pipeline.config.source_databases]
    before = [schema(path) for path in paths]
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    pipeline.close()
    done = pipeline.run("uninstall", "--yes")
    assert 0 == done.returncode, done.stderr
    assert "left on the target" in done.stdout
    assert before == [schema(path) for path in paths]
    for path in paths:
        with closing(sqlite3.connect(path)) as connection:
            assert ("ok",) == connection.execute("PRAGMA integrity_check").fetchone()


def test_uninstall_beside_an_open_connection_removes_nothing(pipeline: Pipeline, tmp_path: Path) -> None:
    """The mode the file had before was forgotten, and the file stayed in WAL for ever."""
    path = pipeline.folder / "cases.db"
    with closing(sqlite3.connect(path)) as app:
        app.execute("PRAGMA journal_mode=DELETE")
    pipeline.install()
    with closing(sqlite3.connect(path)) as app:
        app.execute("SELECT count(*) FROM cases").fetchone()
        refused = pipeline.run("uninstall", "cases", "--yes")
        assert 3 == refused.returncode
        assert "nothing was removed" in refused.stderr
        assert app.execute("SELECT count(*) FROM sqlite_master WHERE name = '_tailrace_meta'").fetchone() == (1,)
    assert 0 == pipeline.run("uninstall", "cases", "--yes").returncode
    with closing(sqlite3.connect(path)) as app:
        assert ("delete",) == app.execute("PRAGMA journal_mode").fetchone()
    assert "nothing of ours" in pipeline.run("uninstall", "cases", "--yes").stdout
