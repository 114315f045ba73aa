"""The fault matrix of the cutover (tests/faults/matrix.py): real daemons and verbs, writers that know nothing of Tailrace, and
in every cell 0 lost, 0 doubled, never two writable sides, a state with a name, and the next command works."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.authority import Phase
from tests.faults.fix_cutover import LEASE_S, Migration
from tests.faults.fix_world import World
from tests.faults.matrix import DAEMON_POINTS, IN_MAKE_TEST, NOT_APPLICABLE, POINTS, VERB, At, Cell, Fault, cells

BY_ITSELF_S = LEASE_S + 90
"""The lease, the steward's round, the reconnections, and a loaded machine."""


def _marked(cell: Cell) -> object:
    marks = [] if cell.in_make_test else [pytest.mark.soak]
    return pytest.param(cell, id=cell.name, marks=[*marks, pytest.mark.slow, pytest.mark.timeout(900)])


def test_every_pair_has_a_cell_or_a_reason() -> None:
    pairs = {(at, fault) for at in At for fault in Fault}
    tested = {(cell.at, cell.fault) for cell in cells()}
    assert pairs == tested | set(NOT_APPLICABLE)
    assert set() == tested & set(NOT_APPLICABLE)
    assert all(NOT_APPLICABLE.values())
    assert IN_MAKE_TEST == {(one.at, one.fault, one.point) for one in cells() if one.in_make_test}
    # Every named point of a verb is struck by both faults of the verb, every point of a daemon by its own.
    struck = {(cell.at, cell.fault, cell.point) for cell in cells()}
    assert {(at, fault, point) for at, points in POINTS.items() for point in points for fault in VERB} <= struck
    assert {(at, fault, point) for (at, fault), points in DAEMON_POINTS.items() for point in points} <= struck


@pytest.mark.parametrize("cell", [_marked(cell) for cell in cells()])
def test_cell(cell: Cell, tmp_path: Path, database_url: str) -> None:
    world = World(tmp_path, cell, database_url)
    try:
        verb = world.arrive()
        if cell.at is At.SHIFT:
            world.through_the_steps()
        else:
            world.strike()
            world.lasts()
            world.ends()
        code = None if verb is None else verb.wait(timeout=180)
        migration = world.migration
        _ends_with_a_name(migration, cell)
        authority = migration.row()["authority"]
        if code == 0:
            wanted = {At.ROLLBACK: "source", At.COMPLETE: "completed"}.get(cell.at, "target")
            assert wanted == authority, migration.story()
        if cell.at is At.COPY:
            migration.prove()
            migration.admit()
        migration.until_written(within_s=BY_ITSELF_S)
        _next_commands(migration, authority)
        if world.valkey is not None:
            migration.until(world.distributed, timeout_s=BY_ITSELF_S)
        migration.judge()
        assert {None} == {process.poll() for process in migration.processes.values()}, migration.story()
    finally:
        world.close()


def _ends_with_a_name(migration: Migration, cell: Cell) -> None:
    """By itself, and once more when it is asked a second time: a state that lasts."""

    def settled() -> bool:
        document = migration.status()
        named = document["phase"] in set(Phase) and document["authority"] in cell.ends
        return named and bool(
            document["next_steps"] or document["phase"] in (Phase.COMPLETED, Phase.FOLLOWING, Phase.SHIFTING)
        )

    try:
        migration.until(settled, timeout_s=BY_ITSELF_S)
    except AssertionError:
        pytest.fail(f"not settled in {set(cell.ends)}: {migration.status()}\n{migration.story()}")


def _next_commands(migration: Migration, authority: str) -> None:
    if authority == "completed":
        assert 3 == migration.run("cutover").returncode
        assert 3 == migration.run("rollback", "--reason", "late").returncode
        assert "uninstall" in migration.run("complete", "--yes", "COMPLETE").stderr
        return
    if authority == "source":
        migration.cutover()
        migration.until_written(within_s=60)
    migration.rollback()
    migration.until_written(within_s=60)
