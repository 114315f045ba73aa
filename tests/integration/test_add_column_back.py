"""ADD COLUMN on the target inside the window: it flows back, with what older rows show, and the rollback after it knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture.sqlite_source import SqliteSource
from schemas.authority import Authority
from schemas.errors import Code, Failed, Refusal, Transient
from sink.tail import SinkSettings
from tests.cutover_rig import FILLED, TABLE, Rig, application, begun
from tests.model.world import SteppingClock
from verify.verification import Verification

COLUMNS = {
    "plain": "text",
    "small": "smallint DEFAULT 5",
    "counted": "bigint NOT NULL DEFAULT -9",
    "flag": "boolean NOT NULL DEFAULT true",
    "ratio": "double precision DEFAULT 0.5",
    "amount": "numeric NOT NULL DEFAULT 12.5",
    "said": "text NOT NULL DEFAULT 'it''s \"so\"'",
    "word": "varchar DEFAULT 'w'",
    "raw": "bytea DEFAULT '\\x00ff'",
    "day": "date NOT NULL DEFAULT '2026-02-28'",
    "at": "timestamp DEFAULT '2026-02-28 10:00:00.5'",
    "at_utc": "timestamptz DEFAULT '2026-02-28 10:00:00+00'",
    "doc": "json DEFAULT '{\"a\":  1}'",
}
SHOWN = (
    None, 5, -9, 1, 0.5, 12.5, 'it\'s "so"', "w", b"\x00\xff", "2026-02-28", "2026-02-28 10:00:00.500000",
    "2026-02-28 10:00:00+00:00", '{"a":  1}',
)  # fmt: skip


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(
        Rig(
            tmp_path,
            database_url,
            TABLE,
            "CREATE TABLE audit(id INTEGER PRIMARY KEY, what TEXT)",
            "CREATE TRIGGER t_audit AFTER INSERT ON t BEGIN INSERT INTO audit(what) VALUES (NEW.v); END",
        ),
        FILLED,
    ) as made:
        made.switch().run(made.row.read())
        made.settle_back()
        yield made


def add(rig: Rig, *columns: str, table: str = "cases.t") -> None:
    rig.target.run(f"ALTER TABLE {table} {', '.join(f'ADD COLUMN {one}' for one in columns)}")


def verified(rig: Rig, name: str = "cases") -> None:
    db = rig.sqlite(rig.sides[name].path)
    source = SqliteSource(db, name)
    report = Verification(source, source, rig.postgres(), SteppingClock(), expected=["t", "audit"]).run(())
    assert report.clean, report.as_json()


def columns_of(db: SqliteDatabase, table: str = "t") -> list[tuple[object, ...]]:
    return [row[1:5] for row in db.rows(f"PRAGMA table_info({table})")]


def types_of(target: Postgres) -> list[tuple[object, ...]]:
    return target.rows(
        "SELECT attname::text, format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'cases.t'::regclass "
        "AND attnum > 0 AND NOT attisdropped ORDER BY attnum"
    )


def test_add_column_flows_back(rig: Rig) -> None:
    """Rows that were there show the DEFAULT without any of them being sent; the fence and all triggers go on; after the
    rollback the forward stream knows the columns, copies nothing again, and makes none twice."""
    reader = rig.sqlite(rig.sides["cases"].path)
    with reader.read_view():  # a reader of the application that stays
        reader.rows("SELECT count(*) FROM t")
        add(rig, *(f"{name} {kind}" for name, kind in COLUMNS.items()))
        app = application(rig)
        app.run("INSERT INTO cases.t(id, v, u, plain, counted) VALUES (3, 'new', 'c', 'p', 77)")
        app.run("UPDATE cases.t SET said = 'changed', at = '2026-03-01 00:00:00.000001' WHERE id = 1")
        rig.settle_back()
    rows = rig.source_rows("cases", "SELECT * FROM t ORDER BY id")
    assert (2, "two", "b", *SHOWN) == rows[1]
    assert (3, "new", "c", "p", *SHOWN[1:2], 77, *SHOWN[3:]) == rows[2]
    assert ("changed", "2026-03-01 00:00:00.000001") == (rows[0][9], rows[0][13])
    assert {} == rig.row.read().no_rollback
    with pytest.raises(Failed, match="tailrace-fenced"):
        rig.sides["cases"].app.run("INSERT INTO t(v) VALUES ('late')")
    before = types_of(rig.target)
    rig.rollback().run(reason="test")
    side = rig.sides["cases"].app
    side.run("INSERT INTO t(id, v, u, plain) VALUES (9, 'sqlite', 'z', 'again')")
    side.run("UPDATE t SET day = '2027-01-01', flag = 0, doc = '[]' WHERE id = 2")
    rig.settle()
    assert before == types_of(rig.target)
    verified(rig)
    # The application's trigger fired once for each row, on the side that wrote it.
    assert [("sqlite",)] == side.rows("SELECT what FROM audit WHERE id > 2 ORDER BY id")
    assert [(1,)] == rig.target.rows(
        "SELECT generation FROM tailrace.tables WHERE source = 'cases' AND \"table\" = 't'"
    )
    rig.install_back()
    rig.switch().run(rig.row.read())
    app.run("UPDATE cases.t SET plain = 'second way back' WHERE id = 9")
    rig.settle_back()
    assert [("second way back",)] == side.rows("SELECT plain FROM t WHERE id = 9")
    assert [] == rig.said


def test_what_sqlite_cannot_give_back_is_refused_by_name(rig: Rig) -> None:
    """Types and names: tests/unit/schemas/test_back_columns.py."""
    rig.target.run("CREATE TYPE mood AS ENUM ('well', 'ill')")
    add(rig, "fine text", "kind mood")
    with pytest.raises(Refusal) as refused:  # before capture had time to see it
        rig.rollback().run(reason="test")
    assert (Code.NO_ROLLBACK, Authority.TARGET) == (refused.value.code, rig.row.read().authority)
    add(rig, "also text", table="auth.t")
    rig.settle_back()
    why = "column kind (mood) was added: what SQLite writes after a rollback would not fit into this type as it is"
    assert {"cases.t": why} == rig.row.read().no_rollback
    assert ["id", "v", "u"] == [name for name, *_ in columns_of(rig.sides["cases"].app)]
    assert ["id", "v", "u", "also"] == [name for name, *_ in columns_of(rig.sides["auth"].app)]


HISTORIES = {
    "the default is another than what older rows show": ("ADD COLUMN w int DEFAULT 5", "ALTER COLUMN w SET DEFAULT 7"),
    "older rows show something and there is no default": ("ADD COLUMN w int DEFAULT 5", "ALTER COLUMN w DROP DEFAULT"),
    "older rows show nothing and there is a default": ("ADD COLUMN w int", "ALTER COLUMN w SET DEFAULT 7"),
    "each older row shows another value": ("ADD COLUMN w text DEFAULT random()", "ALTER COLUMN w SET DEFAULT 'x'"),
}


def test_what_older_rows_show_comes_with_their_keys(rig: Rig) -> None:
    """No trigger fired for them, and SQLite's own DEFAULT would show another value."""
    for at, (history, statements) in enumerate(HISTORIES.items()):
        with rig.target.transaction():
            for one in statements:
                rig.target.run(f"ALTER TABLE cases.t {one.replace(' w', f' w{at}')}")
        rig.settle_back()
        rig.settle_back()  # what was touched by the first
        assert rig.target_rows("cases") == rig.source_rows("cases"), history
    rig.rollback().run(reason="test")
    rig.settle()
    assert rig.target_rows("cases") == rig.source_rows("cases")
    verified(rig)


