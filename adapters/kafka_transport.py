"""Do: topics of a Kafka broker behind the same port as the embedded log, over either Kafka client.

Invariant: `send` returns when every message is acknowledged by all in-sync replicas; after an error any prefix may be
there. What is fetched depends on the arguments alone: no consumer group decides, its offsets are for lag tools only.
After a lost connection or a refused login the driver is made anew with settings that are resolved then, so that a rotated
secret heals by itself (test_a_rotated_password_heals_a_running_daemon).
Trap: the broker limits a *batch*, not a message, so that topics get room for a whole batch above the limit of a message
(test_too_large_sends_nothing).
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

from adapters.kafka_ahead import ReadAhead
from adapters.kafka_driver import Driver, Reader
from adapters.kafka_topics import BATCH_ROOM_BYTES, Finding, TopicFound, create_command, findings, raises
from schemas.change import Fetched, Message, TopicPartition
from schemas.errors import Code, Failed, Refusal, TailraceError, Transient
from schemas.partition import partition_of
from schemas.ports import TopicSettings

TAIL_WAIT_MS = 100
RANGE_WAIT_MS = 10
SHOWN_S = 10.0
"""The broker that is asked knows by then what its controller has altered."""
_CONNECT_ANEW = frozenset({Code.STREAM_UNREACHABLE, Code.STREAM_DENIED, Code.STREAM_UNTRUSTED})


class KafkaTransport:
    """Implements ports.Transport. One a process; connects at once.

    Args:
        connect: makes a driver, with secrets resolved at that moment.
        replicas: replication factor of topics that are created here.
        existing: create and alter nothing; a topic that is missing is refused with the settings it must have.
        say: what was altered.
    """

    def __init__(
        self,
        connect: Callable[[], Driver],
        *,
        replicas: int = 1,
        existing: bool = False,
        say: Callable[[str, str], None] | None = None,
    ) -> None:
        self._connect = connect
        self._replicas = replicas
        self._existing = existing
        self._say = say
        self._settings: dict[str, TopicSettings] = {}
        self._driver: Driver | None = connect()
        # A fetch that waits at the broker holds up a partition that is read anew: ranges come and go, tails stay.
        self._tails = ReadAhead(lambda: self._reader(TAIL_WAIT_MS), self._present_ids, self._ends)
        self._ranges = ReadAhead(lambda: self._reader(RANGE_WAIT_MS), self._present_ids, self._ends)

    # -- topics --------------------------------------------------------------------------------------------------

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        """What of a topic that exists is too small is raised, unless topics are an administrator's. Raises
        Refusal(TOPIC_MISMATCH) for one that would lose data, Failed(TOPIC_MISSING) where nothing may be created: that is
        tried again, and goes on once an administrator has created it."""
        with self._driven() as driver:
            found = driver.described(list(topics))
            missing = {name: one for name, one in topics.items() if name not in found}
            if missing and self._existing:
                raise _not_created(missing, self._replicas)
            if missing:
                driver.create(missing, replicas=self._replicas)
                # Another process may have been quicker, with other settings.
                found |= driver.described(list(missing))
        judged = self._judged(topics, found)
        why = ""
        if not self._existing and (wanted := raises(judged)):
            why = self._raise(wanted)
            judged = self._judged(topics, found)
        refused = [one for one in judged if one.verdict == "refused"]
        if refused:
            raise Refusal(
                Code.TOPIC_MISMATCH, f"topic {refused[0].topic}: {refused[0].text}{why}", hint=refused[0].hint
            )

    def _raise(self, wanted: Mapping[str, Mapping[str, str]]) -> str:
        """Returns why it could not be done: a user without the right, or a broker with a policy of its own."""
        with self._driven() as driver:
            try:
                driver.alter(wanted)
            except TailraceError as error:
                # A login that was lost meanwhile is told by the next question, and tried again.
                if error.retryable and error.code is not Code.STREAM_DENIED:
                    raise
                return f" (raising it here failed: {error.message})"
            deadline = time.monotonic() + SHOWN_S
            while time.monotonic() < deadline:
                shown = driver.configs(list(wanted))
                if all(shown.get(name, {}).items() >= one.items() for name, one in wanted.items()):
                    break
                time.sleep(0.02)
        for name, one in wanted.items():
            self._settings.pop(name, None)
            if self._say is not None:
                self._say("topic.raised", f"{name}: " + ", ".join(f"{key} = {value}" for key, value in one.items()))
        return ""

    def findings(self, topics: Mapping[str, TopicSettings]) -> list[Finding]:
        """What of these topics, as far as they exist, is not as it should be; with `existing`, also which are missing."""
        with self._driven() as driver:
            found = driver.described(list(topics))
        result = self._judged(topics, found)
        if not self._existing:
            hint = "nothing to do: the next start of capture raises it, if this user may alter topics"
            result = [replace(one, verdict="warning", hint=hint) if one.raises else one for one in result]
        else:
            for name, one in topics.items():
                if name not in found:
                    hint = create_command(name, one, replicas=self._replicas)
                    result.append(Finding(name, "refused", 'does not exist, and transport.topics = "existing"', hint))
        return result

    def _judged(self, topics: Mapping[str, TopicSettings], found: Mapping[str, TopicFound]) -> list[Finding]:
        present = [name for name in topics if name in found]
        if not present:
            return []
        with self._driven() as driver:
            configs = driver.configs(present)
        return [
            finding
            for name in present
            for finding in findings(name, topics[name], found[name], configs.get(name, {}), replicas=self._replicas)
        ]

    def topics(self, prefix: str) -> dict[str, int]:
        with self._driven() as driver:
            names = [name for name in driver.names() if name.startswith(prefix)]
            found = driver.described(names) if names else {}
        return {name: one.partitions for name, one in found.items()}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        names = list(topics)
        with self._driven() as driver:
            found = driver.described(names) if names else {}
        return {name: one.id for name, one in found.items()}

    def _ends(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]:
        with self._driven() as driver:
            return driver.ends(parts)

    def _present_ids(self, topics: Iterable[str]) -> dict[str, str]:
        names = list(topics)
        found = self.topic_ids(names)
        if absent := [name for name in names if name not in found]:
            raise missing_topic(absent[0])
        return found

    def _topic(self, driver: Driver, name: str) -> TopicSettings:
        """Partitions and the limit of a message, as the broker has them."""
        found = self._settings.get(name)
        if found is None:
            described = driver.described([name]).get(name)
            if described is None:
                raise missing_topic(name)
            configs = driver.configs([name]).get(name)
            if not configs or "max.message.bytes" not in configs:
                # Deleted between the two questions.
                raise missing_topic(name)
            limit = int(configs["max.message.bytes"]) - BATCH_ROOM_BYTES
            compacted = "compact" in configs["cleanup.policy"]
            found = self._settings[name] = TopicSettings(described.partitions, compacted, max_message_bytes=limit)
        return found

    # -- writing -------------------------------------------------------------------------------------------------

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        with self._driven() as driver:
            placed: list[tuple[Message, int]] = []
            for message in messages:
                topic = self._topic(driver, message.topic)
                length = len(message.key or b"") + len(message.value or b"")
                if length > topic.max_message_bytes:
                    raise Failed(
                        Code.RECORD_TOO_LARGE,
                        f"a message of {length} bytes is above the {topic.max_message_bytes} bytes of topic {message.topic}",
                        hint="raise transport.max_message_bytes",
                    )
                part = message.partition
                if part is None:
                    part = partition_of(message.key, topic.partitions)
                _refuse_beyond(TopicPartition(message.topic, part), topic)
                placed.append((message, part))
            offsets = driver.send(placed)
            if any(offset < 0 for offset in offsets):
                # A late answer to a batch that was sent twice says only that it is there.
                raise Transient(Code.STREAM_BUSY, "the broker did not say where a batch lies", hint="it is sent again")
        return [(part, offset) for (_, part), offset in zip(placed, offsets, strict=True)]

    # -- reading -------------------------------------------------------------------------------------------------

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        with self._driven() as driver:
            return self._bounds(driver, topics, driver.ends)

    def begins(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        with self._driven() as driver:
            return self._bounds(driver, topics, driver.begins)

    def _bounds(
        self,
        driver: Driver,
        topics: Iterable[str],
        ask: Callable[[Sequence[TopicPartition]], dict[TopicPartition, int]],
    ) -> dict[str, dict[int, int]]:
        names = list(topics)
        parts = [TopicPartition(name, part) for name in names for part in range(self._topic(driver, name).partitions)]
        result: dict[str, dict[int, int]] = {name: {} for name in names}
        for where, offset in (ask(parts) if parts else {}).items():
            result[where.topic][where.partition] = offset
        return result

    def fetch(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int | None]],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 8 * 1024 * 1024,
        timeout_s: float = 0.0,
        ids: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Where an end is open, somebody waits for what comes next: such partitions are read by a consumer of their own, or
        their few messages would lie behind all that is fetched ahead of the others."""
        positions = {where: start for where, (start, _) in wanted.items()}
        ahead = self._tails if any(end is None for _, end in wanted.values()) else self._ranges
        if wanted and all(start == end for start, end in wanted.values()):
            with self._driven():
                ahead.begin(positions)
            return Fetched([], positions)
        if ids is not None and wanted and all(end is None for _, end in wanted.values()):
            limits = {"max_messages": max_messages, "max_bytes": max_bytes}
            with self._driven():
                return ahead.follow(positions, **limits, timeout_s=timeout_s, ids=ids)
        deadline = time.monotonic() + timeout_s
        with self._driven() as driver:
            while True:
                uppers = self._uppers(driver, wanted, sure=ids is not None and ahead is self._ranges)
                open_ = {where: (positions[where], end) for where, end in uppers.items() if positions[where] < end}
                if open_:
                    found = ahead.read(open_, max_messages=max_messages, max_bytes=max_bytes, ids=ids)
                    return Fetched(found.messages, {**positions, **found.next})
                if time.monotonic() >= deadline:
                    return Fetched([], positions)
                time.sleep(0.005)

    def _uppers(
        self, driver: Driver, wanted: Mapping[TopicPartition, tuple[int, int | None]], *, sure: bool
    ) -> dict[TopicPartition, int]:
        """How far each range can be read now. Whoever names an end and ids has it from a watermark: it was acknowledged."""
        for where in wanted:
            _refuse_beyond(where, self._topic(driver, where.topic))
        if sure:
            return {where: end for where, (_, end) in wanted.items() if end is not None}
        known = driver.ends(list(wanted)) if wanted else {}
        return {where: known[where] if end is None else min(known[where], end) for where, (_, end) in wanted.items()}

    # -- groups --------------------------------------------------------------------------------------------------

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        with self._driven() as driver:
            driver.commit_group(group, offsets)

    def committed(self, group: str, topics: Iterable[str]) -> dict[TopicPartition, int]:
        names = set(topics)
        with self._driven() as driver:
            found = driver.committed(group)
        return {where: at for where, at in found.items() if where.topic in names}

    # -- the connection ------------------------------------------------------------------------------------------

    def close(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            try:
                self._forget()
            finally:
                driver.close()

    def _forget(self) -> None:
        self._tails.drop()
        self._ranges.drop()

    def _reader(self, wait_ms: int) -> Reader:
        with self._driven() as driver:
            return driver.reader(wait_ms=wait_ms)

    @contextmanager
    def _driven(self) -> Iterator[Driver]:
        if self._driver is None:
            self._settings.clear()
            self._driver = self._connect()
        try:
            yield self._driver
        except TailraceError as error:
            if error.code in _CONNECT_ANEW:
                # What broke it is told, not what closing it says as well.
                with contextlib.suppress(TailraceError):
                    self.close()
            elif error.code is Code.TOPIC_MISSING:
                self._settings.clear()
                with contextlib.suppress(TailraceError):
                    self._forget()
            raise


def missing_topic(topic: str) -> TailraceError:
    return Failed(Code.TOPIC_MISSING, f"topic {topic} does not exist", hint="start the capture of this source first")


def _not_created(missing: Mapping[str, TopicSettings], replicas: int) -> TailraceError:
    name, settings = next(iter(missing.items()))
    others = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
    return Failed(
        Code.TOPIC_MISSING,
        f'topic {name}{others} does not exist, and transport.topics = "existing" creates none',
        hint=f"{create_command(name, settings, replicas=replicas)}; tailrace check names all of them",
    )


def _refuse_beyond(where: TopicPartition, topic: TopicSettings) -> None:
    if where.partition >= topic.partitions:
        raise Failed(
            Code.TOPIC_MISMATCH, f"topic {where.topic} has no partition {where.partition}", hint="tailrace check"
        )
