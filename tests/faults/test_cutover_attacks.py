"""An operator, or whoever means harm, at the verbs of the switch: two at once, signals, other configurations, daemons that are
started anew or dead meanwhile, an application in rollback-journal mode; the same oracle as in the matrix."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fix_cutover import LEASE_S, Migration

pytestmark = pytest.mark.timeout(900)
BY_ITSELF_S = LEASE_S + 90


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Iterator[Migration]:
    made = Migration(tmp_path / "run", database_url)
    yield made
    made.close()


def _back(migration: Migration) -> None:
    migration.until_written(within_s=60)
    migration.rollback()
    migration.until_written(within_s=60)
    migration.judge()


@pytest.mark.parametrize(
    ("number", "point"),
    [
        (signal.SIGTERM, "cutover.fenced"),
        *(
            pytest.param(signal.SIGINT, point, marks=pytest.mark.soak)
            for point in ("cutover.claimed", "cutover.drained")
        ),
        pytest.param(signal.SIGTERM, "cutover.mid_open", marks=pytest.mark.soak),
        pytest.param(signal.SIGHUP, "cutover.before_open", marks=pytest.mark.soak),
        pytest.param(signal.SIGTERM, "rollback.closed", marks=pytest.mark.soak),
        pytest.param(signal.SIGINT, "rollback.drained", marks=pytest.mark.soak),
    ],
)
def test_a_signal_between_fence_and_open_is_deferred(migration: Migration, number: int, point: str) -> None:
    """It ends the verb when writes have arrived somewhere, not while they belong nowhere."""
    migration.follow()
    if point.startswith("rollback"):
        migration.cutover()
        migration.until_written(within_s=60)
        verb = migration.stopped_at(point, "rollback", "--reason", "signal")
    else:
        verb = migration.stopped_at(point, "cutover")
    verb.send_signal(number)
    verb.send_signal(signal.SIGCONT)
    code = verb.wait(timeout=120)
    assert code >= 0, "the signal ended it in the middle"
    if code == 0:
        assert ("source" if point.startswith("rollback") else "target") == migration.row()["authority"]
    migration.until_written(within_s=BY_ITSELF_S)
    if migration.row()["authority"] == "source":
        migration.judge() if point.startswith("rollback") else (migration.cutover(), _back(migration))
    else:
        _back(migration)


@pytest.mark.soak
def test_two_interrupts_leave_it_to_the_steward(migration: Migration) -> None:
    migration.follow()
    verb = migration.stopped_at("cutover.draining", "cutover")
    migration.processes["sink"].send_signal(signal.SIGSTOP)  # or the drain would be over before the second one
    verb.send_signal(signal.SIGCONT)
    for _ in range(2):
        verb.send_signal(signal.SIGINT)
        time.sleep(1)
    assert 0 != verb.wait(timeout=60)
    migration.processes["sink"].send_signal(signal.SIGCONT)
    migration.until_authority("source", within_s=BY_ITSELF_S)
    migration.until_written(within_s=BY_ITSELF_S)
    migration.cutover()
    _back(migration)


def test_a_configuration_that_leaves_a_source_out_moves_nothing(migration: Migration) -> None:
    """Its tables would open on the target beside a file that nobody fenced; a rollback would leave its changes behind."""
    migration.follow()
    whole = migration.config_path.read_text()
    part = "\n".join(line for line in whole.splitlines() if not line.startswith("auth = "))
    other = migration.folder / "part.toml"
    other.write_text(part + "\n")
    config, migration.config_path = migration.config_path, other
    for verb in (("cutover", "--waive", "backup cases"), ("cutover", "--practise")):
        refused = migration.run(*verb)
        assert (3, True) == (refused.returncode, "leaves out auth" in refused.stderr), refused.stderr
    migration.config_path = config
    assert 0 == migration.row()["token"]
    migration.cutover()
    migration.until_written(within_s=60)
    migration.config_path = other
    refused = migration.run("rollback", "--reason", "with half of it")
    assert (3, True) == (refused.returncode, "leaves out auth" in refused.stderr), refused.stderr
    assert "target" == migration.row()["authority"]
    migration.config_path = config
    _back(migration)


@pytest.mark.soak
def test_another_lease_between_two_commands(migration: Migration) -> None:
    """The steward judges a lease by what the row says, whatever its own configuration is."""
    migration.follow()
    migration.reconfigure(lease_s=60.0)
    migration.killed_at("cutover.fenced", "cutover")
    migration.reconfigure(lease_s=LEASE_S)
    assert 0 == migration.run("rollback", "--reason", "nobody waits a minute").returncode
    migration.until_written(within_s=BY_ITSELF_S)
    migration.cutover()
    _back(migration)


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
    migration.until_authority("source", within_s=BY_ITSELF_S)
    migration.until_written(within_s=BY_ITSELF_S)
    migration.judge()


@pytest.mark.soak
def test_a_switch_while_up_is_started_anew(migration: Migration) -> None:
    migration.follow(up=True)
    verb = migration.verb("cutover")
    time.sleep(0.5)
    migration.processes["up"].send_signal(signal.SIGTERM)
    migration.processes["up"].wait(timeout=60)
    migration.start_up()
    code = verb.wait(timeout=120)
    migration.until(lambda: migration.row()["authority"] in ("source", "target"), timeout_s=BY_ITSELF_S)
    assert code or migration.row()["authority"] == "target"
    migration.until_written(within_s=BY_ITSELF_S)
    if migration.row()["authority"] == "source":
        migration.cutover()
    _back(migration)


@pytest.mark.soak
def test_a_rollback_with_the_daemon_of_the_way_back_dead(migration: Migration) -> None:
    """Refused before anything is closed; the application works on."""
    migration.follow()
    migration.cutover()
    migration.kill("sink")
    refused = migration.run("rollback", "--reason", "dead")
    assert 1 == refused.returncode, refused.stderr
    assert "nothing was closed" in refused.stderr
    assert "target" == migration.row()["authority"]
    migration.until_written(within_s=10)
    migration.start("sink")
    _back(migration)


@pytest.mark.soak
def test_an_application_in_rollback_journal_mode(tmp_path: Path, database_url: str) -> None:
    """Every reader blocks its writers, and the other way round: the fence, the way back and the lift get through."""
    migration = Migration(tmp_path / "run", database_url, journal="delete")
    try:
        migration.follow()
        for _ in range(2):
            migration.cutover()
            migration.until_written(within_s=60)
            migration.rollback()
            migration.until_written(within_s=60)
        migration.judge()
    finally:
        migration.close()


@pytest.mark.soak
def test_what_would_touch_a_switched_migration_is_refused(migration: Migration) -> None:
    migration.follow()
    migration.cutover()
    for verb in (("pause",), ("resume",), ("reset", "cases", "--yes", "cases"), ("cutover",)):
        assert 3 == migration.run(*verb).returncode, verb
    migration.kill("capture")
    assert 3 == migration.run("uninstall", "--yes").returncode
    migration.start("capture")
    _back(migration)
