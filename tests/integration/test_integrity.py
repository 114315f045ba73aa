"""`verify --integrity`: what the plan promised and is not there is found by name; both engines' own checks are asked."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli.main import tailrace
from ops.config import sample
from schemas.introspect import introspect
from schemas.objects import parents_of
from schemas.opening import after_switch, at_switch
from schemas.plan import plan_from_json
from snapshot.finalise import open_objects
from tests.small import Small

DDL = (
    "CREATE TABLE p(id INTEGER PRIMARY KEY, code TEXT NOT NULL UNIQUE)",
    "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL, n INTEGER CHECK (n > 0), p INTEGER REFERENCES p, "
    "UNIQUE (name, n))",
    "CREATE INDEX by_n ON t(n DESC) WHERE n > 1",
    "CREATE TABLE alone(v)",
    "INSERT INTO p VALUES (1, 'x')",
    "INSERT INTO t VALUES (7, 'a', 1, 1), (9, 'b', 2, 1)",
    "INSERT INTO alone VALUES (1)",
)


class Checked:
    def __init__(self, folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
        self.small = Small(folder, url, *DDL)
        self.small.settle()
        self.config = folder / "tailrace.toml"
        self.config.write_text(sample({"s": "small.db"}, target_url="${TAILRACE_TEST_TARGET}") + "\n")
        monkeypatch.setenv("TAILRACE_TEST_TARGET", url)

    def verify(self, *arguments: str) -> tuple[int, dict[str, Any]]:
        ran = CliRunner().invoke(tailrace, ["-c", str(self.config), "verify", "--integrity", "--json", *arguments])
        return ran.exit_code, json.loads(ran.stdout)["sources"]["s"]

    def findings(self) -> set[tuple[str, str, str]]:
        code, found = self.verify()
        assert code == (4 if found["findings"] else 0)
        return {(one["table"], one["kind"], one["name"]) for one in found["findings"]}

    def open(self) -> None:
        plans = {
            str(n): plan_from_json(str(p))
            for n, p in self.small.rows('SELECT "table", plan::text FROM tailrace.tables')
        }
        tables = parents_of(introspect(self.small.app), plans)
        steps = [*at_switch(tables), *after_switch(tables)]
        assert {} == open_objects(self.small.target, steps, lambda action, text: None)
        self.small.target.run("UPDATE tailrace.migration SET authority = 'target'")


@pytest.fixture
def checked(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Checked]:
    one = Checked(tmp_path, database_url, monkeypatch)
    yield one
    one.small.close()


def test_every_damage_is_found_by_name(checked: Checked) -> None:
    assert set() == checked.findings()
    damage = {
        "DROP INDEX s.t_by_n_idx": ("t", "index", "t_by_n_idx"),
        "DROP INDEX s.t_name_n_key": ("t", "unique", "t_name_n_key"),
        "ALTER TABLE s.t ALTER name DROP NOT NULL": ("t", "not null", "name"),
        "ALTER TABLE s.p DROP CONSTRAINT p_pkey": ("p", "key", "p"),
        "SELECT setval('s.t_id_seq', 2)": ("t", "sequence", "s.t_id_seq"),
        "ALTER TABLE s.alone ALTER _tailrace_rowid DROP IDENTITY": ("alone", "sequence", "_tailrace_rowid"),
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 's.p_code_key'::regclass": (
            "p",
            "index",
            "p_code_key",
        ),
    }
    found: set[tuple[str, str, str]] = set()
    for statement, finding in damage.items():
        checked.small.target.run(statement)
        found.add(finding)
        assert found == checked.findings(), statement
    checked.small.target.run("DROP TABLE s.alone")
    assert ("alone", "table", "alone") in checked.findings()


def test_an_index_that_is_not_unique_any_more(checked: Checked) -> None:
    checked.small.target.run("DROP INDEX s.p_code_key")
    checked.small.target.run("CREATE INDEX p_code_key ON s.p(code)")
    assert {("p", "unique", "p_code_key")} == checked.findings()


def test_a_sequence_that_lags_is_a_note_until_the_switch(checked: Checked) -> None:
    checked.small.run("INSERT INTO t VALUES (50, 'c', 3, 1)")
    checked.small.settle()
    code, report = checked.verify()
    assert 0 == code
    assert any("the switch sets it again" in note for note in report["notes"])
    checked.open()
    assert {("t", "sequence", "s.t_id_seq")} == checked.findings()


def test_what_comes_at_the_switch_is_promised_after_it(checked: Checked) -> None:
    checked.open()
    assert set() == checked.findings()
    checked.small.target.run("ALTER TABLE s.t DROP CONSTRAINT t_1_check")
    checked.small.target.run("ALTER TABLE s.t DROP CONSTRAINT t_p_1_fkey")
    assert {("t", "constraint", "t_1_check"), ("t", "constraint", "t_p_1_fkey")} == checked.findings()


def test_orphans_at_the_source_are_noted(checked: Checked) -> None:
    checked.small.run("INSERT INTO t VALUES (10, 'o', 5, 99)")
    checked.small.settle()
    code, report = checked.verify()
    assert 0 == code
    assert any(note.startswith("1 rows of t refer to rows of p") for note in report["notes"])


def test_a_damaged_index_at_the_source_is_a_finding(checked: Checked) -> None:
    checked.small.app.run("PRAGMA writable_schema = 1")
    checked.small.app.run(
        "UPDATE sqlite_master SET sql = 'CREATE INDEX by_n ON t(n DESC) WHERE n > 0' WHERE name = 'by_n'"
    )
    checked.small.app.run("PRAGMA writable_schema = 0")
    assert ("", "source", "integrity_check") in checked.findings()
