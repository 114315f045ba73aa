"""Do: topics of a Kafka broker, behind the same port as the embedded log; the only importer of kafka-python.

Invariant: `send` returns when every message is acknowledged by all in-sync replicas; after an error any prefix may be
there. What is fetched depends on the arguments alone: no consumer group decides, its offsets are for lag tools only.
Trap: the broker limits a *batch*, not a message, so that topics get room for a whole batch above the limit of a message
(test_too_large_sends_nothing).
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import kafka
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType

from adapters.kafka_errors import missing, translate
from schemas.change import Fetched, Message, Stored, TopicPartition
from schemas.errors import Code, Failed, Refusal, Transient
from schemas.partition import partition_of
from schemas.ports import TopicSettings

BATCH_BYTES = 512 * 1024
BATCH_ROOM_BYTES = 1024 * 1024
"""What a topic's max.message.bytes has above the largest message: a batch and its headers."""
DELIVERY_MS = 30_000
REQUEST_MS = 10_000
FETCH_S = 15.0
"""Without a single message from a range that holds some: the broker cannot be reached."""


class KafkaTransport:
    """Implements ports.Transport. One a process; connects at once.

    Args:
        bootstrap_servers: host:port, several with commas.
        client: further settings of kafka-python for every connection (security_protocol, sasl_..., ssl_...).
        replication_factor: of topics that are created here.
    """

    def __init__(
        self, bootstrap_servers: str, *, client: Mapping[str, Any] | None = None, replication_factor: int = 1
    ) -> None:
        self._common = {"bootstrap_servers": bootstrap_servers.split(","), **(client or {})}
        self._replication_factor = replication_factor
        self._settings: dict[str, TopicSettings] = {}
        self._producer: Any = None
        self._assigned: list[Any] = []
        with self._translated():
            self._admin = kafka.KafkaAdminClient(request_timeout_ms=REQUEST_MS, **self._common)
            self._consumer = kafka.KafkaConsumer(
                group_id=None,
                enable_auto_commit=False,
                auto_offset_reset="none",
                max_poll_records=10_000,
                fetch_max_wait_ms=100,
                fetch_max_bytes=64 << 20,
                max_partition_fetch_bytes=8 << 20,
                **self._common,
            )

    # -- topics --------------------------------------------------------------------------------------------------

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        with self._translated():
            present = self._described(list(topics))
            wanted = {name: self._new(one) for name, one in topics.items() if name not in present}
            if wanted:
                try:
                    self._admin.create_topics(wanted, wait_for_metadata=True)
                except errors.TopicAlreadyExistsError:
                    present = self._described(list(topics))  # another process was quicker
        for name, count in present.items():
            if name in topics and count != topics[name].partitions:
                raise Refusal(
                    Code.TOPIC_MISMATCH,
                    f"topic {name} has {count} partitions, {topics[name].partitions} are configured",
                    hint="a topic's partition count never changes: set transport.partitions back",
                )

    def _new(self, settings: TopicSettings) -> dict[str, Any]:
        configs = {"max.message.bytes": str(settings.max_message_bytes + BATCH_ROOM_BYTES), "retention.ms": "-1"}
        if settings.compacted:
            configs |= {
                "cleanup.policy": "compact",
                "min.compaction.lag.ms": str(settings.min_compaction_lag_ms),
                "delete.retention.ms": str(max(settings.min_compaction_lag_ms, 24 * 3600 * 1000)),
            }
        return {
            "num_partitions": settings.partitions,
            "replication_factor": self._replication_factor,
            "configs": configs,
        }

    def _described(self, names: list[str]) -> dict[str, int]:
        found = self._admin.describe_topics(names)
        return {one["name"]: len(one["partitions"]) for one in found if not one["error_code"]}

    def topics(self, prefix: str) -> dict[str, int]:
        with self._translated():
            names = [name for name in self._admin.list_topics() if name.startswith(prefix)]
            return self._described(names) if names else {}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        names = list(topics)
        with self._translated():
            found = self._admin.describe_topics(names) if names else []
        return {one["name"]: str(one["topic_id"]) for one in found if not one["error_code"]}

    def _topic(self, name: str) -> TopicSettings:
        """Partitions and the limit of a message, as the broker has them."""
        found = self._settings.get(name)
        if found is None:
            count = self._described([name]).get(name)
            if count is None:
                raise missing(name)
            resource = ConfigResource(ConfigResourceType.TOPIC, name)
            configs = self._admin.describe_configs([resource], config_filter="all")["topic"][name]
            limit = int(configs["max.message.bytes"]["value"]) - BATCH_ROOM_BYTES
            compacted = "compact" in configs["cleanup.policy"]["value"]
            found = self._settings[name] = TopicSettings(count, compacted, max_message_bytes=limit)
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        with self._translated():
            for message in messages:
                limit = self._topic(message.topic).max_message_bytes
                length = len(message.key or b"") + len(message.value or b"")
                if length > limit:
                    raise Failed(
                        Code.RECORD_TOO_LARGE,
                        f"a message of {length} bytes is above the {limit} bytes of topic {message.topic}",
                        hint="raise transport.max_message_bytes",
                    )
            try:
                return self._sent(messages)
            except BaseException:
                # Whatever still lies in its buffers must not arrive behind what is sent after it.
                producer, self._producer = self._producer, None
                if producer is not None:
                    producer.close(timeout=0)
                raise

    def _sent(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if self._producer is None:
            self._producer = kafka.KafkaProducer(
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                linger_ms=0,
                batch_size=BATCH_BYTES,
                max_request_size=64 << 20,
                delivery_timeout_ms=DELIVERY_MS,
                request_timeout_ms=REQUEST_MS,
                max_block_ms=REQUEST_MS,
                **self._common,
            )
        waiting = []
        for message in messages:
            count = self._topic(message.topic).partitions
            part = message.partition if message.partition is not None else partition_of(message.key, count)
            if part >= count:
                raise Failed(Code.TOPIC_MISMATCH, f"topic {message.topic} has no partition {part}", hint="check them")
            waiting.append(
                self._producer.send(
                    message.topic,
                    key=message.key,
                    value=message.value,
                    headers=list(message.headers),
                    partition=part,
                )
            )
        self._producer.flush(timeout=DELIVERY_MS / 1000)
        placed = [future.get(timeout=1) for future in waiting]
        return [(one.partition, one.offset) for one in placed]

    # -- reading -------------------------------------------------------------------------------------------------

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return self._bounds(topics, self._consumer.end_offsets)

    def begins(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return self._bounds(topics, self._consumer.beginning_offsets)

    def _bounds(self, topics: Iterable[str], ask: Any) -> dict[str, dict[int, int]]:
        names = list(topics)
        with self._translated():
            parts = [kafka.TopicPartition(name, part) for name in names for part in range(self._topic(name).partitions)]
            found = _whole(ask, parts)
        result: dict[str, dict[int, int]] = {name: {} for name in names}
        for where, offset in found.items():
            result[where.topic][where.partition] = offset
        return result

    def fetch(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int | None]],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 8 * 1024 * 1024,
        timeout_s: float = 0.0,
    ) -> Fetched:
        positions = {where: start for where, (start, _) in wanted.items()}
        deadline = time.monotonic() + timeout_s
        with self._translated():
            while True:
                uppers = self._uppers(wanted)
                open_ = {where: upper for where, upper in uppers.items() if positions[where] < upper}
                if open_:
                    return self._read(open_, positions, max_messages, max_bytes)
                if time.monotonic() >= deadline:
                    return Fetched([], positions)
                time.sleep(0.005)

    def _uppers(self, wanted: Mapping[TopicPartition, tuple[int, int | None]]) -> dict[TopicPartition, int]:
        """How far each range can be read now."""
        for where in wanted:
            if where.partition >= self._topic(where.topic).partitions:
                raise Failed(
                    Code.TOPIC_MISMATCH, f"topic {where.topic} has no partition {where.partition}", hint="check them"
                )
        parts = [kafka.TopicPartition(*where) for where in wanted]
        ends = _whole(self._consumer.end_offsets, parts)
        known = {TopicPartition(where.topic, where.partition): end for where, end in ends.items()}
        return {where: known[where] if end is None else min(known[where], end) for where, (_, end) in wanted.items()}

    def _read(
        self,
        open_: Mapping[TopicPartition, int],
        positions: dict[TopicPartition, int],
        max_messages: int,
        max_bytes: int,
    ) -> Fetched:
        """At least one message of these ranges, or their ends where compaction left nothing."""
        self._seek(open_, positions)
        messages: list[Stored] = []
        taken_bytes = 0
        deadline = time.monotonic() + FETCH_S
        while any(positions[where] < upper for where, upper in open_.items()):
            room = max_messages - len(messages)
            if room <= 0 or taken_bytes >= max_bytes:
                break
            polled = self._consumer.poll(timeout_ms=200, max_records=room)
            for part, records in polled.items():
                where = TopicPartition(part.topic, part.partition)
                for record in records:
                    if record.offset >= open_[where] or taken_bytes >= max_bytes:
                        break
                    messages.append(_stored(record))
                    positions[where] = record.offset + 1
                    taken_bytes += len(record.key or b"") + len(record.value or b"")
            if taken_bytes < max_bytes:
                for where, upper in open_.items():
                    # Over gaps that compaction left, and over what lies behind the range.
                    at = self._consumer.position(kafka.TopicPartition(*where))
                    positions[where] = max(positions[where], min(at, upper))
            if not polled and messages:
                break
            if time.monotonic() > deadline:
                raise Transient(
                    Code.STREAM_UNREACHABLE, "the broker sends nothing", hint="it is tried again; check the broker"
                )
        return Fetched(messages, positions)

    def _seek(self, open_: Mapping[TopicPartition, int], positions: Mapping[TopicPartition, int]) -> None:
        parts = [kafka.TopicPartition(*where) for where in open_]
        if parts != self._assigned:
            self._consumer.assign(parts)
            self._assigned = parts
            for where in open_:
                self._consumer.seek(kafka.TopicPartition(*where), positions[where])
            return
        for where in open_:
            part = kafka.TopicPartition(*where)
            if self._consumer.position(part) != positions[where]:
                self._consumer.seek(part, positions[where])

    # -- groups --------------------------------------------------------------------------------------------------

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        with self._translated():
            self._admin.alter_group_offsets(
                group,
                {kafka.TopicPartition(*w): kafka.OffsetAndMetadata(at, "", -1) for w, at in offsets.items()},
            )

    def committed(self, group: str, topics: Iterable[str]) -> dict[TopicPartition, int]:
        names = set(topics)
        with self._translated():
            found = self._admin.list_group_offsets({group: None})[group]
        return {
            TopicPartition(where.topic, where.partition): one.offset
            for where, one in found.items()
            if where.topic in names and one.offset >= 0
        }

    def close(self) -> None:
        if self._producer is not None:
            self._producer.close(timeout=1)
        self._consumer.close(autocommit=False)
        self._admin.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except errors.KafkaError as error:
            raise translate(error) from error


def _whole(ask: Any, parts: Sequence[Any]) -> dict[Any, int]:
    """The offsets of all these partitions. The client drops those of a topic that is newer than its metadata beside ones
    that it knows, and then fails with a KeyError (3.0.12); it has asked for new metadata by then."""
    deadline = time.monotonic() + REQUEST_MS / 1000
    while parts:
        try:
            return dict(ask(parts, timeout_ms=REQUEST_MS))
        except KeyError as error:
            if time.monotonic() > deadline:
                text = f"the broker names no leader of {error.args[0]}"
                raise Transient(Code.STREAM_UNREACHABLE, text, hint="it is tried again; check the broker") from error
            time.sleep(0.02)
    return {}


def _stored(record: Any) -> Stored:
    return Stored(
        record.topic, record.partition, record.offset, record.timestamp, record.key, record.value, tuple(record.headers)
    )
