"""Do: confluent-kafka (librdkafka) as a driver of the Kafka transport; the only importer of it beside
confluent_errors and confluent_reader. The extra `fast`.

Invariant: as for kafka-python; what differs is that librdkafka goes on by itself in its own threads and says why it
cannot connect only through a callback: the last such word is kept and told with the call that failed meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

import confluent_kafka as ck
from confluent_kafka import admin as ck_admin

from adapters.confluent_errors import UNKNOWN_TOPIC, translate
from adapters.confluent_reader import ConfluentReader
from adapters.kafka_settings import Settings, as_dotted, refuse_ours, security_of, unknown_setting
from adapters.kafka_topics import TopicFound, wanted_configs
from adapters.tls import why_untrusted
from schemas.change import Message, TopicPartition
from schemas.errors import Code, ConfigError, Failed
from schemas.ports import TopicSettings

REQUEST_S = 10.0
DELIVERY_S = 30.0
GREETINGS = 5
_E = ck.KafkaError
_BEHIND = {
    "acks": "all",
    "enable.idempotence": True,
    "compression.type": "lz4",
    # flush() sends at once whatever has gathered.
    "linger.ms": 5,
    "batch.size": 512 * 1024,
    "message.max.bytes": 64 << 20,
    "queue.buffering.max.kbytes": 512 << 10,
    "queue.buffering.max.messages": 1_000_000,
    "delivery.timeout.ms": int(DELIVERY_S * 1000),
}
_AHEAD = {
    # librdkafka wants a name; nothing is ever stored under it.
    "group.id": "tailrace-reader",
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",
    "fetch.max.bytes": 64 << 20,
    "max.partition.fetch.bytes": 8 << 20,
    "receive.message.max.bytes": 100 << 20,
    "fetch.error.backoff.ms": 20,
}


class ConfluentDriver:
    """Implements kafka_transport.Driver. Connects at once.

    Args:
        bootstrap_servers: host:port, several with commas.
        client: further settings, under kafka-python's names or librdkafka's dotted ones.
    """

    def __init__(self, bootstrap_servers: str, client: Settings) -> None:
        for name in client:
            refuse_ours(name)
        self._servers = [server.strip() for server in bootstrap_servers.split(",")]
        self._common = {
            "socket.timeout.ms": int(REQUEST_S * 1000),
            "topic.metadata.refresh.sparse": True,
            **as_dotted(client),
            "bootstrap.servers": ",".join(self._servers),
            "error_cb": self._said,
            "log_level": 0,
        }
        self._security = security_of(client)
        self._why: ck.KafkaError | None = None
        self._readers: list[ConfluentReader] = []
        self._producer: Any = None
        with self.translated():
            self._admin = _made(ck_admin.AdminClient, self._common, {})
            self._greet()

    def _greet(self) -> None:
        """Until the broker answers; a reason why it will not ends the wait."""
        for left in reversed(range(GREETINGS)):
            try:
                self._call(lambda: self._admin.list_topics(timeout=1.0))
                return
            except ck.KafkaException:
                if self._why is not None or not left:
                    raise

    def _said(self, error: ck.KafkaError) -> None:
        """From librdkafka, while a call of ours waits. That no broker is left is no reason, only its consequence."""
        if error.code() != _E._ALL_BROKERS_DOWN:
            self._why = error

    # -- topics --------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        with self.translated():
            return list(self._call(lambda: self._admin.list_topics(timeout=REQUEST_S)).topics)

    def described(self, names: Sequence[str]) -> dict[str, TopicFound]:
        found: dict[str, TopicFound] = {}
        with self.translated():
            asked = self._admin.describe_topics(ck.TopicCollection(list(names)), request_timeout=REQUEST_S)
            for name, future in asked.items():
                try:
                    one = self._result(future)
                except ck.KafkaException as error:
                    if error.args[0].code() in UNKNOWN_TOPIC:
                        continue
                    raise
                replicas = min((len(part.replicas) for part in one.partitions), default=0)
                found[name] = TopicFound(len(one.partitions), str(one.topic_id), replicas)
        return found

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        resources = {ck_admin.ConfigResource(ck_admin.ConfigResource.Type.TOPIC, name): name for name in names}
        with self.translated():
            asked = self._admin.describe_configs(list(resources), request_timeout=REQUEST_S)
            return {
                resource.name: {key: str(entry.value) for key, entry in self._result(future).items()}
                for resource, future in asked.items()
            }

    def create(self, topics: Mapping[str, TopicSettings], *, replicas: int) -> None:
        new = [
            ck_admin.NewTopic(
                name, num_partitions=one.partitions, replication_factor=replicas, config=wanted_configs(one)
            )
            for name, one in topics.items()
        ]
        with self.translated():
            for future in self._admin.create_topics(new, request_timeout=REQUEST_S).values():
                try:
                    self._result(future)
                except ck.KafkaException as error:
                    if error.args[0].code() != _E.TOPIC_ALREADY_EXISTS:
                        raise
        # The controller has made them; the broker that is asked next must know them too.
        deadline = time.monotonic() + REQUEST_S
        while len(self.described(list(topics))) < len(topics) and time.monotonic() < deadline:
            time.sleep(0.01)

    def alter(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        up = ck_admin.AlterConfigOpType.SET
        resources = []
        for name, one in topics.items():
            entries = [ck_admin.ConfigEntry(key, value, incremental_operation=up) for key, value in one.items()]
            kind = ck_admin.ConfigResource.Type.TOPIC
            resources.append(ck_admin.ConfigResource(kind, name, incremental_configs=entries))
        with self.translated():
            for future in self._admin.incremental_alter_configs(resources, request_timeout=REQUEST_S).values():
                self._result(future)

    # -- writing -------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[tuple[Message, int]]) -> list[int]:
        try:
            with self.translated():
                return self._sent(messages)
        except BaseException:
            # Whatever still lies in its buffers must not arrive behind what is sent after it.
            producer, self._producer = self._producer, None
            if producer is not None:
                producer.purge()
                producer.flush(1.0)
            raise

    def _sent(self, messages: Sequence[tuple[Message, int]]) -> list[int]:
        if self._producer is None:
            self._producer = _made(ck.Producer, self._common, _BEHIND)
        producer = self._producer
        offsets = [-1] * len(messages)
        failed: list[ck.KafkaError] = []

        def placed(at: int) -> Any:
            def done(error: ck.KafkaError | None, stored: Any) -> None:
                if error is not None:
                    failed.append(error)
                else:
                    offsets[at] = stored.offset()

            return done

        for at, (message, part) in enumerate(messages):
            while True:
                try:
                    producer.produce(
                        message.topic,
                        key=message.key,
                        value=message.value,
                        headers=list(message.headers),
                        partition=part,
                        on_delivery=placed(at),
                    )
                    break
                except BufferError:
                    producer.poll(0.1)
        left = producer.flush(DELIVERY_S)
        if failed:
            raise ck.KafkaException(failed[0])
        if left or -1 in offsets:
            raise ck.KafkaException(ck.KafkaError(_E._MSG_TIMED_OUT))
        return offsets

    # -- reading -------------------------------------------------------------------------------------------------

    def ends(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return self._bounds(parts, ck_admin.OffsetSpec.latest())

    def begins(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return self._bounds(parts, ck_admin.OffsetSpec.earliest())

    def _bounds(self, parts: Sequence[TopicPartition], which: Any) -> dict[TopicPartition, int]:
        with self.translated():
            asked = self._admin.list_offsets(
                {ck.TopicPartition(*where): which for where in parts}, request_timeout=REQUEST_S
            )
            return {
                TopicPartition(where.topic, where.partition): int(self._result(future).offset)
                for where, future in asked.items()
            }

    def reader(self, *, wait_ms: int) -> ConfluentReader:
        # One that closed itself is forgotten.
        self._readers = [one for one in self._readers if one.open]
        with self.translated():
            made = ConfluentReader(_made(ck.Consumer, self._common, {**_AHEAD, "fetch.wait.max.ms": wait_ms}), self)
        self._readers.append(made)
        return made

    # -- groups --------------------------------------------------------------------------------------------------

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        parts = [ck.TopicPartition(*where, at) for where, at in offsets.items()]
        request = [ck.ConsumerGroupTopicPartitions(group, parts)]
        with self.translated():
            for future in self._admin.alter_consumer_group_offsets(request, request_timeout=REQUEST_S).values():
                _refuse_errors(self._result(future).topic_partitions)

    def committed(self, group: str) -> dict[TopicPartition, int]:
        request = [ck.ConsumerGroupTopicPartitions(group)]
        with self.translated():
            (future,) = self._admin.list_consumer_group_offsets(request, request_timeout=REQUEST_S).values()
            found = self._result(future).topic_partitions
            _refuse_errors(found)
        return {TopicPartition(one.topic, one.partition): one.offset for one in found if one.offset >= 0}

    def close(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.flush(1.0)
        for reader in self._readers:
            reader.close()

    # -- errors --------------------------------------------------------------------------------------------------

    def _result(self, future: Future[Any]) -> Any:
        return self._call(lambda: future.result(timeout=REQUEST_S + 1))

    def _call(self, ask: Any) -> Any:
        try:
            result = ask()
        except TimeoutError as error:
            raise ck.KafkaException(ck.KafkaError(_E._TIMED_OUT)) from error
        except ck.KafkaException:
            self._admin.poll(0)  # the callback with the reason
            raise
        self._why = None
        return result

    def refuse_why(self) -> None:
        """Raises the reason that librdkafka gave since the last call that went well."""
        if self._why is not None:
            raise ck.KafkaException(self._why)

    @contextmanager
    def translated(self) -> Iterator[None]:
        try:
            yield
        except ck.KafkaException as error:
            told = translate(error.args[0], self._why)
            if told.code is Code.STREAM_UNREACHABLE and self._security.encrypted:
                # librdkafka says "broker certificate could not be verified" and not why.
                told = why_untrusted(self._servers, self._security) or told
            raise told from error


def _made(kind: Any, common: Mapping[str, Any], ours: Mapping[str, Any]) -> Any:
    """Ours over the operator's only where nothing may be set: `refuse_ours` has seen to that. librdkafka is the one that
    knows its settings."""
    try:
        return kind({**ours, **common})
    except ck.KafkaException as error:
        text = str(error.args[0].str())
        # No such configuration property: "nosuch"
        name = text.rpartition('"')[0].rpartition('"')[2] if "No such configuration property" in text else ""
        if name:
            raise unknown_setting(name, (), client="librdkafka") from error
        if error.args[0].code() == _E._INVALID_ARG and "ssl" not in text.lower():
            # Its text may quote the value.
            text = "a value of [transport.client] is not one that librdkafka takes"
            raise ConfigError(Code.CONFIG_INVALID, text, hint="check [transport.client]") from error
        raise Failed(Code.STREAM_IO, f"librdkafka: {text[:200]}", hint="check [transport.client]") from error


def _refuse_errors(parts: Sequence[Any]) -> None:
    for one in parts:
        if one.error is not None:
            raise ck.KafkaException(one.error)
