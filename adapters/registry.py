"""Do: Avro schemas in a topic of the stream itself: schema id = offset of its record + 1.

Invariant: an id is never reused and needs no allocation: the append decides it. Two writers that register the same
schema at once get two ids that both mean it.
Trap: a stream that was written with another registry has ids of that one
(test_another_registry_behind_the_same_stream_is_refused). A topic that was made again counts anew, and old ids would name
other schemas: all that is known here is of one topic, looked at again after every read and write
(test_ids_of_a_topic_that_was_made_again_are_refused).
"""

from __future__ import annotations

import json

from schemas.change import Message, TopicPartition
from schemas.errors import Code, Failed, Refusal
from schemas.ports import TopicSettings, Transport


class TopicRegistry:
    """Implements ports.Registry over one topic with one partition.

    Args:
        create: make the topic where it is missing; a mere reader finds nothing there instead.
    """

    def __init__(self, transport: Transport, topic: str, *, create: bool = True) -> None:
        self._transport = transport
        self._topic = topic
        self._where = TopicPartition(topic, 0)
        self._next = 0
        self._by_id: dict[int, tuple[str, str]] = {}
        self._ids: dict[tuple[str, str], int] = {}
        self._topic_id = ""
        if create:
            # Never compacted: a schema must be readable as long as any record that names it.
            transport.create_topics({topic: TopicSettings(partitions=1, compacted=False)})
            self._is_there()

    def register(self, subject: str, schema: str) -> int:
        self._refresh()
        known = self._ids.get((subject, schema))
        if known is not None:
            return known
        value = json.dumps({"subject": subject, "schema": schema}, ensure_ascii=False).encode()
        placed = self._transport.send([Message(self._topic, subject.encode(), value, partition=0)])
        self._is_there()
        self._refresh()
        return self._ids.get((subject, schema), placed[0][1] + 1)

    def schema(self, schema_id: int) -> str:
        if schema_id not in self._by_id:
            self._refresh()
        if schema_id not in self._by_id:
            raise Failed(
                Code.SCHEMA_UNKNOWN,
                f"schema id {schema_id} is not in topic {self._topic}",
                hint="the stream and the schemas topic must come from the same transport",
            )
        return self._by_id[schema_id][1]

    def latest(self, subject: str) -> str | None:
        self._refresh()
        ids = [schema_id for (name, _), schema_id in self._ids.items() if name == subject]
        return self._by_id[max(ids)][1] if ids else None

    def known(self) -> dict[int, tuple[str, str]]:
        """id -> (subject, schema) of everything that is there now, for `tailrace serve`."""
        self._refresh()
        return dict(self._by_id)

    def _refresh(self) -> None:
        if not self._is_there():
            return
        while True:
            fetched = self._transport.fetch({self._where: (self._next, None)})
            if fetched.messages:
                self._is_there()
            for message in fetched.messages:
                document = json.loads(message.value or b"{}")
                if "registry" in document:
                    raise Refusal(
                        Code.REGISTRY_OTHER,
                        f"the schemas of this stream live in the registry {document['registry']}",
                        hint="set registry.url to it, or begin a new stream with another transport.prefix",
                    )
                pair = (document["subject"], document["schema"])
                self._by_id[message.offset + 1] = pair
                self._ids.setdefault(pair, message.offset + 1)
            self._next = fetched.next[self._where]
            if not fetched.messages:
                return

    def identity(self) -> dict[str, str]:
        return {self._topic: self._topic_id} if self._topic_id else {}

    def _is_there(self) -> bool:
        """Was everything read and written up to now in the topic that this registry began with? Raises
        Refusal(STREAM_REWOUND) when not."""
        found = self._transport.topic_ids([self._topic]).get(self._topic, "")
        if self._topic_id and not found:
            raise Failed(Code.TOPIC_MISSING, f"topic {self._topic} does not exist any more", hint="who deleted it?")
        if self._topic_id and found != self._topic_id:
            raise Refusal(
                Code.STREAM_REWOUND,
                f"topic {self._topic} was deleted and made again: schema ids in the records mean other schemas now",
                hint="tailrace reset SOURCE for every source, then start the daemons again",
            )
        if found and not self._topic_id:
            self._topic_id = found
            # Retention may have taken the first: a schema that is asked for and lost is told by its id.
            self._next = self._transport.begins([self._topic])[self._topic][0]
        return bool(found)
