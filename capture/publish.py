"""Do: turn records into messages of known schemas, widening schemas where a value asks for it, and send them.

Invariant: when `send` returns, every record is acknowledged and `ends` covers it; ends start from what the topics held
when capture started and only rise with our own acknowledgements (never listed at watermark time: a stale process may
have appended since, and its records must not lie under our watermark).
A row that is too large or cannot be encoded becomes a QUARANTINE notice in the stream, so that the sink never calls its
stale row consistent.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence

from ops.points import reach
from schemas.avro import frame, key_schema, subject_of_key, subject_of_value, value_schema
from schemas.change import Message, Notice, NoticeKind, Record
from schemas.errors import Code, Failed, Misfit, Refusal
from schemas.plan import TablePlan, widened
from schemas.ports import Registry, TopicSettings, Transport
from schemas.rows import RowCodec
from schemas.wire import notice_message, record_headers

LOOK_MS = 1000


def rewound(what: str, source: str) -> Refusal:
    """Records that were acknowledged are gone from the stream, and the sink may not have read them."""
    return Refusal(
        Code.STREAM_REWOUND,
        f"{what}: it was deleted, or the broker lost what it had acknowledged",
        source=source,
        hint=f"tailrace reset {source} --yes {source} (copies all tables again), then start the daemons again",
    )


class Publisher:
    """Everything that one capture sends. Not thread-safe.

    Args:
        max_row_bytes: a row whose key and value are larger is quarantined by key.
    """

    def __init__(
        self,
        transport: Transport,
        registry: Registry,
        *,
        notices: str,
        source: str,
        identity: str,
        settings: TopicSettings,
        max_row_bytes: int,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._notices = notices
        self._identity = identity
        self._settings = settings
        self._max_row_bytes = max_row_bytes
        self._source = source
        self._look_due_ms = 0
        self._tables: dict[str, _Published] = {}
        self.ends: dict[str, dict[int, int]] = {}
        self.topics: dict[str, str] = dict(registry.identity())
        """topic -> id: where everything is sent to, and what the schema ids in it belong to."""
        transport.create_topics({notices: TopicSettings()})
        self._know([notices])

    def use(self, plans: Iterable[TablePlan]) -> None:
        """Publish with these plans from now on; creates their topics and registers their schemas."""
        chosen = list(plans)
        self._transport.create_topics({plan.topic: self._settings for plan in chosen})
        self._know([plan.topic for plan in chosen])
        for plan in chosen:
            self._tables[plan.table] = self._register(plan)

    def forget(self, table: str) -> None:
        self._tables.pop(table, None)

    def plan(self, table: str) -> TablePlan:
        return self._tables[table].codec.plan

    def schema_ids(self, table: str) -> tuple[int, int]:
        """(value schema id, key schema id)."""
        one = self._tables[table]
        return one.value_id, one.key_id

    def send(self, records: Mapping[str, Sequence[Record]], notices: Sequence[Notice]) -> int:
        """Send the records of one chunk and these notices; returns the bytes sent."""
        messages: list[Message] = []
        refused: list[Notice] = list(notices)
        for table, some in records.items():
            messages += self._messages(table, some, refused)
        messages += [notice_message(self._notices, notice) for notice in refused]
        if not messages:
            return 0
        reach("capture.before_send")
        placed = self._transport.send(messages)
        reach("capture.after_send")
        for message, (part, offset) in zip(messages, placed, strict=True):
            ends = self.ends[message.topic]
            if offset < ends.get(part, 0):
                raise rewound(f"topic {message.topic} ended at {offset}, it held {ends[part]} before", self._source)
            ends[part] = offset + 1
        return sum(len(message.key or b"") + len(message.value or b"") for message in messages)

    def look(self, now_ms: int) -> None:
        """Now and then: is what was acknowledged still there? Raises Refusal(STREAM_REWOUND), Failed(TOPIC_MISSING)."""
        if now_ms < self._look_due_ms:
            return
        self._look_due_ms = now_ms + LOOK_MS
        found = self._transport.topic_ids(self.topics)
        for topic, known in self.topics.items():
            if topic not in found:
                raise Failed(
                    Code.TOPIC_MISSING,
                    f"topic {topic} does not exist any more",
                    source=self._source,
                    hint="capture starts again and makes it; who deleted it?",
                )
            if found[topic] != known:
                raise rewound(f"topic {topic} was deleted and made again", self._source)
        for topic, ends in self._transport.ends(self.ends).items():
            for part, end in ends.items():
                if end < self.ends[topic].get(part, 0):
                    raise rewound(f"topic {topic} ends at {end}, it held {self.ends[topic][part]} before", self._source)

    def _know(self, topics: Sequence[str]) -> None:
        """Ids before ends: what was listed of a topic that is made again in between then carries an id that is gone."""
        unknown = [topic for topic in topics if topic not in self.ends]
        if unknown:
            self.topics.update(self._transport.topic_ids(unknown))
            self.ends.update(self._transport.ends(unknown))

    def _register(self, plan: TablePlan) -> _Published:
        return _Published(
            RowCodec(plan),
            self._registry.register(subject_of_value(plan), value_schema(plan)),
            self._registry.register(subject_of_key(plan), key_schema(plan)),
        )

    def _messages(self, table: str, records: Sequence[Record], refused: list[Notice]) -> list[Message]:
        keys, values = self._encoded(table, records)
        one = self._tables[table]
        topic = one.codec.plan.topic
        result = []
        at = 0
        for record, key in zip(records, keys, strict=True):
            framed = frame(one.key_id, key)
            value = None
            if record.row is not None:
                value = frame(one.value_id, values[at])
                at += 1
                if len(framed) + len(value) > self._max_row_bytes:
                    refused.append(self._quarantine(record, framed, f"{len(value)} bytes are above max_row_bytes"))
                    continue
            result.append(Message(topic, framed, value, record_headers(record.op, record.seq, self._identity)))
        return result

    def _encoded(self, table: str, records: Sequence[Record]) -> tuple[list[bytes], list[bytes]]:
        """Payloads of all keys and of the rows that are there. Widens until everything fits: each turn raises one
        column on a ladder of at most four steps, so this ends."""
        rows = [record.row for record in records if record.row is not None]
        while True:
            one = self._tables[table]
            try:
                return one.codec.encode_keys([record.key for record in records]), one.codec.encode_rows(rows)
            except Misfit as misfit:
                plan = one.codec.plan
                names = [column.name for column in plan.columns]
                place = names.index(misfit.column)
                values: list[object] = [row[place] for row in rows]
                if misfit.column in plan.key:
                    within = plan.key.index(misfit.column)
                    values += [record.key[within] for record in records]
                self._tables[table] = self._register(widened(plan, misfit.column, values))

    def _quarantine(self, record: Record, key: bytes, reason: str) -> Notice:
        ids = self._tables[record.table]
        return Notice(
            NoticeKind.QUARANTINE,
            self._source,
            record.table,
            record.seq,
            reason,
            value_schema_id=ids.value_id,
            key_schema_id=ids.key_id,
            key=base64.b64encode(key).decode(),
        )


class _Published:
    """One table as it is published now."""

    def __init__(self, codec: RowCodec, value_id: int, key_id: int) -> None:
        self.codec = codec
        self.value_id = value_id
        self.key_id = key_id
