"""The end of a migration by real verbs: the window and its owner, complete, and uninstall of what was completed."""

from __future__ import annotations

import getpass
import json
import sqlite3
from contextlib import closing

import psycopg
import pytest

from cli.complete import _FIRST
from cli.migration import window_line
from examples.legal_cases.repository import login_url, prepare_postgres
from schemas.authority import Authority
from tests.fix_pipeline import Pipeline

WAIVED = ("backup", "target role", "object:cases.case_search", "object:cases.open_case_titles")
OURS = "SELECT count(*) FROM pg_trigger WHERE tgname LIKE 'tailrace%' AND tgrelid::regclass::text ~ '^(cases|auth)[.]'"


def refused(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.run(*arguments)
    assert 3 == done.returncode, done.stdout + done.stderr
    return done.stderr


def told(pipeline: Pipeline, *arguments: str) -> str:
    done = pipeline.run(*arguments)
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def test_every_phase_but_the_switched_one_has_its_reason() -> None:
    assert set(Authority) - {Authority.TARGET} == set(_FIRST)


@pytest.mark.parametrize(
    ("left_s", "text"),
    [
        (13 * 86_400 + 7_300.0, "rollback window: 13 days 2 h left (switched by root@here)"),
        (7_260.0, "rollback window: 2 h 1 min left"),
        (59.0, "rollback window: 0 min left"),
        (-7_260.0, "over for 2 h 1 min (switched by root@here); a rollback still works, tailrace complete ends it"),
    ],
)
def test_the_window_counts_down(left_s: float, text: str) -> None:
    assert text in window_line({"until_ms": 0, "left_seconds": left_s, "owner": "root@here", "switched_ms": 0})


def test_a_window_whose_owner_is_not_known_says_so() -> None:
    assert "switched by unknown" in window_line({"left_seconds": 60.0, "owner": None})


@pytest.mark.timeout(600)
def test_uninstall_of_a_completed_migration(pipeline: Pipeline, database_url: str) -> None:
    pipeline.install()
    pipeline.start()
    pipeline.settle(timeout_s=120)
    prepare_postgres(database_url, "app")
    told(pipeline, "verify")
    assert "complete: writes belong to the SQLite files" in refused(pipeline, "complete", "--yes", "COMPLETE")
    assert json.loads(told(pipeline, "status", "--json"))["window"] is None

    told(pipeline, "cutover", *(word for name in WAIVED for word in ("--waive", name)))
    for document in (told(pipeline, "status", "--json"), told(pipeline, "rollback", "--status", "--json")):
        window = json.loads(document)["window"]
        assert 13.9 * 86_400 < window["left_seconds"] < 14 * 86_400
        assert window["owner"].startswith(f"{getpass.getuser()}@")
    for text in (
        told(pipeline, "status"),
        told(pipeline, "rollback", "--status"),
        told(pipeline, "complete", "--dry-run"),
    ):
        assert "rollback window: 13 days 23 h left (switched by " in text
    assert "add --yes COMPLETE" in refused(pipeline, "complete")
    pipeline.end("capture", "sink", "snapshot")
    assert "is fenced, and the migration is not completed (it is at target)" in refused(pipeline, "uninstall", "--yes")

    pipeline.start()
    assert "cases.db stays fenced, an archive" in told(pipeline, "complete", "--yes", "COMPLETE")
    assert "it is completed already" in refused(pipeline, "complete", "--yes", "COMPLETE")
    assert "completed" == json.loads(told(pipeline, "status", "--json"))["phase"]
    pipeline.end("capture", "sink", "snapshot")

    with psycopg.connect(database_url, autocommit=True) as admin:
        assert (0,) == admin.execute(OURS).fetchone()
    assert "change log and its triggers would be removed" in told(pipeline, "uninstall", "--dry-run")
    said = told(pipeline, "uninstall", "--yes")
    assert 2 == said.count("change log and its triggers removed; the file stays fenced")
    assert "_tailrace_fence_*" in said
    assert 2 == told(pipeline, "uninstall", "--yes").count("the change log is gone already")
    for name in pipeline.config.source_databases:
        with closing(sqlite3.connect(pipeline.config.source_path(name))) as file:
            ours = file.execute("SELECT name FROM sqlite_master WHERE name LIKE '\\_tailrace%' ESCAPE '\\'").fetchall()
            assert {"_tailrace_meta"} == {one for (one,) in ours if not one.startswith("_tailrace_fence_")}
            table = "ledger" if name == "cases" else "roles"
            with pytest.raises(sqlite3.IntegrityError, match="tailrace-fenced"):
                file.execute(f"DELETE FROM {table}")
            assert "delete" == file.execute("PRAGMA journal_mode").fetchone()[0]
    assert "fenced archive of a completed migration" in refused(pipeline, "install")
    assert "completed" == json.loads(told(pipeline, "status", "--json"))["phase"]
    with psycopg.connect(database_url, autocommit=True) as admin:
        admin.execute("DROP SCHEMA tailrace CASCADE")
    with psycopg.connect(login_url(database_url, "app"), autocommit=True) as app:
        app.execute("INSERT INTO cases.cases(reference, title) VALUES ('after', 'Nothing of ours is needed')")
        assert (1,) == app.execute(
            "SELECT count(*) FROM cases.audit JOIN cases.cases ON case_id = id WHERE reference = 'after'"
        ).fetchone()
