"""The way back as an operator meets it: real daemons and verbs, a column that is added, a row that SQLite cannot hold, and a
stream that is begun anew."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import Postgres
from tests.fix_pipeline import Pipeline

WAIVED = (
    *("backup cases", "backup auth", "object:cases.open_case_titles", "object:cases.case_search"),
    *("object:cases.case_added", "object:cases.case_removed"),
)


@pytest.fixture
def switched(tmp_path: Path, database_url: str) -> Iterator[tuple[Pipeline, Postgres]]:
    made = Pipeline(tmp_path / "run", database_url, cases=3)
    app = Postgres(database_url, application_name="app")
    try:
        made.install()
        made.start()
        made.settle()
        said(made, "verify")
        said(made, "cutover", *(word for one in WAIVED for word in ("--waive", one)))
        yield made, app
    finally:
        app.close()
        made.close()


def said(pipeline: Pipeline, *arguments: str, code: int = 0) -> Any:
    done = pipeline.run(*arguments, "--json")
    assert code == done.returncode, done.stdout + done.stderr + pipeline.story()
    return json.loads(done.stdout) if done.stdout else done.stderr


def until(pipeline: Pipeline, condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, pipeline.story()
        time.sleep(0.1)


def source(pipeline: Pipeline, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{pipeline.folder}/cases.db?mode=ro", uri=True)) as db:
        return db.execute(sql).fetchall()


def test_the_way_back_by_its_verbs(switched: tuple[Pipeline, Postgres]) -> None:
    pipeline, app = switched
    app.run("ALTER TABLE cases.cases ADD COLUMN due timestamptz, ADD COLUMN level int NOT NULL DEFAULT 3")
    app.run("UPDATE cases.cases SET level = 7, due = '2026-01-02 03:04:05.6+00' WHERE id = 1")
    app.run("UPDATE cases.cases SET due = 'infinity' WHERE id = 2")
    until(pipeline, lambda: bool(source(pipeline, "SELECT 1 FROM _tailrace_quarantine")))
    assert [(7, "2026-01-02 03:04:05.600000+00:00")] == source(pipeline, "SELECT level, due FROM cases WHERE id = 1")
    assert [(3, None)] == source(pipeline, "SELECT level, due FROM cases WHERE id = 2")

    (kept,) = said(pipeline, "quarantine", "list")
    assert ("cases", "cases", {"id": 2}, "source") == (kept["source"], kept["table"], kept["key"], kept["side"])
    status = said(pipeline, "rollback", "--status")
    assert (False, 1) == (status["can_rollback"], len(status["kept"]))
    assert "cases.cases (2,)" in said(pipeline, "rollback", "--reason", "r", code=3)
    assert {"touched": 1} == said(pipeline, "quarantine", "retry")
    assert {"waived": 1} == said(pipeline, "quarantine", "waive", "cases", "cases", "--reason", "no such day")
    assert said(pipeline, "rollback", "--status")["can_rollback"] in (True, False)  # the retry may have kept it again
    app.run("UPDATE cases.cases SET due = NULL WHERE id = 2")
    until(pipeline, lambda: not source(pipeline, "SELECT 1 FROM _tailrace_quarantine"))

    assert {"sent_back": 0} == said(pipeline, "reset", "cases", "--way-back", "--dry-run")
    assert said(pipeline, "reset", "cases", "--way-back", "--yes", "cases")["sent_back"] > 3
    until(pipeline, lambda: bool(said(pipeline, "rollback", "--status")["can_rollback"]))
    returned = said(pipeline, "rollback", "--reason", "trial", "--verify")
    assert (True, "target") == (returned["clean"], returned["was"])
    pipeline.settle()
    assert said(pipeline, "verify")["clean"]
