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
from schemas.codecs_json import JSONB
from schemas.errors import Code, Failed, Misfit, Refusal
from schemas.misfit import Settled, resettled, settle
from schemas.plan import TablePlan, with_codec
from schemas.policy import Policies
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
        policies: Policies | None = None,
    ) -> None:
        self._transport = transport
        self._registry = registry
        self._notices = notices
        self._identity = identity
        self._settings = settings
        self._max_row_bytes = max_row_bytes
        self._policies = policies or Policies()
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
        result: list[Message] = []
        kept, keys, rows = self._encoded(table, list(records), refused, result)
        one = self._tables[table]
        values = iter(rows)
        for record, key in zip(kept, keys, strict=True):
            framed = frame(one.key_id, key)
            value = None
            if record.row is not None:
                value = frame(one.value_id, next(values))
                if len(framed) + len(value) > self._max_row_bytes:
                    reason = f"{len(value)} bytes are above max_row_bytes"
                    refused.append(self._quarantine(record, framed, one.key_id, reason))
                    continue
            result.append(self._message(one.codec.plan.topic, framed, value, record))
        return result

    def _message(self, topic: str, key: bytes, value: bytes | None, record: Record) -> Message:
        return Message(topic, key, value, record_headers(record.op, record.seq, self._identity))

    def _encoded(
        self, table: str, records: list[Record], refused: list[Notice], apart: list[Message]
    ) -> tuple[list[Record], list[bytes], list[bytes]]:
        """The records that fit, with the payloads of their keys and of the rows that are there.

        What does not fit widens its column or stays behind, as the policy says: each turn raises one column on a ladder
        of at most four steps or leaves a record out, so this ends. `apart`: tombstones of keys that never fitted."""
        while True:
            one = self._tables[table]
            try:
                keys = one.codec.encode_keys([record.key for record in records])
                return records, keys, one.codec.encode_rows([r.row for r in records if r.row is not None])
            except Misfit as misfit:
                settled = self._settle(one.codec.plan, misfit.column, records)
                after = resettled(one.codec.plan, settled)
                if after != one.codec.plan:
                    self._tables[table] = self._register(after)
                records = self._left(records, settled, refused, apart)

    def _settle(self, plan: TablePlan, column: str, records: Sequence[Record]) -> Settled:
        place = [one.name for one in plan.columns].index(column)
        values = [record.row[place] for record in records if record.row is not None]
        if column in plan.key:
            within = plan.key.index(column)
            values += [record.key[within] for record in records]
        return settle(plan, plan.columns[place], values, self._policies.of(plan.source, plan.table, column))

    def _left(
        self, records: list[Record], settled: Settled, refused: list[Notice], apart: list[Message]
    ) -> list[Record]:
        """The records that the settled column holds; the others go to quarantine, by key."""
        if not records:
            return records
        plan = self._tables[records[0].table].codec.plan
        place = [one.name for one in plan.columns].index(settled.column)
        within = plan.key.index(settled.column) if settled.column in plan.key else None
        kept = []
        for record in records:
            reason = settled.refusal(record.row[place]) if record.row is not None else ""
            if not reason and within is not None:
                reason = settled.refusal(record.key[within])
            if not reason:
                kept.append(record)
                continue
            key, key_id = self._any_key(plan, record)
            if record.row is None:
                apart.append(self._message(plan.topic, key, None, record))
            else:
                refused.append(self._quarantine(record, key, key_id, reason))
        return kept

    def _any_key(self, plan: TablePlan, record: Record) -> tuple[bytes, int]:
        """The framed key and its schema id, in a key schema that holds any key."""
        own = self._tables[record.table]
        try:
            return frame(own.key_id, own.codec.encode_keys([record.key])[0]), own.key_id
        except Misfit:
            for name in plan.key:
                plan = with_codec(plan, name, JSONB.name, "")
            key_id = self._registry.register(subject_of_key(plan), key_schema(plan))
            return frame(key_id, RowCodec(plan).encode_keys([record.key])[0]), key_id

    def _quarantine(self, record: Record, key: bytes, key_id: int, reason: str) -> Notice:
        return Notice(
            NoticeKind.QUARANTINE,
            self._source,
            record.table,
            record.seq,
            reason,
            value_schema_id=self._tables[record.table].value_id,
            key_schema_id=key_id,
            key=base64.b64encode(key).decode(),
        )


class _Published:
    """One table as it is published now."""

    def __init__(self, codec: RowCodec, value_id: int, key_id: int) -> None:
        self.codec = codec
        self.value_id = value_id
        self.key_id = key_id
