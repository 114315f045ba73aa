"""Attacks on the switch and the way back that real databases, stepped by hand, can show: each found a loss or a hang."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from capture import meta as metas
from cli.complete import complete, drop_left_over
from cutover.authority import AuthorityRow
from schemas.authority import Authority
from schemas.errors import Failed, Refusal, TailraceError, Transient
from tests.cutover_rig import FILLED, Rig, application, begun


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    ddl = "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT CHECK (v <> ''), u TEXT UNIQUE)"
    with begun(Rig(tmp_path, database_url, ddl), FILLED) as made:
        yield made


def test_what_the_source_got_between_two_switches_comes_back_too(rig: Rig) -> None:
    """A sink of the way back that knows the tables of the first switch only would leave a new column NULL, and pass over
    a new table, and both would be called drained."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    rig.rollback().run(reason="test")
    source = rig.sides["cases"].app
    source.run("ALTER TABLE t ADD COLUMN w TEXT")
    source.run("CREATE TABLE n(id INTEGER PRIMARY KEY, v TEXT)")
    source.run("INSERT INTO n VALUES (1, 'one')")
    rig.settle()
    rig.install_back()
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("UPDATE cases.t SET w = 'wide' WHERE id = 1")
    app.run("INSERT INTO cases.n VALUES (2, 'two')")
    rig.settle_back()
    rig.rollback().run(reason="test")
    assert [(1, "wide")] == rig.source_rows("cases", "SELECT id, w FROM t WHERE id = 1")
    assert [(1, "one"), (2, "two")] == rig.source_rows("cases", "SELECT * FROM n ORDER BY id")


def test_a_table_that_comes_between_the_proof_and_the_fence_takes_the_switch_back(rig: Rig) -> None:
    """Its guard would stand after the open, and its writes would not be logged for the way back."""
    switch = rig.switch()
    claimed = switch._row.move

    def move(*args: object, **named: object) -> int:
        token = claimed(*args, **named)  # type: ignore[arg-type]
        if named.get("verb") == "cutover":
            rig.sides["cases"].app.run("CREATE TABLE late(id INTEGER PRIMARY KEY, v TEXT)")
            rig.sides["cases"].app.run("INSERT INTO late VALUES (1, 'one')")
        return token

    switch._row.move = move  # type: ignore[method-assign]
    with pytest.raises(TailraceError):
        switch.run(rig.row.read())
    assert Authority.SOURCE == rig.row.read().authority
    rig.sides["cases"].app.run("INSERT INTO late VALUES (2, 'two')")
    rig.settle()
    rig.install_back()
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.late VALUES (3, 'three')")
    rig.rollback().run(reason="test")
    assert [1, 2, 3] == [row[0] for row in rig.source_rows("cases", "SELECT id FROM late ORDER BY id")]


def test_a_report_that_reads_the_target_holds_neither_the_switch_nor_the_return(rig: Rig) -> None:
    """With a CHECK to be made: ADD and DROP CONSTRAINT wait for every reader, while both sides are closed. The reader is
    ended; without that a return would stand closed on both sides for as long as a report runs."""
    reader = rig.postgres()
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.rows("SELECT count(*) FROM cases.t")
    begun_s = time.monotonic()
    rig.switch().run(rig.row.read())
    there_s = time.monotonic() - begun_s
    begun_s = time.monotonic()
    rig.rollback().run(reason="test")
    back_s = time.monotonic() - begun_s
    print(f"with a reader: there {there_s:.2f} s, back {back_s:.2f} s")
    assert Authority.SOURCE == rig.row.read().authority
    with pytest.raises(Transient):
        reader.rows("SELECT count(*) FROM cases.t")


def test_a_switch_that_falls_silent_in_the_middle_of_the_open_is_taken_back(rig: Rig) -> None:
    """It holds the authority row's lock: a stopped process keeps its session, and nobody could ever take it back."""
    gone = rig.switch(actor="gone", lease_s=1.0)
    stopped = threading.Event()
    made = gone._guard._objects
    assert made is not None

    def silent() -> dict[str, str]:
        stopped.wait(20)
        return {}

    made.make = silent  # type: ignore[method-assign]
    before = rig.row.read()
    thread = threading.Thread(target=lambda: _ends_in_an_error(lambda: gone.run(before)))
    thread.start()
    steward, look = rig.rollback("steward"), AuthorityRow(rig.postgres(), actor="look")
    deadline = time.monotonic() + 30
    try:
        while (now := look.read()).authority is not Authority.SOURCE or now.token == before.token:
            assert time.monotonic() < deadline
            with contextlib.suppress(Transient):
                steward.recover(now)
            time.sleep(0.05)
        for side in rig.sides.values():
            side.app.run("INSERT INTO t VALUES (100, 'open', NULL)")
    finally:
        stopped.set()
        thread.join()
    with pytest.raises(Failed, match="has not switched"):
        application(rig).run("INSERT INTO cases.t VALUES (101, 'late', NULL)")


def _ends_in_an_error(run: Callable[[], object]) -> None:
    with pytest.raises(TailraceError):
        run()


