"""What an operator does before, beside and after the stream: init, check, plan, quarantine, up and uninstall as documents."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.checks import CheckResult, source_checks
from ops.config import load
from tests.fix_pipeline import Pipeline


def _tailrace(folder: Path, *arguments: str, url: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "cli.main", "-c", str(folder / "tailrace.toml"), *arguments],
        env={**os.environ, "TAILRACE_TEST_TARGET": url},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.fixture
def one(tmp_path: Path, database_url: str) -> Path:
    """A folder with app.db and its configuration."""
    with closing(sqlite3.connect(tmp_path / "app.db", isolation_level=None)) as app:
        app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY, name TEXT UNIQUE COLLATE NOCASE, v, g AS (v || name))")
        app.execute("CREATE INDEX t_v ON t(v) WHERE v IS NOT NULL")
        app.execute("INSERT INTO t(name, v) VALUES ('a', 1), ('b', 'two'), ('c', x'03')")
    made = _tailrace(tmp_path, "init", str(tmp_path / "app.db"), "--target", "${TAILRACE_TEST_TARGET}", "--json")
    assert 0 == made.returncode, made.stderr
    assert {"app": str((tmp_path / "app.db").resolve())} == json.loads(made.stdout)["sources"]
    os.environ["TAILRACE_TEST_TARGET"] = database_url
    return tmp_path


def _refused(folder: Path) -> list[CheckResult]:
    return [one for one in source_checks(load(folder / "tailrace.toml")) if one.verdict == "refused"]


def test_init_dry_run_writes_nothing(one: Path) -> None:
    (one / "tailrace.toml").unlink()
    said = _tailrace(one, "init", str(one / "app.db"), "--dry-run")
    assert 0 == said.returncode
    assert "would write" in said.stdout
    assert not (one / "tailrace.toml").exists()


def test_up_as_a_document(one: Path, database_url: str) -> None:
    dry = _tailrace(one, "up", "--dry-run", "--json", url=database_url)
    assert 3 == len(json.loads(dry.stdout)["steps"])
    done = _tailrace(one, "up", "--until", "caught-up", "--json", "--timeout", "60", url=database_url)
    assert 0 == done.returncode, done.stderr
    assert json.loads(done.stdout)["sources"]["app"]["consistent"]
    assert "triggers in app: installed" in done.stderr
    uninstalled = _tailrace(one, "uninstall", "--yes", url=database_url)
    assert 0 == uninstalled.returncode, uninstalled.stderr
    assert [] == list(one.glob("*tailrace-lock"))


def test_the_printed_sql_runs_on_both_engines(one: Path, database_url: str, tmp_path: Path) -> None:
    printed = _tailrace(one, "plan", "--sql", url=database_url)
    assert 0 == printed.returncode, printed.stderr
    there, _, here = printed.stdout.partition("-- in app.db, the SQLite side")
    target = Postgres(database_url, application_name="test")
    try:
        target.run(there)
        assert [(0,)] == target.rows("SELECT count(*) FROM app.t")
    finally:
        target.close()
    with closing(sqlite3.connect(one / "app.db")) as app:
        app.executescript(here.lstrip(";\n"))
        app.execute("UPDATE t SET v = 9 WHERE id = 2")
        assert [(2,)] == app.execute("SELECT DISTINCT k0 FROM _tailrace_log").fetchall()


def test_speed_is_measured_on_both_sides(one: Path, database_url: str) -> None:
    found = json.loads(_tailrace(one, "check", "--speed", "--json", url=database_url).stdout)
    texts = {result["name"]: result["text"] for result in found}
    assert "MB a second" in texts["app reads"]
    assert "ms for a round trip" in texts["network"]
    assert "rows of 100 bytes a second" in texts["target writes"]


def test_a_sound_file_is_not_refused(one: Path) -> None:
    assert [] == _refused(one)


def test_an_encrypted_file_is_named(one: Path) -> None:
    (one / "app.db").write_bytes(os.urandom(8192))
    (refused,) = _refused(one)
    assert "encrypted" in refused.hint


def test_an_exclusive_lock_is_named(one: Path) -> None:
    with closing(sqlite3.connect(one / "app.db", isolation_level=None)) as app:
        app.execute("PRAGMA locking_mode=EXCLUSIVE")
        app.execute("UPDATE t SET v = 1")
        (refused,) = _refused(one)
    assert "locking_mode=EXCLUSIVE" in refused.hint


def test_collations_and_functions_of_the_application_are_named(one: Path) -> None:
    with closing(sqlite3.connect(one / "app.db", isolation_level=None)) as app:
        app.create_collation("german", lambda a, b: (a > b) - (a < b))
        app.create_function("price", 1, lambda value: value, deterministic=True)
        app.execute("CREATE TABLE words(w TEXT COLLATE german PRIMARY KEY NOT NULL)")
        app.execute("CREATE TABLE goods(id INTEGER PRIMARY KEY, n, p AS (price(n)))")
    names = {refused.name: refused.text for refused in _refused(one)}
    assert {"app.words", "app.goods"} == set(names)
    assert "german" in names["app.words"]
    assert "price" in names["app.goods"]
    config = one / "tailrace.toml"
    config.write_text(config.read_text().replace("exclude_tables = []", 'exclude_tables = ["words", "goods"]'))
    assert [] == _refused(one)


def test_a_damaged_file_is_refused_without_asking_for_it(one: Path) -> None:
    path = one / "app.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as app:
        root = app.execute("SELECT rootpage FROM sqlite_schema WHERE name = 't_v'").fetchone()[0]
        size = app.execute("PRAGMA page_size").fetchone()[0]
    raw = bytearray(path.read_bytes())
    raw[(root - 1) * size : root * size] = b"\x07" * size
    path.write_bytes(raw)
    assert any("integrity" in refused.name or "reads" in refused.name for refused in _refused(one))


def test_another_user_is_refused(one: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 54321)
    assert ["app owner"] == [refused.name for refused in _refused(one)]


def test_a_quarantined_row_is_shown_by_its_key(pipeline: Pipeline) -> None:
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("[limits]", "[limits]\nmax_row_bytes = 100000"))
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=5, isolation_level=None)) as app:
        key = app.execute("SELECT min(id) FROM documents").fetchone()[0]
        app.execute("UPDATE documents SET body = zeroblob(200000) WHERE id = ?", (key,))
    pipeline.until(lambda: json.loads(pipeline.run("status", "--json").stdout)["sources"]["cases"]["quarantined"] == 1)
    (row,) = json.loads(pipeline.run("quarantine", "list", "--json").stdout)
    assert {"id": key} == row["key"]
    shown = json.loads(pipeline.run("quarantine", "show", "documents", str(key), "--json").stdout)
    assert [row] == shown["quarantine"]
    assert "present" == shown["trace"]["in source"]
    assert "1 keys would be touched" in pipeline.run("quarantine", "retry", "--dry-run").stdout
    assert (
        "would be waived"
        in pipeline.run("quarantine", "waive", "cases", "documents", "--reason", "x", "--dry-run").stdout
    )
    assert row == json.loads(pipeline.run("quarantine", "list", "--json").stdout)[0]
    assert 0 == pipeline.run("quarantine", "waive", "cases", "documents", "--reason", "too large").returncode
    assert "too large" == json.loads(pipeline.run("quarantine", "list", "--json").stdout)[0]["waived"]
    assert 3 == pipeline.run("quarantine", "waive", "cases", "documents", "--reason", "again").returncode
    assert 4 == pipeline.run("verify").returncode
    assert 3 == pipeline.run("quarantine", "show", "documents", "0").returncode


def test_a_table_that_stays_behind_blocks_until_it_is_excluded(pipeline: Pipeline) -> None:
    """Its rows would be gone after the switch: neither `status` nor `verify` may call this complete."""
    with closing(sqlite3.connect(pipeline.folder / "cases.db", isolation_level=None)) as app:
        app.execute("CREATE TABLE shadow(rowid, oid, _rowid_)")
        app.execute("INSERT INTO shadow VALUES (1, 2, 3)")
    pipeline.install()
    pipeline.start()
    pipeline.settle()
    verified = pipeline.run("verify", "--source", "cases")
    assert 4 == verified.returncode
    assert "shadow: 0 rows compared" in verified.stdout
    assert "stays behind: no declared key" in verified.stdout
    status = json.loads(pipeline.run("status", "--json").stdout)
    assert not status["can_cutover"]
    assert any("table shadow stays behind" in reason for reason in status["blocking_reasons"])
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("exclude_tables = []", 'exclude_tables = ["shadow"]'))
    assert 0 == pipeline.run("verify").returncode
    assert json.loads(pipeline.run("status", "--json").stdout)["can_cutover"]
