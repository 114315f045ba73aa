"""Sinks of one group in real processes: they share the sources, one is killed or stopped, another takes over."""

from __future__ import annotations

import os
import signal

import pytest

from adapters.postgres import Postgres
from sink.progress import lock_key
from tests.fix_pipeline import Pipeline

TIMEOUT_S = 3.0
SLACK_S = 20.0
"""A loaded machine may start a process slowly; nothing here is decided by a clock of the test."""


class Group:
    """The pipeline with several sinks, and who owns what as the server sees it."""

    def __init__(self, pipeline: Pipeline) -> None:
        text = pipeline.config_path.read_text()
        more = f"sink_group = true\nsession_timeout_s = {TIMEOUT_S}\n"
        pipeline.config_path.write_text(more + text)
        self.pipeline = pipeline
        self.sources = list(pipeline.config.source_databases)
        self.target = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="test")

    def owners(self) -> dict[str, tuple[str, int]]:
        """source -> (owner in the progress, pid of the server process that holds its lock)."""
        rows = self.target.rows(
            "SELECT ((classid::bigint << 32) | objid::bigint), pid FROM pg_locks WHERE locktype = 'advisory' AND granted"
        )
        holders = dict(rows)
        owners = dict(self.target.rows("SELECT source, split_part(owner, '-', 1) FROM tailrace.progress"))
        return {
            source: (owners[source], holders[lock_key(source)])
            for source in self.sources
            if source in owners and lock_key(source) in holders
        }

    def of(self, name: str) -> set[str]:
        """Sources that the process of this name owns."""
        pid = str(self.pipeline.processes[name].pid)
        return {source for source, (owner, _) in self.owners().items() if owner == pid}

    def until_owned_by(self, *names: str) -> None:
        """Every source has one owner among these, and none of them has less than another by more than one."""

        def shared() -> bool:
            counts = [len(self.of(name)) for name in names]
            return len(self.sources) == sum(counts) and max(counts) - min(counts) <= 1

        self.pipeline.until(shared, timeout_s=TIMEOUT_S + SLACK_S)


def test_two_members_share_one_is_killed_and_the_third_takes_over(pipeline: Pipeline) -> None:
    group = Group(pipeline)
    pipeline.install()
    pipeline.start("capture", "snapshot")
    pipeline.start_as("one", "sink")
    group.until_owned_by("one")
    pipeline.write(seconds=5, rate=60)
    pipeline.start_as("two", "sink")
    group.until_owned_by("one", "two")
    pipeline.start_as("three", "sink")
    pipeline.until(lambda: "sink.standby" in (pipeline.folder / "migration.log").read_text())
    had = group.of("one")
    assert 1 == len(had)
    pipeline.kill("one")
    group.until_owned_by("two", "three")
    assert had == group.of("three")
    pipeline.end_writers()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    log = (pipeline.folder / "migration.log").read_text()
    assert 1 == log.count("sink.standby")
    assert "" == pipeline.errors()
    group.target.close()


def test_a_stopped_member_loses_its_sources_and_writes_nothing_when_it_wakes(pipeline: Pipeline) -> None:
    group = Group(pipeline)
    pipeline.install()
    pipeline.start("capture", "snapshot")
    pipeline.start_as("one", "sink")
    pipeline.start_as("two", "sink")
    group.until_owned_by("one", "two")
    pipeline.settle()
    (had,) = group.of("one")
    session = group.owners()[had][1]
    pipeline.write(seconds=4, rate=60)
    pipeline.processes["one"].send_signal(signal.SIGSTOP)
    pipeline.until(lambda: had in group.of("two"), timeout_s=TIMEOUT_S + SLACK_S)
    gone = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    pipeline.until(lambda: [(0,)] == group.target.rows(gone, (session,)))
    pipeline.end_writers()
    pipeline.settle()
    owner = group.owners()[had]
    pipeline.processes["one"].send_signal(signal.SIGCONT)
    # It joins again, and the share of a member comes back to it between two cuts; until then nothing moves.
    group.until_owned_by("one", "two")
    assert 1 == sum(
        "sink.session_lost" in line for line in (pipeline.folder / "migration.log").read_text().splitlines()
    )
    assert owner[0] == str(pipeline.processes["two"].pid)
    pipeline.write(seconds=1, rate=60, seed=9)
    pipeline.end_writers()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    group.target.close()


@pytest.mark.soak
def test_a_member_stopped_in_the_middle_of_an_apply_wakes_up_too_late(pipeline: Pipeline) -> None:
    """Its transaction is open when it stops: the server ends it, and what it wanted to commit is applied by the other."""
    group = Group(pipeline)
    pipeline.install()
    pipeline.start("capture", "snapshot")
    pipeline.start_as("one", "sink", at="sink.before_commit=pause:6")
    pipeline.until(lambda: group.of("one") != set())
    pipeline.write(seconds=5, rate=60)
    stopped = pipeline.processes["one"].pid
    pipeline.until(lambda: _state(stopped) == "T")
    pipeline.start_as("two", "sink")
    group.until_owned_by("two")
    pipeline.end_writers()
    pipeline.settle()
    before = group.target.rows("SELECT source, applied, owner FROM tailrace.progress ORDER BY source")
    os.kill(stopped, signal.SIGCONT)
    group.until_owned_by("one", "two")
    after = group.target.rows("SELECT source, applied, owner FROM tailrace.progress ORDER BY source")
    assert [row[:2] for row in before] == [row[:2] for row in after]
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    group.target.close()


def test_a_second_copy_stands_by_and_takes_over(pipeline: Pipeline) -> None:
    """Two of them would read the same rows, and quarantine each other's as duplicates."""
    pipeline.install()
    pipeline.start("capture", "sink")
    pipeline.start_as("first", "snapshot", at="snapshot.mid_chunk=pause:2")
    first = pipeline.processes["first"].pid
    pipeline.until(lambda: _state(first) == "T")
    pipeline.start_as("second", "snapshot")
    pipeline.until(lambda: "snapshot.standby" in (pipeline.folder / "migration.log").read_text())
    pipeline.kill("first")
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    target = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="test")
    assert [(0,)] == target.rows("SELECT count(*) FROM tailrace.quarantine")
    target.close()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:  # noqa: PTH123
        return file.read().rpartition(")")[2].split()[0]
