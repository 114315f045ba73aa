"""The plan as people read it: lines, a page, and SQL that runs."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from html.parser import HTMLParser
from pathlib import Path

import msgspec
import pytest

from adapters.postgres import Postgres
from cli.checks import source_checks
from cli.plan_html import plan_page
from cli.plan_text import plan_lines, summary
from cli.planning import plan_document, plan_sql
from ops.config import Config, load, sample
from schemas.errors import ConfigError

DDL = """
CREATE TABLE "<script>alert(1)</script>"(id INTEGER PRIMARY KEY, "a & b" BOOLEAN DEFAULT 1, at DATETIME NOT NULL,
    n INT CHECK (n > 0), long TEXT UNIQUE, p INTEGER REFERENCES parent, g INT AS (n + 1), unused);
CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT COLLATE NOCASE UNIQUE);
CREATE VIEW names AS SELECT name FROM parent ORDER BY name;
CREATE VIEW odd AS SELECT julianday('now') AS d;
CREATE TRIGGER late AFTER INSERT ON parent BEGIN UPDATE parent SET name = 'x' WHERE id = NEW.id; END;
CREATE VIRTUAL TABLE search USING fts5(body);
CREATE TABLE rowless(rowid, oid, _rowid_);
INSERT INTO parent(name) VALUES ('ann');
INSERT INTO "<script>alert(1)</script>" VALUES (1, 1, '2024-01-01 00:00:00', 3, printf('%.9000c', 'x'), 1, NULL);
INSERT INTO "<script>alert(1)</script>" VALUES (2, 0, '2024-01-01 00:00:00', 3, 'y', 99, NULL);
CREATE TABLE mismatch(id INTEGER PRIMARY KEY, other REFERENCES parent(missing));
"""


@pytest.fixture
def config(tmp_path: Path) -> Config:
    with closing(sqlite3.connect(tmp_path / "app.db")) as db:
        db.executescript(DDL)
    path = tmp_path / "tailrace.toml"
    path.write_text(sample({"app": "app.db"}) + "\n", encoding="utf-8")
    return load(path)


def test_everything_is_said_in_the_lines(config: Config) -> None:
    document = plan_document(config, ["app"])
    text = "\n".join(plan_lines(document))
    for words in (
        "refused: table rowless",
        "reported: view odd on odd (it has no counterpart here: julianday",
        'reported: view names on names (not asked for: views = ["names"]',
        "reported: trigger late",
        "reported: virtual search",
        "translated: check n > 0",
        "what your code will see",
        'true and false: WHERE "a & b" = 1 fails there',
        "once the table has caught up: ",
        "at the switch, validated after it: ",
        "the guard stands from the start until the switch",
        'types = "storage"',
        'exclude_tables = ["rowless"]',
        "is too long for an index row: md5",
        "1 rows have no parent: while they are there it stays NOT VALID",
        "foreign key mismatch_other_1_fkey on mismatch (it names no key of 'parent')",
    ):
        assert words in text
    sizes = [table["bytes"] for table in document["sources"]["app"]["tables"]]
    assert all(size is None or size >= 4096 for size in sizes)
    promised = {name for stage in document["sources"]["app"]["stages"] for name in stage["objects"]}
    carried = [o for o in document["sources"]["app"]["objects"] if o["verdict"] in ("carried", "translated")]
    assert {f"{o['kind']} {o['name']} of {o['table']}" for o in carried} == promised


class _Reads(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not {name for name, _ in attrs} & {"src", "href", "onclick"}
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_names_are_escaped_in_the_page(config: Config) -> None:
    page = plan_page(plan_document(config, ["app"]))
    reader = _Reads()
    reader.feed(page)
    reader.close()
    assert [] == reader.open
    assert "script" not in reader.tags
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "a &amp; b" in page
    assert not re.search(r"https?://", page)


def test_the_printed_sql_makes_what_the_switch_makes(config: Config, database_url: str) -> None:
    texts = plan_sql(config, ["app"])
    there = texts[: next(at for at, text in enumerate(texts) if text.endswith("the SQLite side"))]
    target = Postgres(database_url, application_name="tests")
    try:
        target.run(";\n".join(there))
        kinds = target.rows(
            "SELECT contype::text FROM pg_constraint WHERE contype IN ('c', 'f') AND connamespace = 'app'::regnamespace"
        )
        assert {("c",), ("f",)} == set(kinds)
        assert 3 == len(target.rows("SELECT 1 FROM pg_sequences WHERE schemaname = 'app'"))
    finally:
        target.close()


def test_a_long_list_is_cut_and_says_so() -> None:
    assert "nothing" == summary([])
    assert summary([str(one) for one in range(14)]).endswith("11 and 2 more (--json lists them all)")


def test_views_are_a_list_or_all(tmp_path: Path, config: Config) -> None:
    path = tmp_path / "tailrace.toml"
    path.write_text('views = "some"\n' + path.read_text())
    with pytest.raises(ConfigError, match="views"):
        load(path)
    path.write_text(path.read_text().replace('views = "some"', 'views = ["names"]'))
    objects = plan_document(load(path), ["app"])["sources"]["app"]["objects"]
    assert ["translated"] == [one["verdict"] for one in objects if one["name"] == "names"]
    assert json.dumps(objects)


@pytest.mark.parametrize("setting", ["include_tables", "exclude_tables", "views"])
def test_a_table_that_is_not_there_is_refused_with_the_nearest_name(config: Config, setting: str) -> None:
    """include_tables = ["Parent"] copied nothing and ended with exit 0."""
    wrong = msgspec.structs.replace(config, **{setting: ["Parent"]})
    for made in (lambda: plan_document(wrong, ["app"]), lambda: plan_sql(wrong, ["app"])):
        with pytest.raises(ConfigError) as caught:
            made()
        assert f"{setting}: Parent: no source has it" == caught.value.message
        assert "did you mean 'parent'?" == caught.value.hint
    left_out = msgspec.structs.replace(wrong, exclude_tables=[*wrong.exclude_tables, "rowless"])
    found = {one.name: one.verdict for one in source_checks(left_out)}
    assert ("refused" if setting == "include_tables" else "warning") == found[f"{setting}: Parent"]
