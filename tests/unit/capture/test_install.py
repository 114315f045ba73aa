"""Install twice, rebuild, touch, resync and uninstall on a real file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import install, rebuild, request_resync, touch, uninstall
from schemas.errors import Code, Refusal
from schemas.introspect import introspect
from schemas.model import LOG

SCHEMA = "SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY type, name"


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    one.run("CREATE TABLE cases(id INTEGER PRIMARY KEY, title TEXT NOT NULL DEFAULT 'none' UNIQUE)")
    one.run("CREATE TABLE notes(body)")
    yield one
    one.close()


def test_uninstall_leaves_the_file_as_before(db: SqliteDatabase) -> None:
    before, mode = db.rows(SCHEMA), db.rows("PRAGMA journal_mode")
    install(db, "one")
    db.run("INSERT INTO cases(title) VALUES ('a')")
    uninstall(db)
    assert before == db.rows(SCHEMA)
    assert mode == db.rows("PRAGMA journal_mode")
    assert [("ok",)] == db.rows("PRAGMA integrity_check")


def test_a_second_install_changes_nothing(db: SqliteDatabase) -> None:
    first = install(db, "one")
    second = install(db, "two")
    assert not second.changed
    assert first.meta == second.meta


def test_numbers_stay_when_tables_come_and_go(db: SqliteDatabase) -> None:
    first = install(db, "one").meta
    db.run("DROP TABLE cases")
    db.run("CREATE TABLE later(x)")
    after = rebuild(db).meta
    assert first.number_of("notes") == after.number_of("notes")
    assert after.number_of("later") not in first.tables
    assert after.plan_generation > first.plan_generation


def test_ours_fire_first(db: SqliteDatabase) -> None:
    install(db, "one")
    db.run("CREATE TRIGGER app AFTER INSERT ON cases BEGIN SELECT RAISE(FAIL, 'no'); END")
    rebuild(db)
    head = db.rows(f"SELECT max(seq) FROM {LOG}")[0][0]
    with pytest.raises(Exception, match="no"):
        db.run("INSERT OR FAIL INTO cases VALUES (7, 'a')")
    assert [(7, "a")] == db.rows("SELECT * FROM cases")
    assert [(7,)] == db.rows(f"SELECT k0 FROM {LOG} WHERE seq > ?", (head,))


def test_resync_raises_one_generation(db: SqliteDatabase) -> None:
    before = install(db, "one").meta
    number = before.number_of("cases")
    assert number is not None
    raised = request_resync(db, "cases")
    assert before.tables[number].generation + 1 == raised == metas.read(db).tables[number].generation
    with pytest.raises(Refusal) as refused:
        request_resync(db, "absent")
    assert Code.TABLE_UNSUPPORTED == refused.value.code


def test_touch_logs_the_keys_in_order(db: SqliteDatabase) -> None:
    number = install(db, "one").meta.number_of("cases")
    assert number is not None
    touched = touch(db, introspect(db).tables["cases"], number, [(5,), (2,)])
    assert 2 == touched
    assert [(2,), (5,)] == db.rows(f"SELECT k0 FROM {LOG} ORDER BY seq DESC LIMIT 2")
