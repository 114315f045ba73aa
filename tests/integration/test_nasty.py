"""Databases of nothing but hard cases: copied by the real `up`, followed while everything in them is written, verified
by the product and by a reader that shares no code with it; every object of theirs has a line in the plan."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cli.cutover_wiring import objects_of
from cutover.objects import OpenedObjects
from ops.config import load
from schemas.ddl import full_name
from schemas.errors import Failed
from schemas.names import quote, text_literal
from schemas.sequences import LAST, generated_key, identity_of
from tests.live import Live
from tests.nasty.build import NAMES, build
from tests.nasty.meaning import differences

ROOT = Path(__file__).resolve().parents[2]
SECONDS = float(os.environ.get("TAILRACE_NASTY_SECONDS", "6"))
EXCLUDED = 'exclude_tables = ["nameless"]'
SEED = int(os.environ.get("TAILRACE_NASTY_SEED", "1"))


def _made(folder: Path) -> list[Path]:
    return build(folder, seed=SEED)


@pytest.fixture
def nasty(tmp_path: Path, database_url: str) -> Iterator[Live]:
    made = Live(tmp_path, database_url, _made, settings=EXCLUDED)
    yield made
    made.close()


def _objects(path: Path) -> set[tuple[str, str]]:
    """(type, name) of everything in the file that is the application's."""
    with closing(sqlite3.connect(path)) as db:
        return set(
            db.execute(
                "SELECT type, name FROM sqlite_schema WHERE name NOT LIKE 'sqlite~_stat%' ESCAPE '~' "
                "AND name <> 'sqlite_sequence'"
            )
        )


def _indexes(path: Path) -> Counter[str]:
    """Indexes a table, without those that are its key."""
    with closing(sqlite3.connect(path)) as db:
        return Counter(
            table
            for table, name in db.execute("SELECT tbl_name, name FROM sqlite_schema WHERE type = 'index'")
            if db.execute("SELECT origin FROM pragma_index_list(?) WHERE name = ?", (table, name)).fetchone() != ("pk",)
        )


@pytest.mark.slow
def test_everything_arrives_and_follows(nasty: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TARGET", nasty.url)
    up = nasty.start("cli.main", "up", "--plain", "--no-backup")
    # The writer begins while the copy runs.
    writer = nasty.start("tests.nasty.build", "write", str(nasty.folder), str(SEED), str(SECONDS))
    assert 0 == writer.wait(timeout=120), (nasty.folder / "said.txt").read_text()[-3000:]
    assert up.poll() is None
    nasty.settle()
    verified = nasty.run("verify", "--json")
    assert 0 == verified.returncode, verified.stdout
    for name in NAMES:
        assert [] == list(differences(nasty.folder / f"{name}.db", nasty.url, name))
    counted = {one["table"]: one["rows"] for one in json.loads(verified.stdout)["sources"]["nasty"]["tables"]}
    # The writer may have deleted the last row of a table: all that is there was compared.
    with closing(sqlite3.connect(nasty.folder / "nasty.db")) as db:
        there = {table: db.execute(f"SELECT count(*) FROM {quote(table)}").fetchone()[0] for table in counted}
    assert there == counted
    assert 1000 < sum(counted.values())
    whole = nasty.run("verify", "--integrity", "--json")
    assert 0 == whole.returncode, whole.stdout
    opens(nasty)


class _Undo(Exception):
    """Ends a transaction without a trace."""


def opens(nasty: Live) -> None:
    """What the switch does with a schema: every key that makes itself is free, and every object that the plan calls
    translated is made. Nothing of it stays: the databases go on."""
    config = load(nasty.folder / "tailrace.toml")
    session = Postgres(nasty.url, application_name="tests")
    objects = OpenedObjects(session, lambda: objects_of(config, session), lambda action, text: None)
    checked = 0
    try:
        objects.set_sequences()
        for one in objects_of(config, session):
            for table, plan in one.tables.values():
                column = generated_key(table, plan)
                if column is None:
                    continue
                name = session.rows(identity_of(plan, column))[0][0]
                key = quote(column.target)
                if table.autoincrement and LAST == one.sequences.get(table.name):
                    # The writer gave the last key: SQLite refuses the next INSERT without one for ever, and so do we.
                    with pytest.raises(Failed, match="reached maximum value"):
                        session.rows(f"SELECT nextval({text_literal(name)}::regclass)")
                    continue
                left = LAST - one.sequences.get(table.name, 0) if table.autoincrement else LAST
                for _ in range(min(3, left)):
                    ((value,),) = session.rows(f"SELECT nextval({text_literal(name)}::regclass)")
                    found = session.rows(f"SELECT EXISTS (SELECT 1 FROM {full_name(plan)} WHERE {key} = {value})")
                    assert [(False,)] == found, table.name
                checked += 1
        with pytest.raises(_Undo), session.transaction():
            assert {} == objects.make()
            raise _Undo
    finally:
        session.close()
    assert 10 < checked


def test_every_object_has_a_line_in_the_plan(nasty: Live) -> None:
    document = json.loads(nasty.run("plan", "--json").stdout)
    for name in NAMES:
        part = document["sources"][name]
        with closing(sqlite3.connect(nasty.folder / f"{name}.db")) as db:
            columns = {
                (table["table"], row[1])
                for table in part["tables"]
                for row in db.execute("SELECT * FROM pragma_table_xinfo(?)", (table["table"],))
            }
        planned = {
            (t["table"], c["column"]) for t in part["tables"] for c in t["columns"] if c["column"] != "_tailrace_rowid"
        }
        assert columns == planned
        seen = {("table", table["table"]) for table in part["tables"]}
        kinds = {"virtual": "table", "shadow": "table"}
        seen |= {(kinds.get(one["kind"], one["kind"]), one["name"]) for one in part["objects"]}
        objects = _objects(nasty.folder / f"{name}.db")
        assert set() == {one for one in objects if one[0] != "index"} - seen
        planned_indexes = Counter(one["table"] for one in part["objects"] if one["kind"] == "index")
        assert Counter() == _indexes(nasty.folder / f"{name}.db") - planned_indexes
        assert [] == [one for one in part["objects"] if one["verdict"] not in ("carried", "translated", "reported")]
        assert [] == [one for one in part["objects"] if one["verdict"] != "carried" and not one["reason"]]


def test_a_table_that_cannot_be_named_blocks_until_it_is_left_out(tmp_path: Path, database_url: str) -> None:
    one = Live(tmp_path, database_url, _made)
    refused = [
        o
        for o in json.loads(one.run("plan", "--json").stdout)["sources"]["nasty"]["objects"]
        if o["verdict"] == "refused"
    ]
    assert ["nameless"] == [o["name"] for o in refused]
