"""Values that the application writes on PostgreSQL and SQLite held in another form, or cannot hold."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from capture.postgres_touch import touch_keys
from schemas.authority import Authority
from schemas.errors import Code, Refusal
from tests.cutover_rig import Rig, application

MOMENTS = (
    "CREATE TABLE m(id INTEGER PRIMARY KEY, seconds DATETIME, minutes TIMESTAMP, thousandths TIMESTAMP, "
    "zone TIMESTAMP, day DATE)"
)
WRITTEN = ("2026-01-02 03:04:05", "2026-01-02 03:04", "2026-01-02T03:04:05.678", "2026-01-02T03:04:05Z", "2026-01-02")


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    made = Rig(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, u TEXT UNIQUE)", MOMENTS)
    for side in made.sides.values():
        side.app.run("INSERT INTO m VALUES (1, ?, ?, ?, ?, ?), (2, ?, ?, ?, ?, ?)", WRITTEN * 2)
    made.settle()
    made.install_back()
    made.switch().run(made.row.read())
    yield made
    made.close()


def moments(rig: Rig) -> list[tuple[object, ...]]:
    return rig.target_rows("cases", "SELECT * FROM {}.m ORDER BY id")


def test_now_comes_back_to_the_microsecond(rig: Rig) -> None:
    """And what had the form of the application's own texts keeps it; forward again it is the same moment in the same column."""
    app = application(rig)
    at = "timestamp '2026-11-25 10:11:12.000345'"
    app.run(
        f"UPDATE cases.m SET seconds = {at}, minutes = {at}, thousandths = {at}, zone = {at} AT TIME ZONE 'UTC' WHERE id = 2"
    )
    app.run("INSERT INTO cases.m SELECT 3, n, n, n, n, n::date FROM (SELECT clock_timestamp() AS n) AS now")
    app.run("INSERT INTO cases.m SELECT 4, seconds, minutes, thousandths, zone, day FROM cases.m WHERE id = 1")
    rig.settle_back()
    found = rig.source_rows("cases", "SELECT * FROM m ORDER BY id")
    assert (1, *WRITTEN) == found[0]
    assert (4, *WRITTEN) == found[3]
    plain, zoned = "2026-11-25 10:11:12.000345", "2026-11-25T10:11:12.000345Z"
    assert (2, plain, plain, plain.replace(" ", "T"), zoned, "2026-01-02") == found[1]
    before = moments(rig)
    assert [] == rig.source_rows("cases", "SELECT * FROM _tailrace_quarantine")
    rig.rollback().run(reason="test")
    rig.settle()
    assert found == rig.source_rows("cases", "SELECT * FROM m ORDER BY id")
    assert before == moments(rig)
    types = (
        "SELECT DISTINCT data_type FROM information_schema.columns "
        "WHERE table_name = 'm' AND table_schema = 'cases' ORDER BY 1"
    )
    assert ["bigint", "date", "timestamp with time zone", "timestamp without time zone"] == [
        kind for (kind,) in rig.target.rows(types)
    ]
    # The next writer on SQLite is free in its form again, and a second way back knows both.
    rig.sides["cases"].app.run("INSERT INTO m VALUES (5, ?, ?, ?, ?, ?)", WRITTEN)
    rig.settle()
    rig.switch().run(rig.row.read())
    rig.settle_back()
    assert before[0][1:] == moments(rig)[-1][1:]
    assert [] == rig.said


