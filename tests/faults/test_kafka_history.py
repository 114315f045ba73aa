"""An older copy of a file in its place while the stream lies in a broker: the short road of `reset --accept-history` touches
what was published since, as over the local log (tests/faults/test_history.py), with both drivers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults import test_history as history
from tests.fix_kafka import clear_topics
from tests.fix_pipeline import Pipeline


@pytest.fixture(params=["kafka-python", "confluent"])
def streamed(
    request: pytest.FixtureRequest, tmp_path: Path, database_url: str, kafka_address: str
) -> Iterator[Pipeline]:
    clear_topics(kafka_address)
    made = Pipeline(tmp_path / "run", database_url, kafka=kafka_address, driver=request.param)
    yield made
    made.close()


@pytest.mark.soak
@pytest.mark.parametrize(
    "told",
    [
        history.test_older_copy_restored,
        history.test_two_older_copies_one_after_the_other,
        history.test_older_copy_restored_and_written_past_the_known_position,
    ],
)
def test_the_short_road_through_a_broker(
    streamed: Pipeline, tmp_path: Path, told: Callable[[Pipeline, Path], None]
) -> None:
    told(streamed, tmp_path)
