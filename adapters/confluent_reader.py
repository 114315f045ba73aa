"""Do: one consumer of confluent-kafka (librdkafka), which fetches ahead in threads of its own.

Invariant: partitions come and go one by one: assign() would throw away what is fetched ahead of all the others.
Trap: consume(n) waits for n messages: what is asked for is what is known to be there, and ends of partitions are events
(test_fetch_stops_at_its_bounds_and_says_where_to_go_on).
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from typing import Any, Protocol

import confluent_kafka as ck

from adapters.confluent_errors import translate
from adapters.kafka_driver import Polled
from schemas.change import Stored, TopicPartition
from schemas.errors import TailraceError

_E = ck.KafkaError
METADATA_S = 1.0


class Saying(Protocol):
    """The driver whose consumer it is: it hears why librdkafka cannot connect."""

    def translated(self) -> AbstractContextManager[None]: ...

    def refuse_why(self) -> None: ...


class ConfluentReader:
    """Implements kafka_driver.Reader. Ends of partitions are events that say where reading stands."""

    def __init__(self, consumer: Any, driver: Saying) -> None:
        self._consumer = consumer
        self._driver = driver
        self._stands: dict[TopicPartition, int] = {}
        self._known: set[str] = set()
        self.open = True

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        with self._driver.translated():
            # Assigned before its leader is known, a partition is read up to a second late (measured). Where the broker does
            # not answer, it is that wait again, and the poll tells why.
            for topic in {where.topic for where in places} - self._known:
                with contextlib.suppress(ck.KafkaException):
                    self._consumer.list_topics(topic, timeout=METADATA_S)
                    self._known.add(topic)
            self._consumer.incremental_assign([ck.TopicPartition(*where, at) for where, at in places.items()])
        self._stands |= places

    def leave(self, parts: Collection[TopicPartition]) -> None:
        for where in parts:
            self._stands.pop(where, None)
        with self._driver.translated():
            self._consumer.incremental_unassign([ck.TopicPartition(*where) for where in parts])

    def poll(self, *, max_messages: int, timeout_s: float) -> Polled:
        found: dict[TopicPartition, list[Stored]] = {}
        lost: dict[TopicPartition, TailraceError] = {}
        with self._driver.translated():
            for one in self._consumer.consume(max_messages, timeout_s):
                where = TopicPartition(one.topic(), one.partition())
                error = one.error()
                if error is None:
                    found.setdefault(where, []).append(_stored(one))
                    self._stands[where] = one.offset() + 1
                elif error.code() == _E._PARTITION_EOF:
                    self._stands[where] = max(self._stands.get(where, 0), one.offset())
                elif where in self._stands:
                    lost[where] = translate(error, None)
                else:
                    raise ck.KafkaException(error)
            if not found and not lost:
                self._driver.refuse_why()
        return Polled(found, lost)

    def stands(self, where: TopicPartition) -> int:
        return self._stands.get(where, 0)

    def close(self) -> None:
        if self.open:
            self.open = False
            with contextlib.suppress(RuntimeError, ck.KafkaException):
                self._consumer.close()


def _stored(one: Any) -> Stored:
    headers = tuple((name, value) for name, value in one.headers() or ())
    return Stored(one.topic(), one.partition(), one.offset(), one.timestamp()[1], one.key(), one.value(), headers)
