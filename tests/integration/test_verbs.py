"""Every verb on a running pipeline, as an operator or a script would use it."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from tests.fix_pipeline import Pipeline


@pytest.fixture
def running(pipeline: Pipeline) -> Pipeline:
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    return pipeline


@pytest.fixture
def target(pipeline: Pipeline) -> Iterator[Postgres]:
    made = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="test")
    yield made
    made.close()


def _app(pipeline: Pipeline, *statements: str) -> None:
    with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
        for statement in statements:
            app.execute(statement)


def test_status_and_lag(running: Pipeline) -> None:
    document = json.loads(running.run("status", "--json").stdout)
    assert {"sources", "can_cutover", "blocking_reasons", "next_steps", "phase", "authority"} <= set(document)
    one = document["sources"]["cases"]
    assert {"phase", "head_seq", "applied_seq", "lag_changes", "lag_seconds", "consistent", "tables"} <= set(one)
    assert "following" == one["phase"]
    assert one["head_seq"] == one["applied_seq"]
    assert not document["can_cutover"]
    assert ["tailrace verify"] == document["next_steps"]
    assert 0 == running.run("verify").returncode
    assert json.loads(running.run("status", "--json").stdout)["can_cutover"]
    assert "can cut over: yes" in running.run("status").stdout
    assert 0 == running.run("lag", "--wait", "--below", "0", "--for", "1s", "--timeout", "20").returncode


def test_lag_wait_gives_up_while_nothing_applies(running: Pipeline) -> None:
    running.kill("sink")
    _app(running, "UPDATE ledger SET balance = balance + 1")
    gave_up = running.run("lag", "--wait", "--below", "0", "--timeout", "2")
    assert 3 == gave_up.returncode
    lag = json.loads(running.run("lag", "--json").stdout)
    assert 40 == lag["cases"]["lag_changes"]
    assert 0 < lag["cases"]["lag_seconds"] < 60


def test_pause_rests_the_target_and_resume_goes_on(running: Pipeline, target: Postgres) -> None:
    assert 0 == running.run("pause").returncode
    _app(running, "UPDATE ledger SET balance = 7 WHERE account = 1")
    document = json.loads(running.run("status", "--json").stdout)
    assert "paused" == document["sources"]["cases"]["phase"]
    assert [(1000,)] == target.rows("SELECT balance FROM cases.ledger WHERE account = 1")
    waiting = running.run("repair", "--source", "cases")
    assert 1 == waiting.returncode
    assert "next: tailrace resume cases" in waiting.stderr
    assert 0 == running.run("resume").returncode
    running.settle()
    assert [(7,)] == target.rows("SELECT balance FROM cases.ledger WHERE account = 1")


def test_damage_is_found_and_repair_mends_it_through_the_stream(running: Pipeline, target: Postgres) -> None:
    for damage in (
        "DELETE FROM cases.ledger WHERE account = 3",
        "UPDATE cases.ledger SET balance = balance + 1 WHERE account = 4",
        "INSERT INTO cases.ledger VALUES (4000, 1)",
        "UPDATE cases.cases SET title = title || ' ' WHERE id = 5",
        "UPDATE cases.documents SET body = body || '\\x00' WHERE id = (SELECT min(id) FROM cases.documents)",
        "UPDATE auth.users SET last_login = '-0' WHERE last_login IS NOT NULL AND id = 1",
    ):
        assert 1 == target.run(damage), damage
    found = running.run("verify", "--json")
    assert 4 == found.returncode
    document = json.loads(found.stdout)
    assert not document["clean"]
    tables = {one["table"]: one for one in document["sources"]["cases"]["tables"]}
    assert (1, 1, 1) == tuple(tables["ledger"][kind] for kind in ("differing", "missing", "extra"))
    assert 1 == tables["cases"]["differing"]
    assert 1 == tables["documents"]["differing"]
    assert 4 == running.run("verify", "ledger").returncode
    assert 0 == running.run("verify", "parties").returncode
    repaired = running.run("repair")
    assert 0 == repaired.returncode, repaired.stderr
    running.settle()
    clean = running.run("verify", "--json")
    assert 0 == clean.returncode, clean.stdout
    assert json.loads(clean.stdout)["clean"]


def test_a_row_too_large_is_quarantined_and_retried_after_the_limit_is_raised(pipeline: Pipeline) -> None:
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("[limits]", "[limits]\nmax_row_bytes = 100000"))
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    _app(pipeline, "UPDATE documents SET body = zeroblob(200000) WHERE id = (SELECT min(id) FROM documents)")
    pipeline.until(lambda: json.loads(pipeline.run("status", "--json").stdout)["sources"]["cases"]["quarantined"] == 1)
    document = json.loads(pipeline.run("status", "--json").stdout)
    assert not document["sources"]["cases"]["consistent"]
    assert not document["can_cutover"]
    (row,) = json.loads(pipeline.run("quarantine", "list", "--json").stdout)
    assert ("cases", "documents") == (row["source"], row["table"])
    assert "max_row_bytes" in row["reason"]
    assert 4 == pipeline.run("verify").returncode
    pipeline.config_path.write_text(text)
    pipeline.kill("capture")
    pipeline.start("capture")
    assert 0 == pipeline.run("quarantine", "retry").returncode
    pipeline.settle()
    assert [] == json.loads(pipeline.run("quarantine", "list", "--json").stdout)
    assert 0 == pipeline.run("verify").returncode


def test_trace_follows_one_row(running: Pipeline) -> None:
    document = json.loads(running.run("trace", "ledger", "5", "--json").stdout)
    assert "present" == document["in source"]
    assert "present" == document["in target"]
    for key in ("-5", "99999999999999999999999"):
        odd = running.run("trace", "ledger", key, "--json")
        assert "absent" == json.loads(odd.stdout)["in source"], odd.stderr
    wrong = running.run("trace", "nothing", "5")
    assert 3 == wrong.returncode
    assert "no source has a table 'nothing'" in wrong.stderr


def test_reset_copies_again_and_asks_for_the_name(running: Pipeline) -> None:
    assert 3 == running.run("reset", "cases").returncode
    assert 0 == running.run("reset", "cases", "--yes", "cases").returncode
    running.settle()
    assert 0 == running.run("verify").returncode


def test_wrong_configuration_names_the_key(tmp_path: Path, pipeline: Pipeline) -> None:
    pipeline.config_path.write_text(pipeline.config_path.read_text() + "\nmax_log_byte = 5\n")
    refused = pipeline.run("status")
    assert 2 == refused.returncode
    assert "did you mean limits.max_log_bytes?" in refused.stderr
    missing = pipeline.run("-c", str(tmp_path / "none.toml"), "status")
    assert 2 == missing.returncode


def test_up_without_a_target_refuses(pipeline: Pipeline) -> None:
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace('"${TAILRACE_TEST_TARGET}"', '""'))
    refused = pipeline.run("up", "--until", "caught-up")
    assert 3 == refused.returncode
    assert "--embedded" in refused.stderr
    with closing(sqlite3.connect(pipeline.folder / "cases.db")) as app:
        assert (0,) == app.execute("SELECT count(*) FROM sqlite_schema WHERE name LIKE '%tailrace%'").fetchone()
