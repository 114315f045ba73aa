"""Topics of a broker that somebody deletes, makes again, cuts or sets otherwise, under live writers: refused by name with the
next command, and after it nothing is lost and nothing is applied twice."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from schemas.change import Message
from schemas.errors import Code
from schemas.ports import TopicSettings
from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import Pipeline

LEDGER, NOTICES, SCHEMAS = "tailrace.cases.t-ledger", "tailrace.cases.notices", "tailrace.schemas"


@pytest.fixture
def streamed(tmp_path: Path, database_url: str, kafka_address: str) -> Iterator[tuple[Pipeline, Any]]:
    """A pipeline that follows, and a client of its broker."""
    stream = fresh_topics(kafka_address)
    pipeline = Pipeline(tmp_path / "run", database_url, kafka=kafka_address)
    try:
        pipeline.install()
        pipeline.start()
        pipeline.write(seconds=2)
        pipeline.end_writers()
        pipeline.settle()
        yield pipeline, stream
    finally:
        pipeline.close()
        stream.close()


def _admin(address: str) -> Any:
    import kafka

    return kafka.KafkaAdminClient(bootstrap_servers=address)


def _made_again(stream: Any, address: str, topic: str, *, filled: int = 0) -> None:
    before = stream.topic_ids([topic])[topic]
    partitions = stream.topics(topic)[topic]
    admin = _admin(address)
    admin.delete_topics([topic])
    admin.close()
    fresh = fresh_transport(address)
    try:
        for _ in range(200):
            try:
                fresh.create_topics({topic: TopicSettings(partitions=partitions, compacted=topic != SCHEMAS)})
                if fresh.topic_ids([topic]).get(topic, before) != before:
                    break
            except Exception:  # noqa: BLE001 - the deletion is still under way
                continue
        else:
            pytest.fail(f"{topic} was not made again")
        for part in range(partitions):
            fresh.send([Message(topic, b"%d" % at, None, (("seq", b"1"),), part) for at in range(filled)])
    finally:
        fresh.close()


def fresh_transport(address: str) -> Any:
    from adapters.kafka import PythonDriver
    from adapters.kafka_transport import KafkaTransport

    return KafkaTransport(lambda: PythonDriver(address, {}))


def _refused(pipeline: Pipeline, *roles: str) -> None:
    for role in roles:
        assert 3 == pipeline.processes[role].wait(timeout=90), pipeline.story()
        assert str(Code.STREAM_REWOUND) in (pipeline.folder / f"{role}.stderr").read_text()
        assert "tailrace reset" in (pipeline.folder / f"{role}.stderr").read_text()


def _mended(pipeline: Pipeline, *sources: str) -> None:
    for name in sources:
        done = pipeline.run("reset", name, "--yes", name)
        assert 0 == done.returncode, done.stderr
    for role in ("capture", "sink", "snapshot"):
        if pipeline.processes[role].poll() is None:
            pipeline.kill(role)
    pipeline.start()
    pipeline.write(seconds=2, seed=9)
    pipeline.end_writers()
    pipeline.settle(timeout_s=120)
    assert all(report.clean for report in pipeline.verify())


@pytest.mark.parametrize("filled", [0, 3000], ids=["empty", "outgrown"])
def test_a_topic_made_again_is_refused_and_a_reset_mends_it(
    streamed: tuple[Pipeline, Any], kafka_address: str, filled: int
) -> None:
    pipeline, stream = streamed
    pipeline.write(seconds=4, seed=5)
    _made_again(stream, kafka_address, LEDGER, filled=filled)
    pipeline.end_writers()
    _refused(pipeline, "capture", "sink")
    _mended(pipeline, "cases")


def test_schemas_made_again_are_refused_by_all_and_a_reset_mends_it(
    streamed: tuple[Pipeline, Any], kafka_address: str
) -> None:
    pipeline, stream = streamed
    _made_again(stream, kafka_address, SCHEMAS)
    _refused(pipeline, "capture", "sink")
    _mended(pipeline, *pipeline.config.source_databases)


@pytest.mark.soak
def test_schemas_made_again_between_two_starts_are_refused_by_all_and_a_reset_mends_it(
    streamed: tuple[Pipeline, Any], kafka_address: str
) -> None:
    """Nobody saw it happen: the ids that the last watermark and the progress name tell it."""
    pipeline, stream = streamed
    for role in ("capture", "sink", "snapshot"):
        pipeline.kill(role)
    _made_again(stream, kafka_address, SCHEMAS)
    pipeline.start()
    _refused(pipeline, "capture", "sink")
    _mended(pipeline, *pipeline.config.source_databases)


def test_watermarks_made_again_are_written_again(streamed: tuple[Pipeline, Any], kafka_address: str) -> None:
    pipeline, stream = streamed
    pipeline.write(seconds=4, seed=5)
    _made_again(stream, kafka_address, "tailrace.cases.watermarks")
    pipeline.end_writers()
    pipeline.settle(timeout_s=120)
    assert all(report.clean for report in pipeline.verify())


def test_records_that_retention_took_before_they_were_read_are_refused(
    streamed: tuple[Pipeline, Any], kafka_address: str
) -> None:
    """Never stepped over: the sink's offset lies below what the topic still holds."""
    import kafka

    pipeline, stream = streamed
    pipeline.kill("sink")
    pipeline.write(seconds=3, seed=5)
    pipeline.end_writers()
    ends = stream.ends([LEDGER])[LEDGER]
    admin = _admin(kafka_address)
    admin.alter_configs([kafka.admin.ConfigResource("topic", LEDGER, {"cleanup.policy": "delete"})])
    admin.delete_records({kafka.TopicPartition(LEDGER, part): end for part, end in ends.items()})
    admin.close()
    pipeline.start("sink")
    _refused(pipeline, "sink")
    _mended(pipeline, "cases")