def test_a_column_that_was_filled_before_it_was_not_null(rig: Rig) -> None:
    """As migrations do it; SQLite adds no NOT NULL column without a default, and all its values are there."""
    with rig.target.transaction():
        add(rig, "w text")
        rig.target.run("UPDATE cases.t SET w = 'w' || id")
        rig.target.run("ALTER TABLE cases.t ALTER COLUMN w SET NOT NULL")
    rig.settle_back()
    assert [("w1",), ("w2",)] == rig.source_rows("cases", "SELECT w FROM t ORDER BY id")
    rig.rollback().run(reason="test")
    rig.settle()
    verified(rig)


def test_a_column_that_comes_while_the_target_closes(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The drain waits until the stream took it over, and for what it brings."""

    def late(name: str) -> None:
        if name == "rollback.arrived":
            rig.stopped = {"back_capture"}
            add(rig, "w int DEFAULT 5")
            rig.target.run("UPDATE cases.t SET w = 6 WHERE id = 1")
        if name == "rollback.closed":
            add(rig, "w int DEFAULT 5", table="auth.t")
            rig.target.run("UPDATE auth.t SET w = 6 WHERE id = 1")
            rig.stopped = set()

    monkeypatch.setattr("cutover.rollback.reach", late)
    rig.rollback().run(reason="test")
    for name in rig.sides:
        assert [(6,), (5,)] == rig.source_rows(name, "SELECT w FROM t ORDER BY id")
    assert {} == rig.row.read().no_rollback
    rig.settle()
    for name in rig.sides:
        verified(rig, name)


def test_a_rollback_that_died_before_its_drain_brings_the_column(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The steward finishes it, one look at a time."""

    def dies(name: str) -> None:
        if name == "rollback.arrived":
            rig.stopped = {"back_capture"}
            add(rig, "w int DEFAULT 5")
            rig.target.run("UPDATE cases.t SET w = 6 WHERE id = 1")
        if name == "rollback.closed":
            raise KeyboardInterrupt

    monkeypatch.setattr("cutover.rollback.reach", dies)
    with pytest.raises(KeyboardInterrupt):
        rig.rollback().run(reason="test")
    rig.target.run("UPDATE tailrace.migration SET lease_until = clock_timestamp() - interval '1 second'")
    rig.stopped = set()
    steward = rig.rollback("steward")
    for _ in range(100):
        if steward.recover(rig.row.read()) is not None:
            break
        rig.clock.sleep(0.02)
    assert Authority.SOURCE == rig.row.read().authority
    assert [(6,), (5,)] == rig.source_rows("cases", "SELECT w FROM t ORDER BY id")
    rig.settle()
    verified(rig)


CRASHES = (
    "reverse.before_shape", "reverse.after_shape", "reverse.shape_marked", "reverse.before_send", "reverse.after_send",
    "reverse.before_watermark", "back.before_apply", "back.before_commit", "back.after_commit",
)  # fmt: skip


def test_a_crash_between_the_shape_and_its_rows(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever begins anew begins with the shape again; what is there already is not made twice."""
    side = rig.sides["cases"]
    for at, point in enumerate(CRASHES):
        died: list[str] = []

        def dies(name: str, point: str = point, died: list[str] = died) -> None:
            if name == point and len(died) < 2:
                died.append(name)
                raise Transient(Code.STREAM_IO, "killed")

        monkeypatch.setattr("capture.postgres_tail.reach", dies)
        monkeypatch.setattr("sink.sqlite_target.reach", dies)
        rig.stopped = {"back_sink"} if point.startswith("reverse") else set()
        add(rig, f"w{at} int NOT NULL DEFAULT {at}")
        rig.target.run(f"UPDATE cases.t SET w{at} = -1 WHERE id = 1")
        for _ in range(30):
            before = len(died)
            rig.clock.sleep(0.05)
            if len(died) > before:  # as a process that begins anew
                side.back_capture._half._started = None  # type: ignore[attr-defined]
                side.back_sink._half._progress = None  # type: ignore[attr-defined]
        rig.stopped = set()
        rig.settle_back()
        assert [point] * 2 == died
        assert (f"w{at}", "INTEGER", 1, str(at)) == columns_of(side.app)[-1]
        assert rig.target_rows("cases") == rig.source_rows("cases"), point
    rig.rollback().run(reason="test")
    rig.settle()
    assert rig.target_rows("cases") == rig.source_rows("cases")
    verified(rig)


def test_a_stale_capture_sends_no_row_without_it(rig: Rig) -> None:
    """A capture that slept while another took the column over knows plans without it, and a snapshot newer than all."""
    half = rig.sides["cases"].back_capture._half
    start = half._start_of()  # type: ignore[attr-defined]
    add(rig, "w int DEFAULT 5")
    rig.settle_back()
    rig.target.run("UPDATE cases.t SET w = 6 WHERE id = 1")
    sent = half._outlet.last.seq  # type: ignore[attr-defined]
    half._start_of, half._started = (lambda: start), start  # type: ignore[attr-defined]
    for _ in range(5):
        rig.clock.sleep(0.01)
    assert sent == half._outlet.last.seq  # type: ignore[attr-defined]
    half._start_of = lambda: rig.start_of(rig.sides["cases"])  # type: ignore[attr-defined]
    rig.settle_back()
    assert [(6,), (5,)] == rig.source_rows("cases", "SELECT w FROM t ORDER BY id")


def test_a_cut_in_slices_brings_its_columns(rig: Rig) -> None:
    """The slices come before the notice of their cut."""
    side = rig.sides["cases"]
    side.back_sink._half._settings = SinkSettings("p-back", group="back", look_ms=1, max_transaction_rows=8)  # type: ignore[attr-defined]
    rig.stopped = {"back_sink"}
    add(rig, "w int DEFAULT 5")
    rig.target.run("INSERT INTO cases.t(id, w) SELECT n, n FROM generate_series(10, 40) AS n")
    for _ in range(20):
        rig.clock.sleep(0.05)
    rig.stopped = set()
    rig.settle_back()
    assert rig.target_rows("cases") == rig.source_rows("cases")


def test_a_strict_table_takes_what_it_has_types_for(tmp_path: Path, database_url: str) -> None:
    rig = Rig(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT) STRICT")
    try:
        for side in rig.sides.values():
            side.app.run("INSERT INTO t VALUES (1, 'one')")
        rig.settle()
        rig.install_back()
        rig.switch().run(rig.row.read())
        add(rig, "flag boolean NOT NULL DEFAULT true", "at timestamp DEFAULT '2026-01-01 00:00:00'")
        rig.settle_back()
        assert [(1, "one", 1, "2026-01-01 00:00:00")] == rig.source_rows("cases")
        add(rig, "amount numeric DEFAULT 1", table="auth.t")
        for _ in range(20):
            rig.clock.sleep(0.05)
        assert "a STRICT table has no type for numeric" in rig.row.read().no_rollback["auth.t"]
        assert [(1, "one")] == rig.source_rows("auth")
    finally:
        rig.close()


MADE_THERE = (
    "CREATE INDEX by_w ON cases.t(w)",
    "CREATE INDEX by_sum ON cases.t((w + s)) WHERE s IS NOT NULL",
    "ALTER TABLE cases.t ADD CONSTRAINT positive CHECK (w > 0)",
)


def _made_there(rig: Rig) -> list[tuple[object, ...]]:
    return rig.target.rows(
        "SELECT indexname::text FROM pg_indexes WHERE schemaname = 'cases' AND indexname LIKE 'by\\_%' UNION ALL "
        "SELECT conname::text FROM pg_constraint WHERE conname = 'positive' ORDER BY 1"
    )


def _narrow(rig: Rig) -> SqliteDatabase:
    """SQLite has no narrow integers: after the return it writes what the column cannot hold."""
    add(rig, "w int NOT NULL DEFAULT 5", "s smallint")
    application(rig).run("UPDATE cases.t SET w = 6, s = 7 WHERE id = 1")
    rig.settle_back()
    for one in MADE_THERE:
        rig.target.run(one)
    rig.rollback().run(reason="test")
    rig.settle()
    return rig.sides["cases"].app


def test_a_narrow_column_that_sqlite_outgrows(rig: Rig) -> None:
    """Each such row went to quarantine, and no retry brought it."""
    app = _narrow(rig)
    app.run("UPDATE t SET w = ? WHERE id = 1", (2**40,))
    rig.settle()
    app.run("UPDATE t SET s = ? WHERE id = 2", (-(2**63),))
    rig.settle()
    assert {("w", "bigint"), ("s", "bigint")} <= set(types_of(rig.target))
    rows = rig.target_rows("cases", "SELECT id, w, s FROM {}.t ORDER BY id")
    assert [(1, 2**40, 7), (2, 5, -(2**63))] == rows
    verified(rig)
    assert [] == rig.target.rows("SELECT 1 FROM tailrace.quarantine")
    # What the application made over the columns there is there again.
    assert [("by_sum",), ("by_w",), ("positive",)] == _made_there(rig)
    # The way back knows them as they are now.
    rig.install_back()
    rig.switch().run(rig.row.read())
    application(rig).run("UPDATE cases.t SET s = %s WHERE id = 1", (2**50,))
    rig.settle_back()
    assert [(2**40, 2**50)] == app.rows("SELECT w, s FROM t WHERE id = 1")
    assert {} == rig.row.read().no_rollback
    assert [] == rig.said


def test_a_narrow_column_that_cannot_grow_keeps_the_row_behind(rig: Rig) -> None:
    """A view of the application's stands over it: named, never lost, and every other row is carried."""
    app = _narrow(rig)
    rig.target.run("CREATE VIEW cases.over_w AS SELECT w FROM cases.t")
    app.run("UPDATE t SET w = ? WHERE id = 1", (2**40,))
    app.run("UPDATE t SET w = 8 WHERE id = 2")
    for _ in range(20):
        rig.step()
    kept = rig.target.rows('SELECT "table", key_text::text, reason FROM tailrace.quarantine')
    assert [("t", "(1,)", "integer out of range [22003]")] == kept
    assert [(2, 8)] == rig.target_rows("cases", "SELECT id, w FROM {}.t ORDER BY id")
    rig.target.run("DROP VIEW cases.over_w")
    app.run("UPDATE t SET v = 'again' WHERE id = 1")
    rig.settle()
    assert [] == rig.target.rows("SELECT 1 FROM tailrace.quarantine")
    assert [(2**40,)] == rig.target_rows("cases", "SELECT w FROM {}.t WHERE id = 1")
    verified(rig)
