"""What a consumer of confluent-kafka is asked, and in which order."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import confluent_kafka as ck

from adapters.confluent_reader import ConfluentReader
from schemas.change import TopicPartition

CASES, USERS = TopicPartition("cases", 0), TopicPartition("users", 0)


class _Consumer:
    def __init__(self) -> None:
        self.asked: list[tuple[str, ...]] = []
        self.away = False

    def list_topics(self, topic: str, timeout: float) -> None:
        assert timeout <= 1.0
        self.asked.append(("leader", topic))
        if self.away:
            raise ck.KafkaException(ck.KafkaError(ck.KafkaError._TRANSPORT))

    def incremental_assign(self, parts: list[Any]) -> None:
        self.asked += [("assign", one.topic) for one in parts]


class _Driver:
    def translated(self) -> nullcontext[None]:
        return nullcontext()

    def refuse_why(self) -> None:
        return None


def test_a_partition_is_assigned_once_its_leader_is_known() -> None:
    """Regression: the first read of a topic waited up to a second for librdkafka's next try."""
    consumer = _Consumer()
    reader = ConfluentReader(consumer, _Driver())
    reader.seek({CASES: 0})
    reader.seek({CASES: 5, USERS: 0})
    assert [("leader", "cases"), ("assign", "cases"), ("leader", "users")] == consumer.asked[:3]
    assert sorted([("assign", "cases"), ("assign", "users")]) == sorted(consumer.asked[3:])


def test_a_broker_that_is_away_is_told_by_the_poll_and_asked_again() -> None:
    consumer = _Consumer()
    reader = ConfluentReader(consumer, _Driver())
    consumer.away = True
    reader.seek({CASES: 0})
    assert [("leader", "cases"), ("assign", "cases")] == consumer.asked
    consumer.away = False
    reader.seek({CASES: 0})
    assert [("leader", "cases"), ("assign", "cases")] == consumer.asked[2:]
