"""Do: kafka-python as a driver of the Kafka transport; the only importer of it beside kafka_errors.

Trap: the client leaves sockets open: those of a handshake that failed, and those whose connect or write is under way
when it is closed (3.0.12: the loop cancels the task that would close them). Every client gets a selector that closes what
it has watched (test_no_socket_stays_open_behind_a_client).
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any

import kafka
from kafka import errors
from kafka.admin import ConfigResource, ConfigResourceType

from adapters.kafka_driver import Polled
from adapters.kafka_errors import translate
from adapters.kafka_settings import Settings, for_kafka_python, security_of
from adapters.kafka_sockets import Sockets
from adapters.kafka_topics import TopicFound, wanted_configs
from adapters.kafka_verdicts import denied_login
from adapters.tls import answers, why_untrusted
from schemas.change import Message, Stored, TopicPartition
from schemas.errors import Code, Failed, TailraceError, Transient
from schemas.ports import TopicSettings

BATCH_BYTES = 512 * 1024
DELIVERY_MS = 30_000
REQUEST_MS = 10_000
BOOTSTRAP_MS = 5_000
SLICE_MS = 5
_ADMIN = frozenset(kafka.KafkaAdminClient.DEFAULT_CONFIG)
_CONSUMER = frozenset(kafka.KafkaConsumer.DEFAULT_CONFIG)
_PRODUCER = frozenset(kafka.KafkaProducer.DEFAULT_CONFIG)


class PythonDriver:
    """Implements kafka_transport.Driver. Connects at once.

    Args:
        bootstrap_servers: host:port, several with commas.
        client: further settings of kafka-python; each goes to the clients that know it.
    """

    def __init__(self, bootstrap_servers: str, client: Settings) -> None:
        self._servers = [server.strip() for server in bootstrap_servers.split(",")]
        self._client = for_kafka_python(client, _ADMIN | _CONSUMER | _PRODUCER)
        self._security = security_of(client)
        self._producer: Any = None
        self._consumer: Any = None
        self._admin: Any = None
        self._readers: list[PythonReader] = []
        self._sockets: list[Sockets] = []
        try:
            with self._translated():
                self._admin = kafka.KafkaAdminClient(**self._with(_ADMIN, request_timeout_ms=REQUEST_MS))
                self._consumer = self._consuming()
        except BaseException:
            self.close()
            raise

    def _with(self, known: frozenset[str], **ours: Any) -> dict[str, Any]:
        """The operator's settings over ours, for one client."""
        given: dict[str, Any] = {name: value for name, value in self._client.items() if name in known}
        sockets = Sockets()
        self._sockets = [*(one for one in self._sockets if one.open), sockets]
        if self._security.encrypted:
            given = {**given, "ssl_context": sockets.context(given)}
        return {
            "bootstrap_timeout_ms": BOOTSTRAP_MS,
            **ours,
            **given,
            "bootstrap_servers": self._servers,
            "selector": sockets.selector,
        }

    # -- topics --------------------------------------------------------------------------------------------------

    def names(self) -> list[str]:
        with self._translated():
            return list(self._admin.list_topics())

    def described(self, names: Sequence[str]) -> dict[str, TopicFound]:
        with self._translated():
            found = self._admin.describe_topics(list(names))
        return {
            one["name"]: TopicFound(
                len(one["partitions"]),
                str(one["topic_id"]),
                min((len(part["replica_nodes"]) for part in one["partitions"]), default=0),
            )
            for one in found
            if not one["error_code"]
        }

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
        with self._translated():
            found = self._admin.describe_configs(resources, config_filter="all")["topic"]
        return {name: {key: str(one["value"]) for key, one in found[name].items()} for name in names if name in found}

    def create(self, topics: Mapping[str, TopicSettings], *, replicas: int) -> None:
        new = {
            name: {
                "num_partitions": one.partitions,
                "replication_factor": replicas,
                "configs": wanted_configs(one),
            }
            for name, one in topics.items()
        }
        with self._translated(), contextlib.suppress(errors.TopicAlreadyExistsError):
            self._admin.create_topics(new, wait_for_metadata=True)

    def alter(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        resources = [ConfigResource(ConfigResourceType.TOPIC, name, dict(one)) for name, one in topics.items()]
        with self._translated():
            done = self._admin.alter_configs(resources, incremental=True, raise_on_unknown=False)
            for said in done["topic"].values():
                # It returns errors, and as text: "[Error 40] InvalidConfigurationError: ..."
                if number := re.match(r"\[Error (\d+)\]", str(said)):
                    raise errors.for_code(int(number[1]))(said)

    # -- writing -------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[tuple[Message, int]]) -> list[int]:
        try:
            with self._translated():
                return self._sent(messages)
        except BaseException:
            # Whatever still lies in its buffers must not arrive behind what is sent after it.
            producer, self._producer = self._producer, None
            if producer is not None:
                _drop(producer)
            raise

    def _sent(self, messages: Sequence[tuple[Message, int]]) -> list[int]:
        if self._producer is None:
            self._producer = kafka.KafkaProducer(
                **self._with(
                    _PRODUCER,
                    compression_type="lz4",
                    linger_ms=0,
                    batch_size=BATCH_BYTES,
                    request_timeout_ms=REQUEST_MS,
                ),
                acks="all",
                enable_idempotence=True,
                max_request_size=64 << 20,
                delivery_timeout_ms=DELIVERY_MS,
                max_block_ms=REQUEST_MS,
            )
        send = self._producer.send
        waiting = [
            send(
                message.topic,
                key=message.key,
                value=message.value,
                headers=list(message.headers),
                partition=part,
            )
            for message, part in messages
        ]
        self._producer.flush(timeout=DELIVERY_MS / 1000)
        return [future.get(timeout=1).offset for future in waiting]

    # -- reading -------------------------------------------------------------------------------------------------

    def ends(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return self._bounds(parts, self._consumer.end_offsets)

    def begins(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        return self._bounds(parts, self._consumer.beginning_offsets)

    def _bounds(self, parts: Sequence[TopicPartition], ask: Any) -> dict[TopicPartition, int]:
        with self._translated():
            found = _whole(ask, [kafka.TopicPartition(*where) for where in parts])
        return {TopicPartition(where.topic, where.partition): offset for where, offset in found.items()}

    def reader(self, *, wait_ms: int) -> PythonReader:
        # One that closed itself is forgotten.
        self._readers = [one for one in self._readers if one.open]
        with self._translated():
            made = PythonReader(self._consuming(fetch_max_wait_ms=wait_ms), self._translated)
        self._readers.append(made)
        return made

    def _consuming(self, **ours: Any) -> Any:
        return kafka.KafkaConsumer(
            **self._with(
                _CONSUMER, max_poll_records=10_000, fetch_max_bytes=64 << 20, max_partition_fetch_bytes=8 << 20, **ours
            ),
            group_id=None,
            enable_auto_commit=False,
            auto_offset_reset="none",
        )

    # -- groups --------------------------------------------------------------------------------------------------

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        with self._translated():
            done = self._admin.alter_group_offsets(
                group,
                {kafka.TopicPartition(*w): kafka.OffsetAndMetadata(at, "", -1) for w, at in offsets.items()},
            )
            for error in done.values():
                if error is not errors.NoError:
                    raise error

    def committed(self, group: str) -> dict[TopicPartition, int]:
        with self._translated():
            found = self._admin.list_group_offsets({group: None})[group]
        return {
            TopicPartition(where.topic, where.partition): one.offset for where, one in found.items() if one.offset >= 0
        }

    def close(self) -> None:
        """Whatever one client says of a broker that is away, the others and their sockets are closed, too."""
        closing: list[Callable[[], object]] = [reader.close for reader in self._readers]
        if self._producer is not None:
            closing.append(partial(_drop, self._producer))  # acknowledged to the last message
        if self._consumer is not None:
            closing.append(partial(self._consumer.close, autocommit=False))
        if self._admin is not None:
            closing.append(self._admin.close)
        for close in closing:
            with contextlib.suppress(errors.KafkaError, OSError):
                close()
        for one in self._sockets:
            one.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except errors.KafkaError as error:
            raise self._told(error) from error
        except OSError as error:
            # Files of certificates and keys.
            raise Failed(
                Code.STREAM_IO, f"the Kafka client: {type(error).__name__}: {error}", hint="check [transport.client]"
            ) from error

    def _told(self, error: errors.KafkaError) -> TailraceError:
        """The client keeps a refused certificate to its log, and loses a refused login when the broker hangs up in the same
        moment (3.0.12): it then says that it could not connect. So the servers are asked once more."""
        told = translate(error)
        if told.code is not Code.STREAM_UNREACHABLE:
            return told
        if self._security.encrypted and (untrusted := why_untrusted(self._servers, self._security)):
            return untrusted
        hung_up = "bootstrap" in told.message or "disconnected" in told.message
        if hung_up and self._security.login and any(answers(server, self._security) for server in self._servers):
            return denied_login("it takes the connection and ends it there")
        return told


class PythonReader:
    """Implements kafka_driver.Reader. A consumer's position is where its next message lies, so that it may stand beyond the
    last one polled."""

    def __init__(self, consumer: Any, translated: Callable[[], AbstractContextManager[None]]) -> None:
        self._consumer = consumer
        self._translated = translated
        self._parts: dict[TopicPartition, Any] = {}
        self.open = True

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        self._parts |= {where: kafka.TopicPartition(*where) for where in places}
        with self._translated():
            self._consumer.assign(list(self._parts.values()))
            for where, at in places.items():
                self._consumer.seek(self._parts[where], at)

    def leave(self, parts: Collection[TopicPartition]) -> None:
        for where in parts:
            self._parts.pop(where, None)
        with self._translated():
            self._consumer.assign(list(self._parts.values()))

    def poll(self, *, max_messages: int, timeout_s: float) -> Polled:
        lost: dict[TopicPartition, TailraceError] = {}
        with self._translated():
            try:
                polled = self._polled(max_messages, timeout_s)
            except errors.OffsetOutOfRangeError as error:
                # The only one that tells its partitions: {partition: offset}.
                lost = {TopicPartition(one.topic, one.partition): translate(error) for one in error.args[0]}
                polled = {}
        found = {
            TopicPartition(one.topic, one.partition): [_stored(record) for record in records]
            for one, records in polled.items()
            if records
        }
        return Polled(found, lost)

    def _polled(self, max_messages: int, timeout_s: float) -> Mapping[Any, Any]:
        """The client sleeps through its retry_backoff_ms while no partition is ready yet (3.0.12), and wakes late."""
        deadline = time.monotonic() + timeout_s
        while True:
            left_ms = int((deadline - time.monotonic()) * 1000)
            polled = self._consumer.poll(timeout_ms=max(0, min(left_ms, SLICE_MS)), max_records=max_messages)
            if polled or left_ms <= 0:
                return dict(polled)

    def stands(self, where: TopicPartition) -> int:
        with self._translated():
            return int(self._consumer.position(self._parts[where]) or 0)

    def close(self) -> None:
        if self.open:
            self.open = False
            self._consumer.close(autocommit=False)


def _drop(producer: Any) -> None:
    """Its buffers are thrown away before it is closed. `close` alone sends what they hold first, raises when that takes longer
    than its time-out, and leaves the sender's thread alive, which delivers old states behind newer ones whenever the broker
    is back (3.0.12; test_what_a_failed_send_left_never_arrives)."""
    producer._sender.force_close()
    producer._sender.join(REQUEST_MS / 1000)
    with contextlib.suppress(errors.KafkaError):
        producer.close(timeout=0)


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
