"""Decide: what differs between the clients of Kafka; no code.

Invariant: a driver translates errors and retries nothing; one that lost its connection is replaced, never mended.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from adapters.kafka_topics import TopicFound
from schemas.change import Message, Stored, TopicPartition
from schemas.errors import TailraceError
from schemas.ports import TopicSettings


@dataclass(frozen=True, slots=True)
class Polled:
    messages: Mapping[TopicPartition, list[Stored]]
    """In order within a partition; no list is empty."""
    lost: Mapping[TopicPartition, TailraceError]
    """Partitions that can not be read on from where they stand, and why."""


class Reader(Protocol):
    """One consumer and the partitions it reads, each from a place of its own. Methods raise TailraceError."""

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        """Read these partitions too, from there. None of them is read yet; the others go on undisturbed."""
        ...

    def leave(self, parts: Collection[TopicPartition]) -> None: ...

    def poll(self, *, max_messages: int, timeout_s: float) -> Polled:
        """Of any partition that is read."""
        ...

    def stands(self, where: TopicPartition) -> int:
        """The offset behind all that was polled of a partition, over what compaction took away."""
        ...

    def close(self) -> None: ...


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

    def reader(self, *, wait_ms: int) -> Reader:
        """Closed with the driver at the latest.

        Args:
            wait_ms: how long a fetch that finds nothing waits at the broker; a partition that is read anew waits for it.
        """
        ...

    def commit_group(self, group: str, offsets: Mapping[TopicPartition, int]) -> None: ...

    def committed(self, group: str) -> dict[TopicPartition, int]: ...

    def close(self) -> None: ...
