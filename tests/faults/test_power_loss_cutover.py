"""The machine loses power in the middle of a switch or of a return: what anybody acts on was on the disk before.

The disk is what was synced, by whomever: tests/faults/synced.c sees every fsync of a process that switches and returns, and
keeps at each named point what a power loss there would leave. Without a WAL, a journal whose removal was not synced comes
back, and with it the state before the commit."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from adapters.sqlite_apsw import QuietSqlite
from cutover.source_fence import Fence, carried_of
from embedded.postgres import EmbeddedPostgres
from schemas.authority import Authority
from schemas.errors import Failed, Transient
from tests.cutover_rig import FILLED, Rig, application, begun
from tests.fix_postgres import start_server

FENCED = ("cutover.fenced", "rollback.returned")
"""Between these two the target may be open, or is not yet drained back: each file must carry its fence."""
CARRIED = ("back.after_commit", "rollback.drained", "rollback.mid_return", "rollback.returned")
"""What the source holds here is counted as arrived."""


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("no C compiler, or no LD_PRELOAD: nothing sees which files are synced")
    made = tmp_path_factory.mktemp("synced") / "synced.so"
    source = Path(__file__).with_name("synced.c")
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", made, source, "-ldl"], check=True)
    return made


def _told(folder: Path, url: str, watched: Path, mode: str, groups: str) -> list[dict[str, Any]]:
    data, disk = folder / "data", folder / "disk"
    for one in (data, disk, folder / "kept"):
        one.mkdir()
    environment = {
        **os.environ,
        "LD_PRELOAD": str(watched),
        "SYNCED_OF": str(data),
        "SYNCED_TO": str(disk),
        "SYNCED_URL": url,
    }
    command = [sys.executable, "-m", "tests.faults.synced", str(folder), mode, groups]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=240)
    assert 0 == done.returncode, done.stderr[-3000:]
    return list(json.loads(done.stdout))


def _after_power_loss(disk: str, source: str) -> tuple[Fence | None, list[int]]:
    """(its fence, its rows)."""
    db = SqliteDatabase(Path(disk) / f"{source}.db")
    try:
        carried = carried_of(db)
        rows = [row[0] for row in db.rows("SELECT id FROM t ORDER BY id")]
        assert [("ok",)] == db.rows("PRAGMA integrity_check")
        return carried.fence, rows
    finally:
        db.close()


@pytest.mark.parametrize(("mode", "groups"), [("wal", "attached"), ("delete", "one by one")])
def test_what_is_acted_on_survives(tmp_path: Path, database_url: str, watched: Path, mode: str, groups: str) -> None:
    told = _told(tmp_path, database_url, watched, mode, groups)
    names = [one["point"] for one in told]
    assert {*FENCED, "cutover.draining", "cutover.mid_open", "cutover.after_open", "rollback.drained"} <= set(names)
    # `fenced` stands in front of the sync: what acts on the fence comes behind it.
    first, last = names.index(FENCED[0]) + 1, names.index(FENCED[1])
    for at, one in enumerate(told):
        for source, known in one["rows"].items():
            fence, rows = _after_power_loss(one["disk"], source)
            where = one["point"], source
            if one["point"] == "followed":
                assert {1, 2, 3} <= set(rows), where
            if first <= at <= last:
                assert fence is not None, where
                assert {1, 2, 3, 4} <= set(rows), where
            if one["point"] in CARRIED:
                assert known == rows, where
    for source in told[-1]["rows"]:
        assert (None, [1, 2, 3, 4, 10]) == _after_power_loss(told[-1]["disk"], source)


def test_commits_of_ours_are_durable_however_sqlite_was_built(tmp_path: Path, database_url: str) -> None:
    """A library may be built with NORMAL for a WAL; FULL leaves the folder unsynced where a journal ends a commit."""
    with begun(Rig(tmp_path, database_url), FILLED) as rig:
        fence = rig.fence()
        levels = [
            group.db.rows(f"PRAGMA {schema}.synchronous")
            for group in fence._groups
            for schema in group.schemas.values()
        ]
        assert [[(3,)]] * 2 == levels
        quiet: QuietSqlite = rig.quiet(rig.sides["cases"].path)
        assert [(3,)] == quiet.rows("PRAGMA synchronous")


@pytest.fixture
def forgetful() -> Iterator[tuple[EmbeddedPostgres, str]]:
    """A server that commits without waiting for its disk, and whose background writer sleeps."""
    settings = {"fsync": "on", "synchronous_commit": "off", "wal_writer_delay": "10s", "wal_writer_flush_after": "1GB"}
    server, url, folder = start_server(settings=settings)
    yield server, url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _again(server: EmbeddedPostgres, rig: Rig) -> None:
    """What the dead server's children still hold goes by itself."""
    deadline = time.monotonic() + 60
    while True:
        try:
            server.start()
            break
        except Failed:
            assert time.monotonic() < deadline
            time.sleep(0.2)
    for session in (one for one in rig.opened if isinstance(one, Postgres)):
        with contextlib.suppress(Transient):
            session.rows("SELECT 1")


def test_a_server_that_forgets_commits_keeps_every_move(
    tmp_path: Path, forgetful: tuple[EmbeddedPostgres, str]
) -> None:
    """What a session committed a moment ago is gone after the crash, the move that followed it is not."""
    server, url = forgetful
    rig = Rig(tmp_path, url)
    with begun(rig, FILLED):
        for after in (Authority.TARGET, Authority.SOURCE):
            if after is Authority.TARGET:
                rig.switch(lease_s=60).run(rig.row.read())
            else:
                rig.rollback().run(reason="power")
            token = rig.row.read().token
            rig.target.run(
                "INSERT INTO tailrace.journal(token, before, after, verb, actor, detail) VALUES (0, '', '', 'x', '', '{}')"
            )
            server.kill()
            _again(server, rig)
            found = rig.row.read()
            assert (after, token) == (found.authority, found.token)
            assert [] == rig.target.rows("SELECT 1 FROM tailrace.journal WHERE verb = 'x'")
            if after is Authority.TARGET:
                application(rig).run("INSERT INTO cases.t VALUES (10, 'written there', NULL)")
        assert [1, 2, 10] == [row[0] for row in rig.source_rows("cases", "SELECT id FROM t ORDER BY id")]