def test_a_moment_that_python_has_no_word_for_is_named(rig: Rig) -> None:
    """The driver fails on the whole page; every other row of it comes back."""
    app = application(rig)
    app.run("UPDATE cases.m SET seconds = CASE id WHEN 1 THEN timestamp 'infinity' ELSE '20001-01-01' END")
    app.run("INSERT INTO cases.m(id) SELECT n FROM generate_series(10, 20) AS n")
    rig.settle_back()
    assert 13 == len(rig.source_rows("cases", "SELECT * FROM m"))
    kept = rig.source_rows("cases", "SELECT tab, key_text, substr(reason, 1, 21) FROM _tailrace_quarantine ORDER BY 2")
    assert [("m", "(1,)", "SQLite cannot hold it"), ("m", "(2,)", "SQLite cannot hold it")] == kept
    app.run("UPDATE cases.m SET seconds = timestamp '2026-01-01' WHERE id IN (1, 2)")
    rig.settle_back()
    assert [] == rig.source_rows("cases", "SELECT * FROM _tailrace_quarantine")
    rig.rollback().run(reason="test")


def refusal(rig: Rig) -> Refusal:
    with pytest.raises(Refusal) as why:
        rig.rollback().run(reason="test")
    assert Code.NO_ROLLBACK == why.value.code
    return why.value


def a_kept_row(rig: Rig) -> Postgres:
    app = application(rig)
    app.run("UPDATE cases.m SET seconds = 'infinity' WHERE id = 2")
    rig.settle_back()
    return app


def test_a_row_that_sqlite_cannot_hold_keeps_writes_where_they_are(rig: Rig) -> None:
    """Closing the target for it would leave both sides closed: it is refused before, by table and key, with the way out."""
    app = a_kept_row(rig)
    found = refusal(rig)
    assert "could not bring 1 rows, among them cases.m (2,): SQLite cannot hold it" in found.message
    assert "quarantine waive cases m" in found.hint
    assert Authority.TARGET == rig.row.read().authority
    app.run("UPDATE cases.m SET seconds = '2026-05-05' WHERE id = 2")
    rig.settle_back()
    rig.rollback().run(reason="mended")
    rig.settle()
    assert [("2026-05-05 00:00:00",)] == rig.source_rows("cases", "SELECT seconds FROM m WHERE id = 2")


def test_a_row_that_comes_while_the_target_closes_is_named_and_given_up(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both sides are closed then: the drain names it at once instead of waiting for what never comes."""
    app = application(rig)

    def late(name: str) -> None:
        # The writer commits behind the last look of the rollback and before the guards.
        if name == "rollback.arrived":
            app.run("UPDATE cases.m SET seconds = 'infinity' WHERE id = 2")

    monkeypatch.setattr("cutover.rollback.reach", late)
    found = refusal(rig)
    assert "both sides are closed until then" in found.hint
    assert Authority.TO_SOURCE == rig.row.read().authority
    monkeypatch.undo()
    assert "among them cases.m (2,)" in refusal(rig).message
    rig.sides["cases"].app.run("DELETE FROM _tailrace_quarantine")  # as quarantine waive does
    rig.rollback().run(reason="given up")
    rig.settle()
    assert WRITTEN[0] == rig.source_rows("cases", "SELECT seconds FROM m WHERE id = 2")[0][0]
    found_there = rig.target_rows("cases", "SELECT seconds::text FROM {}.m WHERE id = 2")
    assert [(WRITTEN[0],)] == found_there  # the source's state goes forward: both sides are equal


def test_a_kept_row_is_sent_again_by_its_key(rig: Rig) -> None:
    """What kept it was on this side: the key alone is touched there, and the row comes."""
    a_kept_row(rig)
    rig.target.run("ALTER TABLE cases.m DISABLE TRIGGER tailrace_log_update")
    rig.target.run("UPDATE cases.m SET seconds = '2026-06-06' WHERE id = 2")  # not logged
    rig.target.run("ALTER TABLE cases.m ENABLE ALWAYS TRIGGER tailrace_log_update")
    (plan,) = (one for one in rig.plans() if (one.source, one.table) == ("cases", "m"))
    assert 2 == touch_keys(rig.target, plan, [(2,), (99,)])
    rig.settle_back()
    assert [("2026-06-06 00:00:00",)] == rig.source_rows("cases", "SELECT seconds FROM m WHERE id = 2")
    assert [] == rig.source_rows("cases", "SELECT * FROM _tailrace_quarantine")
