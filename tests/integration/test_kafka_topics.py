"""Topics that an administrator made, or changed: what would lose data is refused by name, before and at the start."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path

import pytest

from cli.kafka import open_kafka
from cli.stream_checks import stream_checks, wanted_topics, way_back_fault
from ops.config import Config, TransportConfig
from ops.retry import with_retries
from schemas.change import Message, TopicPartition
from schemas.errors import Code, Failed, Refusal
from schemas.ports import TRANSPORT_CALLS, TopicSettings
from tests.fix_kafka import clear_topics, fresh_topics

TOPIC = "tailrace.app.t-case"


def _config(
    folder: Path, address: str, *, topics: str = "create", driver: str = "kafka-python", **client: str
) -> Config:
    made = sqlite3.connect(folder / "app.db")
    made.execute('CREATE TABLE IF NOT EXISTS "case" (id INTEGER PRIMARY KEY)')
    made.close()
    transport = TransportConfig("kafka", driver=driver, bootstrap_servers=address, topics=topics, client=dict(client))
    return Config({"app": "app.db"}, folder=str(folder), transport=transport)


def _refused(config: Config) -> dict[str, str]:
    return {one.name: one.text + one.hint for one in stream_checks(config) if one.verdict == "refused"}


def _topic(address: str, **configs: str) -> None:
    import kafka

    admin = kafka.KafkaAdminClient(bootstrap_servers=address)
    settings = {key.replace("_", "."): value for key, value in configs.items()}
    admin.create_topics({TOPIC: {"num_partitions": 1, "replication_factor": 1, "configs": settings}})
    admin.close()


def test_a_topic_that_forgets_is_refused(tmp_path: Path, kafka_address: str) -> None:
    clear_topics(kafka_address)
    config = _config(tmp_path, kafka_address)
    assert {} == _refused(config)
    _topic(kafka_address, cleanup_policy="delete", retention_ms="604800000", max_message_bytes="20000000")
    (text,) = [text for name, text in _refused(config).items() if name == f"topic {TOPIC}"]
    assert "retention.ms = 604800000" in text
    assert "kafka-configs.sh" in text
    transport = open_kafka(config)
    with pytest.raises(Refusal) as caught:
        transport.create_topics(wanted_topics(config))
    assert Code.TOPIC_MISMATCH == caught.value.code
    transport.close()


@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_what_is_too_small_is_raised_or_told_to_the_administrator(
    tmp_path: Path, kafka_address: str, driver: str
) -> None:
    """limits and the replay window were raised after the topics were made; what is larger already stays."""
    clear_topics(kafka_address)
    small = {"cleanup_policy": "compact", "max_message_bytes": "1000000", "min_compaction_lag_ms": "60000"}
    _topic(kafka_address, **small, delete_retention_ms="9999999999", retention_ms="-1")
    config = _config(tmp_path, kafka_address, driver=driver)
    wanted = {TOPIC: wanted_topics(config)[TOPIC]}
    given = open_kafka(_config(tmp_path, kafka_address, driver=driver, topics="existing"))
    with pytest.raises(Refusal) as caught:
        given.create_topics(wanted)
    assert "--add-config min.compaction.lag.ms=604800000" in str(caught.value.hint)
    given.close()
    checks = {(one.name, one.verdict) for one in stream_checks(config) if one.verdict != "ok"}
    assert {(f"topic {TOPIC}", "warning")} == checks
    said: list[tuple[str, str]] = []
    transport = open_kafka(config, say=lambda action, text: said.append((action, text)))
    transport.create_topics(wanted)
    transport.create_topics(wanted)
    transport.close()
    raised = "min.compaction.lag.ms = 604800000, max.message.bytes = 17825792"
    assert [("topic.raised", f"{TOPIC}: {raised}")] == said
    found = _configs(kafka_address)
    assert ("604800000", "17825792", "9999999999", "compact") == tuple(
        found[key] for key in ("min.compaction.lag.ms", "max.message.bytes", "delete.retention.ms", "cleanup.policy")
    )


@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_what_the_broker_will_not_raise_is_refused_with_both_reasons(
    tmp_path: Path, kafka_address: str, driver: str
) -> None:
    clear_topics(kafka_address)
    _topic(kafka_address, cleanup_policy="compact", min_compaction_lag_ms="604800000", delete_retention_ms="604800000")
    transport = open_kafka(_config(tmp_path, kafka_address, driver=driver))
    with pytest.raises(Refusal) as caught:
        transport.create_topics({TOPIC: TopicSettings(max_message_bytes=1 << 31)})
    assert "raising it here failed" in caught.value.message
    assert "--add-config max.message.bytes=" in str(caught.value.hint)
    transport.close()


def _configs(address: str) -> dict[str, str]:
    import kafka
    from kafka.admin import ConfigResource, ConfigResourceType

    admin = kafka.KafkaAdminClient(bootstrap_servers=address)
    found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, TOPIC)], config_filter="all")
    admin.close()
    return {key: str(one["value"]) for key, one in found["topic"][TOPIC].items()}


def test_a_topic_that_an_administrator_must_make_is_named(tmp_path: Path, kafka_address: str) -> None:
    clear_topics(kafka_address)
    config = _config(tmp_path, kafka_address, topics="existing")
    assert {f"topic {name}" for name in wanted_topics(config)} == set(_refused(config))
    assert "--partitions 1" in _refused(config)[f"topic {TOPIC}"]
    transport = open_kafka(config)
    with pytest.raises(Failed) as caught:
        transport.create_topics(wanted_topics(config))
    assert (Code.TOPIC_MISSING, {}) == (caught.value.code, transport.topics("tailrace"))
    transport.close()
    creating = open_kafka(_config(tmp_path, kafka_address))
    creating.create_topics(wanted_topics(config))
    creating.close()
    assert {} == _refused(config)


def test_topics_of_the_way_back_that_nobody_made_block_a_cutover(tmp_path: Path, kafka_address: str) -> None:
    """Missing ones are made at the switch, but not an administrator's: writes had moved, and there was no way back."""
    clear_topics(kafka_address)
    assert ("", "") == way_back_fault(_config(tmp_path, kafka_address))
    config = _config(tmp_path, kafka_address, topics="existing")
    creating = open_kafka(_config(tmp_path, kafka_address))
    creating.create_topics(wanted_topics(config))
    fault, step = way_back_fault(config)
    assert "tailrace-back.app.watermarks: does not exist" in fault
    assert "--topic tailrace-back.app.t-case " in step
    creating.create_topics(wanted_topics(config, "tailrace-back"))
    creating.close()
    assert ("", "") == way_back_fault(config)
    away = _config(tmp_path, "127.0.0.1:9")
    assert all(way_back_fault(away))


