"""The whole path over a real broker, with capture, snapshot and sink as three processes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import Pipeline


@pytest.mark.soak  # in every run: the same path by the README's daemons, and the same kills at named points
def test_everything_arrives_through_a_broker(tmp_path: Path, database_url: str, kafka_address: str) -> None:
    fresh_topics(kafka_address).close()
    pipeline = Pipeline(tmp_path / "run", database_url, kafka=kafka_address)
    try:
        pipeline.install()
        pipeline.write(seconds=4)
        pipeline.start()
        pipeline.end_writers()
        pipeline.settle()
        assert all(report.clean for report in pipeline.verify())
        pipeline.kill("capture")
        pipeline.kill("sink")
        pipeline.write(seconds=2, seed=4)
        pipeline.end_writers()
        pipeline.start("capture", "sink")
        pipeline.settle()
        assert all(report.clean for report in pipeline.verify())
    finally:
        pipeline.close()