def test_what_an_abandoned_transaction_was_counted_as_is_flushed(rig: Rig) -> None:
    """A snapshot counts transactions that have ended without a flush (rolled back, or committed asynchronously). After a
    crash the server gives their numbers out again: a later write under one would be taken for seen."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    tail = rig.sides["cases"].back_capture
    for _ in range(4):
        tail.step()
    app.run("SET synchronous_commit = off")
    app.run("CREATE TEMP TABLE other(id int)")
    with pytest.raises(ZeroDivisionError), app.transaction():
        app.run("INSERT INTO other SELECT generate_series(1, 10)")
        raise ZeroDivisionError
    flushed: list[bool] = []
    sent = rig.transport.send

    def send(messages: object) -> object:
        now = Postgres(rig.url, application_name="look")
        if any("watermark" in one.topic for one in messages):  # type: ignore[attr-defined]
            at = tail._half._source._lsn  # type: ignore[attr-defined]
            flushed.append(now.rows("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", (at,))[0][0])
        now.close()
        return sent(messages)  # type: ignore[arg-type]

    rig.transport.send = send  # type: ignore[method-assign, assignment]
    for _ in range(4):
        tail.step()
        rig.clock.ms += 600
    assert flushed
    assert all(flushed)


def test_a_move_is_on_the_disk_when_it_counts(rig: Rig) -> None:
    """With synchronous_commit = off on the server a crash would take back the move behind which the other side opened."""
    rig.target.run("SET synchronous_commit = off")
    seen = []
    with rig.target.transaction():
        rig.row.move(rig.row.read(), Authority.TO_TARGET, verb="test", lease_s=1)
        seen = rig.target.rows("SELECT current_setting('synchronous_commit')")
    assert [("on",)] == seen


def test_complete_waits_for_no_reader(rig: Rig) -> None:
    """DROP TRIGGER would wait for a report, and every writer behind it."""
    rig.switch().run(rig.row.read())
    reader = rig.postgres()
    reader.run("BEGIN ISOLATION LEVEL REPEATABLE READ")
    reader.rows("SELECT count(*) FROM cases.t")
    complete(rig.target, rig.row, rig.row.read())
    assert ["cases.t"] == [name.replace('"', "") for name in drop_left_over(rig.target)]
    assert Authority.COMPLETED is rig.row.read().authority
    application(rig).run("INSERT INTO cases.t VALUES (160, 'completed', NULL)")
    assert [(2,)] == reader.rows("SELECT count(*) FROM cases.t")
    reader.run("ROLLBACK")
    assert [] == drop_left_over(rig.target)


def test_what_asks_a_fenced_source_for_rows_is_refused(rig: Rig) -> None:
    app = rig.sides["cases"].app
    metas.refuse_fenced(app, "reset")
    rig.switch().run(rig.row.read())
    with pytest.raises(Refusal, match="is fenced"):
        metas.refuse_fenced(app, "reset")
    rig.rollback().run(reason="test")
    metas.refuse_fenced(app, "reset")


@pytest.mark.parametrize("kind", ["owner of the tables", "replica role", "copy", "merge", "truncate", "prepared"])
def test_nobody_writes_to_a_target_that_is_not_open(rig: Rig, kind: str) -> None:
    """Roles and ways that pass ordinary triggers: the guard fires ALWAYS, for everybody but Tailrace's own role."""
    app = application(rig)
    rig.target.run("GRANT ALL ON SCHEMA cases TO application")
    wanted = "has not switched"
    match kind:
        case "owner of the tables":
            rig.target.run("DROP ROLE IF EXISTS guarded_owner")
            rig.target.run("CREATE ROLE guarded_owner SUPERUSER LOGIN PASSWORD 'app'")
            owner = Postgres(f"postgresql://guarded_owner:app@{rig.url.split('@')[1]}", application_name="owner")
            rig.opened.append(owner)
            attempt = partial(owner.run, "INSERT INTO cases.t VALUES (170, 'x', NULL)")
        case "replica role":
            rig.target.run("GRANT SET ON PARAMETER session_replication_role TO application")
            app.run("SET session_replication_role = replica")
            attempt = partial(app.run, "DELETE FROM cases.t")
        case "copy":
            attempt = partial(
                app.copy_in, "COPY cases.t FROM STDIN (FORMAT BINARY)", ["int8", "text", "text"], [(171, "x", None)]
            )
        case "merge":
            attempt = partial(
                app.run, "INSERT INTO cases.t VALUES (1, 'x', NULL) ON CONFLICT (id) DO UPDATE SET v = 'y'"
            )
        case "truncate":
            attempt = partial(app.run, "TRUNCATE cases.t")
        case _:
            rig.switch().run(rig.row.read())
            for _ in range(7):
                app.run("UPDATE cases.t SET v = %s WHERE id = %s", ("prepared", 1))
            rig.rollback().run(reason="test")
            attempt = partial(app.run, "UPDATE cases.t SET v = %s WHERE id = %s", ("late", 1))
    with pytest.raises(Failed, match=wanted):
        attempt()
    assert 2 == rig.target.rows("SELECT count(*) FROM cases.t")[0][0]


def test_writers_in_another_order_do_not_starve_the_return(rig: Rig) -> None:
    """Each transaction writes `cases` and then `auth`, the return locked `auth` first: they waited for each other until the
    lock time-out, and again at every attempt, for as long as there were writers."""
    rig.switch().run(rig.row.read())
    stop = threading.Event()
    apps = [application(rig) for _ in range(3)]

    def work(number: int, app: Postgres) -> None:
        for serial in range(10_000):
            with contextlib.suppress(TailraceError), app.transaction():
                app.run(f"INSERT INTO cases.t VALUES ({number * 10_000 + serial}, 'w', NULL)")
                time.sleep(0.1)
                app.run(f"INSERT INTO auth.t VALUES ({number * 10_000 + serial}, 'w', NULL)")
            if stop.is_set():
                return

    threads = [threading.Thread(target=work, args=(number, app)) for number, app in enumerate(apps, 1)]
    for thread in threads:
        thread.start()
    time.sleep(0.3)
    try:
        rig.rollback().run(reason="test")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert rig.target_rows("cases") == rig.source_rows("cases")
    assert 2 < len(rig.source_rows("auth")) == len(rig.source_rows("cases"))