def test_check_tells_what_no_daemon_could_do(tmp_path: Path, kafka_address: str) -> None:
    unknown = _refused(_config(tmp_path, kafka_address, sasl_plain_pasword="hunter2"))
    assert "sasl_plain_pasword is no setting" in unknown["stream connects"]
    assert "hunter2" not in unknown["stream connects"]
    assert "plain text" in _refused(_config(tmp_path, "kafka.internal:9092"))["stream connects"]


@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_what_was_fetched_ahead_of_a_topic_made_again_is_not_served(kafka_address: str, driver: str) -> None:
    """Both clients hold on to what they fetched, and would go on with it at the same offset."""
    transport = with_retries(fresh_topics(kafka_address, driver=driver), TRANSPORT_CALLS, for_s=20.0)
    where = TopicPartition("again", 0)
    for generation in (b"old", b"new"):
        transport.create_topics({"again": TopicSettings()})
        transport.send([Message("again", b"k%d" % at, generation) for at in range(8)])
        if generation == b"old":
            assert [b"old"] * 4 == [one.value for one in transport.fetch({where: (0, 4)}).messages]
            clear_topics(kafka_address)
    assert [b"new"] * 4 == [one.value for one in transport.fetch({where: (4, 8)}).messages]
    transport.close()


@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_who_names_the_id_of_a_topic_made_again_reads_that_one(kafka_address: str, driver: str) -> None:
    """The sink names ids, so that nothing is looked up before what was fetched ahead is served."""
    transport = with_retries(fresh_topics(kafka_address, driver=driver), TRANSPORT_CALLS, for_s=20.0)
    where = TopicPartition("named", 0)
    seen = []
    for generation in (b"old", b"new"):
        transport.create_topics({"named": TopicSettings()})
        transport.send([Message("named", b"k%d" % at, generation) for at in range(8)])
        ids = transport.topic_ids(["named"])
        ranged = [one.value for at in (0, 4) for one in transport.fetch({where: (at, at + 4)}, ids=ids).messages]
        at, followed = 0, list[bytes | None]()
        deadline = time.monotonic() + 30
        while at < 8 and time.monotonic() < deadline:
            fetched = transport.fetch({where: (at, None)}, ids=ids, timeout_s=0.1)
            at = fetched.next[where]
            followed += [one.value for one in fetched.messages]
        seen.append((ranged, followed))
        if generation == b"old":
            clear_topics(kafka_address)
    transport.close()
    assert [([b"old"] * 8, [b"old"] * 8), ([b"new"] * 8, [b"new"] * 8)] == seen
