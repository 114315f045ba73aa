"""The whole path over a real broker, with capture, snapshot and sink as three processes."""

from __future__ import annotations

from pathlib import Path

from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import Pipeline


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
