"""What the switch and the way back depend on goes away and comes back, with live writers: daemons, the server, the network."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.postgres import EmbeddedPostgres
from tests.faults.fix_cutover import LEASE_S, Migration
from tests.faults.proxy import Proxy
from tests.fix_pipeline import ROLES
from tests.fix_postgres import start_server

BY_ITSELF_S = LEASE_S + 20
BACK_POINTS = (
    ("sink", "reverse.before_send"),
    ("sink", "reverse.after_send"),
    ("sink", "reverse.before_watermark"),
    ("sink", "reverse.after_watermark"),
    ("capture", "back.before_apply"),
    ("capture", "back.before_commit"),
    ("capture", "back.after_commit"),
)


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[tuple[EmbeddedPostgres, Migration, Path]]:
    """A server of this test's own, which may be killed; it keeps what it acknowledged."""
    server, url, folder = start_server(settings={"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"})
    made = Migration(tmp_path / "run", url)
    yield server, made, folder
    made.close()
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


def _crash(server: EmbeddedPostgres, folder: Path) -> None:
    server.kill()
    time.sleep(1.0)  # its orphaned children need a moment to go
    (folder / "server" / "data" / "postmaster.pid").unlink(missing_ok=True)


def _back(migration: Migration) -> None:
    migration.rollback(within_s=60)
    migration.until_written(within_s=20)
    migration.judge()


@pytest.mark.parametrize(
    ("role", "point"),
    [
        pytest.param(role, point, marks=[] if point == "back.before_commit" else pytest.mark.soak)
        for role, point in BACK_POINTS
    ],
)
def test_a_daemon_of_the_way_back_killed_at_a_point(migration: Migration, role: str, point: str) -> None:
    """Whoever died starts again: its forward part rests at the cutoff, its back part goes on."""
    migration.follow()
    migration.kill(role)
    migration.start(role, at=f"{point}=kill:2")
    migration.settle()
    migration.cutover()
    migration.wait_killed(role, timeout_s=60)
    migration.start(role)
    migration.until_written(within_s=10)
    _back(migration)


@pytest.mark.soak
@pytest.mark.parametrize("role", ROLES)
def test_each_daemon_killed_in_every_state(migration: Migration, role: str) -> None:
    migration.follow()
    for _ in range(2):
        migration.kill(role)
        migration.start(role)
        migration.settle()
        migration.cutover()
        migration.kill(role)
        migration.until_written(within_s=10)
        migration.start(role)
        migration.rollback(within_s=60)
        migration.until_written(within_s=20)
    migration.judge()


@pytest.mark.parametrize(
    "role", [pytest.param("sink", marks=pytest.mark.soak), pytest.param("capture", marks=pytest.mark.soak)]
)
def test_a_daemon_stopped_while_the_switch_drains(migration: Migration, role: str) -> None:
    """The drain gives up by itself and the sources are open again; nothing is opened beside them when it wakes."""
    migration.follow()
    switch = migration.stopped_at("cutover.fenced", "cutover")
    migration.processes[role].send_signal(signal.SIGSTOP)
    switch.send_signal(signal.SIGCONT)
    assert 0 != switch.wait(timeout=60)
    migration.until_written(within_s=BY_ITSELF_S)
    migration.processes[role].send_signal(signal.SIGCONT)
    migration.cutover()
    _back(migration)


@pytest.mark.parametrize(
    "point",
    [
        pytest.param("cutover.fenced", marks=pytest.mark.soak),
        "cutover.before_open",
        pytest.param("cutover.after_open", marks=pytest.mark.soak),
    ],
)
def test_the_server_dies_in_the_middle_of_a_switch(
    own_server: tuple[EmbeddedPostgres, Migration, Path], point: str
) -> None:
    """Before the open the application goes on at the sources at once, without the server; after it, when it is back."""
    server, migration, folder = own_server
    migration.follow()
    switch = migration.stopped_at(point, "cutover")
    _crash(server, folder)
    switch.send_signal(signal.SIGCONT)
    switch.wait(timeout=60)
    if point != "cutover.after_open":
        migration.until_written(within_s=30)
    server.start()
    migration.until_authority("target" if point == "cutover.after_open" else "source", within_s=60)
    migration.until_written(within_s=BY_ITSELF_S)
    if point != "cutover.after_open":
        migration.cutover()
    _back(migration)


@pytest.mark.soak
@pytest.mark.parametrize("point", ["rollback.closed", "rollback.drained", "rollback.returned"])
def test_the_server_dies_in_the_middle_of_a_rollback(
    own_server: tuple[EmbeddedPostgres, Migration, Path], point: str
) -> None:
    server, migration, folder = own_server
    migration.follow()
    migration.cutover()
    migration.until_written(within_s=10)
    rollback = migration.stopped_at(point, "rollback", "--reason", "server")
    _crash(server, folder)
    rollback.send_signal(signal.SIGCONT)
    rollback.wait(timeout=60)
    server.start()
    migration.until_authority("source", within_s=90)
    migration.until_written(within_s=BY_ITSELF_S)
    migration.judge()


@pytest.mark.soak
@pytest.mark.parametrize("toxic", ["blackhole", "reset", "latency"])
@pytest.mark.parametrize("point", ["cutover.fenced", "cutover.before_open", "rollback.closed"])
def test_the_network_to_the_server_goes(tmp_path: Path, database_url: str, point: str, toxic: str) -> None:
    """Only Tailrace's: the application still reaches both sides, which is when two writable ones would show."""
    proxy = Proxy(database_url)
    migration = Migration(tmp_path / "run", database_url, reached=proxy.url, more="")
    try:
        migration.follow()
        if point == "rollback.closed":
            migration.cutover()
            verb = migration.stopped_at(point, "rollback", "--reason", "network")
        else:
            verb = migration.stopped_at(point, "cutover")
        proxy.toxic = toxic
        verb.send_signal(signal.SIGCONT)
        time.sleep(LEASE_S + 3)
        proxy.heal()
        verb.wait(timeout=120)
        migration.until_written(within_s=60)
        migration.rollback(within_s=90)
        migration.until_written(within_s=30)
        migration.judge()
    finally:
        migration.close()
        proxy.close()


@pytest.mark.soak
def test_two_switches_and_a_rollback_at_once(migration: Migration) -> None:
    """One of them moves the row; the others are told so, and change nothing."""
    migration.follow()
    verbs = [migration.verb("cutover"), migration.verb("cutover"), migration.verb("rollback", "--reason", "at once")]
    for verb in verbs:
        verb.wait(timeout=120)
    migration.until_written(within_s=BY_ITSELF_S)
    if migration.row()["authority"] != "target":
        migration.cutover()
    verbs = [migration.verb("rollback", "--reason", "one"), migration.verb("rollback", "--reason", "two")]
    for verb in verbs:
        verb.wait(timeout=120)
    migration.until_authority("source", within_s=60)
    migration.until_written(within_s=BY_ITSELF_S)
    migration.judge()


@pytest.mark.soak
def test_what_would_touch_a_switched_migration_is_refused(migration: Migration) -> None:
    migration.follow()
    migration.cutover()
    for verb in (("pause",), ("resume",), ("reset", "cases", "--yes", "cases"), ("cutover",)):
        assert 3 == migration.run(*verb).returncode, verb
    migration.kill("capture")
    assert 3 == migration.run("uninstall", "--yes").returncode
    migration.start("capture")
    migration.until_written(within_s=10)
    _back(migration)
