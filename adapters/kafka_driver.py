"""Decide: what differs between the clients of Kafka; no code.

Invariant: a driver translates errors and retries nothing; one that lost its connection is replaced, never mended.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from adapters.kafka_topics import TopicFound
from schemas.change import Message, Stored, TopicPartition
from schemas.ports import TopicSettings


class Driver(Protocol):
    """What differs between the clients. Every method raises TailraceError; none retries.

    One connection's worth of clients: what the broker or a credential broke is not mended here, the driver is replaced.
    """

    def names(self) -> list[str]: ...

    def described(self, names: Sequence[str]) -> dict[str, TopicFound]:
        """Of those that exist."""
        ...

    def configs(self, names: Sequence[str]) -> dict[str, dict[str, str]]:
        """Effective settings of topics that exist."""
        ...

    def create(self, topics: Mapping[str, TopicSettings], *, replicas: int) -> None:
        """A topic that exists already is left alone. Returns when the broker shows them."""
        ...

    def alter(self, topics: Mapping[str, Mapping[str, str]]) -> None:
        """Set these settings of topics, and leave every other one as it is. The broker shows them a moment later."""
        ...

    def send(self, messages: Sequence[tuple[Message, int]]) -> list[int]:
        """Offsets, in order, of (message, partition); acknowledged by all in-sync replicas."""
        ...

    def ends(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]: ...

    def begins(self, parts: Sequence[TopicPartition]) -> dict[TopicPartition, int]: ...

    def seek(self, positions: Mapping[TopicPartition, int]) -> None:
        """From now on read exactly these partitions, from there."""
        ...

    def poll(self, *, max_messages: int, timeout_s: float) -> tuple[list[Stored], Mapping[TopicPartition, int]]:
        """Messages in order within a partition, and where reading stands now, over what compaction took away."""
        ...

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None: ...

    def committed(self, group: str) -> dict[TopicPartition, int]: ...

    def close(self) -> None: ...
