"""Do: the transport port in memory, for unit tests that need no file; the contract suite runs over it too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from schemas.change import Fetched, Message, Stored, TopicPartition
from schemas.errors import Code, Failed, Refusal
from schemas.partition import partition_of
from schemas.ports import TopicSettings


class FakeTransport:
    """Implements ports.Transport. `now_ms` stamps every message sent from then on."""

    def __init__(self) -> None:
        self.now_ms = 1_000
        self._settings: dict[str, TopicSettings] = {}
        self._made: dict[str, int] = {}
        self._messages: dict[TopicPartition, list[Stored]] = {}
        self._groups: dict[str, dict[TopicPartition, int]] = {}

    def create_topics(self, topics: Mapping[str, TopicSettings]) -> None:
        for name, settings in topics.items():
            if name not in self._settings:
                self._made[name] = self._made.get(name, 0) + 1
            known = self._settings.setdefault(name, settings)
            if known.partitions != settings.partitions:
                raise Refusal(
                    Code.TOPIC_MISMATCH, f"topic {name} has {known.partitions} partitions", hint="set it back"
                )
            self._settings[name] = replace(
                known,
                max_message_bytes=max(known.max_message_bytes, settings.max_message_bytes),
                min_compaction_lag_ms=max(known.min_compaction_lag_ms, settings.min_compaction_lag_ms),
            )
            for part in range(settings.partitions):
                self._messages.setdefault(TopicPartition(name, part), [])

    def topics(self, prefix: str) -> dict[str, int]:
        return {name: one.partitions for name, one in self._settings.items() if name.startswith(prefix)}

    def topic_ids(self, topics: Iterable[str]) -> dict[str, str]:
        return {name: f"{name} {self._made[name]}" for name in topics if name in self._settings}

    def delete(self, topic: str) -> None:
        """As a hand with a broker's own tools would."""
        for part in range(self._settings.pop(topic).partitions):
            del self._messages[TopicPartition(topic, part)]

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        for message in messages:
            limit = self._settings[self._known(message.topic)].max_message_bytes
            if len(message.key or b"") + len(message.value or b"") > limit:
                raise Failed(
                    Code.RECORD_TOO_LARGE, f"a message is too large for topic {message.topic}", hint="raise it"
                )
        placed = []
        for message in messages:
            count = self._settings[message.topic].partitions
            part = message.partition if message.partition is not None else partition_of(message.key, count)
            log = self._messages[TopicPartition(message.topic, part)]
            placed.append((part, len(log)))
            log.append(
                Stored(message.topic, part, len(log), self.now_ms, message.key, message.value, tuple(message.headers))
            )
        return placed

    def ends(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return {
            name: {
                part: len(self._messages[TopicPartition(name, part)])
                for part in range(self._settings[self._known(name)].partitions)
            }
            for name in topics
        }

    def begins(self, topics: Iterable[str]) -> dict[str, dict[int, int]]:
        return {name: dict.fromkeys(parts, 0) for name, parts in self.ends(topics).items()}

    def fetch(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int | None]],
        *,
        max_messages: int = 10_000,
        max_bytes: int = 8 * 1024 * 1024,
        timeout_s: float = 0.0,
        ids: Mapping[str, str] | None = None,
    ) -> Fetched:
        """Never waits: nobody else can append meanwhile."""
        found: list[Stored] = []
        positions: dict[TopicPartition, int] = {}
        taken_bytes = 0
        for where, (start, end) in wanted.items():
            self._known(where.topic)
            positions[where] = start
            for message in self._messages[where][start:end]:
                if len(found) >= max_messages or taken_bytes >= max_bytes:
                    break
                found.append(message)
                positions[where] = message.offset + 1
                taken_bytes += len(message.key or b"") + len(message.value or b"")
        return Fetched(found, positions)

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None:
        self._groups.setdefault(group, {}).update(offsets)

    def committed(self, group: str, topics: Iterable[str]) -> dict[TopicPartition, int]:
        names = set(topics)
        return {where: offset for where, offset in self._groups.get(group, {}).items() if where.topic in names}

    def close(self) -> None:
        """Nothing to release."""

    def _known(self, topic: str) -> str:
        if topic not in self._settings:
            raise Failed(Code.TOPIC_MISSING, f"topic {topic} does not exist", hint="create it first")
        return topic
