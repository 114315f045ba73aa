"""Do: read a whole small topic, or the tail of one."""

from __future__ import annotations

from collections.abc import Iterator

from schemas.change import Stored, TopicPartition
from schemas.ports import Transport


def read_tail(transport: Transport, topic: str, *, partition: int = 0, last: int | None = None) -> Iterator[Stored]:
    """All messages that one partition of `topic` holds now, or the last `last` offsets of it."""
    where = TopicPartition(topic, partition)
    end = transport.ends([topic])[topic][partition]
    at = transport.begins([topic])[topic][partition]
    if last is not None:
        at = max(at, end - last)
    while at < end:
        fetched = transport.fetch({where: (at, end)})
        yield from fetched.messages
        if fetched.next[where] <= at:
            return
        at = fetched.next[where]
