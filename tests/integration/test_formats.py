"""Upgrades: what the release before left is followed and brought up to date; what a newer one wrote is refused by name."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters.bookkeeping import bring_up_to_date
from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from ops.config import load
from schemas.avro import plan_of, value_schema
from schemas.change import Stored
from schemas.errors import Code, Refusal
from schemas.formats import ALL, BOOKKEEPING, Format, refuse_unreadable
from schemas.wire import notice_of, watermark_of
from sink.progress import claim, read_progress
from tests.fix_pipeline import Pipeline

FIXTURE = Path(__file__).resolve().parents[1] / "fixtures" / "format-1"
CONFIG = """target_database_url = "${TAILRACE_TEST_TARGET}"
[source_databases]
app = "source.db"
[transport]
path = "stream.db"
"""


def _restored(folder: Path, url: str) -> None:
    """The fixture as it was left, in this folder and on this server."""
    for name in ("source.db", "stream.db"):
        shutil.copyfile(FIXTURE / name, folder / name)
    target = Postgres(url, application_name="fixture")
    target.run((FIXTURE / "target.sql").read_text())
    target.close()


@pytest.fixture
def left(tmp_path: Path, database_url: str) -> Iterator[Pipeline]:
    """A pipeline that stands on what the release before left."""
    made = Pipeline(tmp_path / "run", database_url, cases=1)
    _restored(made.folder, database_url)
    made.config_path.write_text(CONFIG)
    made.config = load(made.config_path)
    yield made
    made.close()


def test_what_the_release_before_left_is_followed_and_verifies_clean(left: Pipeline, database_url: str) -> None:
    target = Postgres(database_url, application_name="test")
    assert [(1,)] == target.rows("SELECT format FROM tailrace.progress")
    assert [(None,)] == target.rows("SELECT to_regclass('tailrace.migration')::text")
    # As separate daemons, so that no `up` prepares the target.
    left.start()
    left.until(lambda: [(BOOKKEEPING.current,)] == target.rows("SELECT format FROM tailrace.progress"))
    left.settle()
    with closing(sqlite3.connect(left.folder / "source.db", isolation_level=None)) as app:
        app.execute("INSERT INTO cases VALUES (100, 'under the new release', 1.5)")
        app.execute("UPDATE users SET hash = x'00' WHERE name = 'user 5'")
    left.settle()
    (report,) = left.verify()
    assert report.clean
    assert 40 + 11 == sum(table.rows for table in report.tables)
    found = target.rows("SELECT title FROM app.cases WHERE id IN (7, 100) ORDER BY id")
    assert [("changed between two releases",), ("under the new release",)] == found
    assert [("source",)] == target.rows("SELECT authority FROM tailrace.migration")
    target.close()


def test_only_one_of_several_brings_the_target_up_to_date_and_twice_is_once(tmp_path: Path, database_url: str) -> None:
    _restored(tmp_path, database_url)
    target = Postgres(database_url, application_name="test")
    bring_up_to_date(target)
    before = target.rows("SELECT relname::text FROM pg_class WHERE relnamespace = 'tailrace'::regnamespace ORDER BY 1")
    bring_up_to_date(target)
    after = target.rows("SELECT relname::text FROM pg_class WHERE relnamespace = 'tailrace'::regnamespace ORDER BY 1")
    assert before == after
    assert [(BOOKKEEPING.current,)] == target.rows("SELECT format FROM tailrace.progress")
    target.close()


def test_numbers_in_the_table_of_formats_are_read_from_the_release_before_on() -> None:
    for form in ALL:
        assert form.current - 1 <= form.oldest <= form.current
        assert (form.oldest == form.current) == (not form.upgrade)
        assert not refuse_unreadable(form, form.current, "here")
    assert refuse_unreadable(BOOKKEEPING, 1, "here")
    with pytest.raises(Refusal) as caught:
        refuse_unreadable(Format("thing", 5, 4, "step"), 3, "here")
    assert Code.FORMAT_OLDER == caught.value.code


def _of_source(folder: Path, _: str) -> object:
    with closing(sqlite3.connect(folder / "source.db", isolation_level=None)) as db:
        db.execute("UPDATE _tailrace_meta SET value = '2' WHERE key = 'format'")
    db2 = SqliteDatabase(folder / "source.db")
    try:
        return metas.read(db2)
    finally:
        db2.close()


def _of_local_log(folder: Path, _: str) -> object:
    with closing(sqlite3.connect(folder / "stream.db", isolation_level=None)) as db:
        db.execute("UPDATE meta SET value = 2 WHERE key = 'format'")
    return LocalLog(folder / "stream.db")


def _stored(document: bytes) -> Stored:
    return Stored("p.app.watermarks", 0, 0, 0, b"app", document)


def _of_watermark(_: Path, __: str) -> object:
    return watermark_of(_stored(b'{"format": 2, "something": "new"}'))


def _of_notice(_: Path, __: str) -> object:
    return notice_of(_stored(b'{"format": 2, "kind": "unheard of"}'))


def _of_rows(folder: Path, _: str) -> object:
    with closing(sqlite3.connect(folder / "stream.db")) as db:
        texts = [bytes(row[0]).decode() for row in db.execute("SELECT value FROM messages")]
    schema = next(text for text in (_schema(one) for one in texts) if text)
    assert schema == value_schema(plan_of(schema))
    return plan_of(schema.replace('{"type"', '{"tailrace.format":2,"type"', 1))


def _schema(text: str) -> str:
    """The value schema inside one record of the schemas topic; empty for anything else."""
    if "tailrace.plan" not in text:
        return ""
    return str(json.loads(text)["schema"])


def _of_bookkeeping(folder: Path, url: str) -> object:
    target = Postgres(url, application_name="test")
    number = BOOKKEEPING.current + 1
    target.run("UPDATE tailrace.progress SET format = %s", (number,))
    before = target.rows("SELECT owner FROM tailrace.progress")
    try:
        with pytest.raises(Refusal, match=f"has format {number}"):
            claim(target, "app", "owner")
        with pytest.raises(Refusal, match=f"has format {number}"):
            read_progress(target, "app")
        assert before == target.rows("SELECT owner FROM tailrace.progress")
        return bring_up_to_date(target)
    finally:
        target.close()


def _of_configuration(folder: Path, _: str) -> object:
    path = folder / "tailrace.toml"
    path.write_text("format = 2\nunheard_of = 1\n" + CONFIG)
    return load(path)


@pytest.mark.parametrize(
    "open_newer",
    [_of_source, _of_local_log, _of_watermark, _of_notice, _of_rows, _of_bookkeeping, _of_configuration],
)
def test_a_newer_format_is_refused_by_name(
    open_newer: Callable[[Path, str], object], tmp_path: Path, database_url: str
) -> None:
    _restored(tmp_path, database_url)
    with pytest.raises(Refusal) as caught:
        open_newer(tmp_path, database_url)
    assert Code.FORMAT_NEWER == caught.value.code
    assert "format" in caught.value.message
    assert "newer Tailrace" in caught.value.hint
    assert 3 == caught.value.exit_code
