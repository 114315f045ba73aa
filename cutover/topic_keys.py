"""Do: read the keys that came into topics since some offsets, a page at a time.

Invariant: everything from the offsets to the ends as they are at the beginning is read: a transport that gives nothing
where it says that there is something is asked again by whoever called, never taken for an empty topic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from schemas.avro import unframe
from schemas.change import Ends, Stored, TopicPartition
from schemas.errors import Code, Transient
from schemas.model import Key
from schemas.ports import Registry, Transport
from schemas.rows import KeyCodec

PAGE = 1000


class TopicKeys:
    """Keeps its codecs between calls."""

    def __init__(self, transport: Transport, registry: Registry) -> None:
        self._transport = transport
        self._registry = registry
        self._codecs: dict[int, KeyCodec] = {}

    def since(
        self, topics: Iterable[str], offsets: Mapping[TopicPartition, int], ends: Ends | None = None
    ) -> Iterator[list[Stored]]:
        """Messages of all these topics, in pages; `ends` None: as they are now. A partition without an offset is read whole.
        All ranges are asked for at once: a fetch of a broker costs its round trip, whatever it brings."""
        names = list(topics)
        if not names:
            return
        upto = ends if ends is not None else self._transport.ends(names)
        begins = self._transport.begins(names)
        left: dict[TopicPartition, tuple[int, int | None]] = {}
        for topic in names:
            for part, end in upto.get(topic, {}).items():
                where = TopicPartition(topic, part)
                at = max(offsets.get(where, 0), begins[topic][part])
                if at < end:
                    left[where] = (at, end)
        while left:
            fetched = self._transport.fetch(left, max_messages=PAGE)
            moved = {where: fetched.next[where] for where, (at, _) in left.items() if fetched.next[where] > at}
            if not moved:
                raise Transient(
                    Code.STREAM_BUSY, f"topic {next(iter(left)).topic} does not hold yet what it says it does"
                )
            yield fetched.messages
            left = {where: (moved.get(where, at), end) for where, (at, end) in left.items()}
            left = {where: (at, end) for where, (at, end) in left.items() if end is not None and at < end}

    def key(self, raw: bytes) -> Key:
        """SQLite values of a framed key."""
        schema_id, payload = unframe(raw)
        codec = self._codecs.get(schema_id)
        if codec is None:
            codec = self._codecs[schema_id] = KeyCodec(self._registry.schema(schema_id))
        return codec.decode([payload])[0]
