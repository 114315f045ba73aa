"""The whole path under a random workload: the target equals the source whenever it says it is consistent.

`TAILRACE_MODEL_RUNS` sets the number of seeded runs (default 300; the soak runs 5,000)."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from schemas.bookkeeping import statements
from schemas.ports import Transport
from tests.fix_postgres import _database
from tests.model.application import ApplicationProcess
from tests.model.world import World

RUNS = int(os.environ.get("TAILRACE_MODEL_RUNS", "300"))
BATCH = 25
HAPPENINGS = 160


@pytest.fixture(scope="module")
def model_url(postgres_url: str) -> Iterator[str]:
    for url in _database(postgres_url):
        target = Postgres(url, application_name="model")
        for statement in statements():
            target.run(statement)
        target.close()
        yield url


@pytest.fixture(scope="module")
def newest() -> Iterator[ApplicationProcess]:
    made = ApplicationProcess()
    yield made
    made.close()


def one_run(
    folder: Path,
    url: str,
    seed: int,
    application: ApplicationProcess | None = None,
    stream: Transport | None = None,
    *,
    happenings: int = HAPPENINGS,
    replays: bool = False,
    told: Callable[[World], None] = lambda world: None,
) -> int:
    """Run one seed; returns how often the target was compared."""
    world = World(folder, url, seed, application, stream, replays=replays)
    try:
        for _ in range(happenings):
            world.happen()
        world.settle()
        told(world)
        return world.checked
    finally:
        world.close()


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("first", range(0, RUNS, BATCH))
def test_target_equals_source_whenever_it_says_consistent(
    tmp_path: Path,
    model_url: str,
    newest: ApplicationProcess,
    first: int,
    record_property: Callable[[str, object], None],
) -> None:
    """Two seeds of four: the application writes through the newest SQLite, from a process of its own. One of three: the sink
    is set back to checkpoints of any time."""
    seeds = range(first, min(first + BATCH, RUNS))
    replayed: list[int] = []
    checked = sum(
        one_run(
            tmp_path,
            model_url,
            seed,
            newest if seed % 4 >= 2 else None,
            replays=seed % 3 == 2,
            told=lambda world: replayed.append(world.replayed),
        )
        for seed in seeds
    )
    record_property("compared", checked)
    record_property("replayed", sum(replayed))
    assert checked >= len(seeds)
    assert sum(replayed) >= len(seeds) // 3
