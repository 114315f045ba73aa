"""Records to messages: ends, widening, quarantine."""

from __future__ import annotations

import base64
from collections.abc import Sequence

import pytest

from adapters.registry import TopicRegistry
from capture.publish import Publisher
from schemas.avro import plan_of, unframe
from schemas.change import Message, Notice, NoticeKind, Op, Record, Stored, TopicPartition
from schemas.errors import Code, Transient
from schemas.model import Affinity, Column, Key, KeyKind, Row, Table, TableKey, Value
from schemas.names import topic_of
from schemas.plan import TablePlan, build_table_plan
from schemas.ports import TopicSettings
from schemas.profile import TableProfile
from schemas.rows import KeyCodec, RowCodec
from schemas.wire import notice_of, seq_of
from tests.fakes.transport import FakeTransport

NOTICES = "tr.main.notices"
TOPIC = topic_of("tr", "main", "cases")


def plan() -> TablePlan:
    columns = (
        Column("id", "INTEGER", Affinity.INTEGER, not_null=True, pk_position=1),
        Column("n", "INTEGER", Affinity.INTEGER),
        Column("t", "TEXT", Affinity.TEXT),
    )
    table = Table("cases", columns, TableKey(KeyKind.ROWID_ALIAS, ("id",), "rowid"))
    return build_table_plan(table, TableProfile(0, {}), source="main", prefix="tr", target_schema="main")


def publisher(transport: FakeTransport, *, max_row_bytes: int = 1000, partitions: int = 1) -> Publisher:
    one = Publisher(
        transport,
        TopicRegistry(transport, "tr.schemas"),
        notices=NOTICES,
        source="main",
        identity="one",
        settings=TopicSettings(partitions=partitions),
        max_row_bytes=max_row_bytes,
    )
    one.use([plan()])
    return one


def upsert(*row: Value, seq: int = 7) -> Record:
    return Record("cases", (row[0],), row, seq, Op.UPDATE)


def tombstone(*key: Value, seq: int = 7) -> Record:
    return Record("cases", key, None, seq, Op.DELETE)


def stored(transport: FakeTransport, topic: str, partitions: int = 1) -> list[Stored]:
    return transport.fetch({TopicPartition(topic, part): (0, None) for part in range(partitions)}).messages


def decoded(transport: FakeTransport) -> list[tuple[Key, Row | None]]:
    """By the schemas that the messages themselves name."""
    registry = TopicRegistry(transport, "tr.schemas")
    result: list[tuple[Key, Row | None]] = []
    for one in stored(transport, TOPIC):
        key_id, key = unframe(one.key or b"")
        (found,) = KeyCodec(registry.schema(key_id)).decode([key])
        row = None
        if one.value is not None:
            value_id, value = unframe(one.value)
            (row,) = RowCodec(plan_of(registry.schema(value_id))).decode_rows([value])
        result.append((found, row))
    return result


def test_records_come_back_as_they_were() -> None:
    transport = FakeTransport()
    publisher(transport).send({"cases": [tombstone(1), upsert(2, 5, "a"), upsert(3, None, None)]}, [])
    assert [((1,), None), ((2,), (2, 5, "a")), ((3,), (3, None, None))] == decoded(transport)
    assert [7, 7, 7] == [seq_of(one) for one in stored(transport, TOPIC)]
    assert {b"one"} == {dict(one.headers)["src"] for one in stored(transport, TOPIC)}


@pytest.mark.parametrize("value", ["ten", 1.5, b"\x00\xff"])
def test_a_value_that_does_not_fit_widens_its_column(value: Value) -> None:
    transport = FakeTransport()
    one = publisher(transport)
    before = one.schema_ids("cases")
    one.send({"cases": [upsert(1, 5, "a"), upsert(2, value, "b")]}, [])
    assert [((1,), (1, 5, "a")), ((2,), (2, value, "b"))] == decoded(transport)
    assert before != one.schema_ids("cases")


@pytest.mark.parametrize("value", ["ten", 1.5, b"\x00\xff"])
def test_a_key_that_does_not_fit_widens_too(value: Value) -> None:
    """A tombstone carries no row: the key alone has to ask for it."""
    transport = FakeTransport()
    one = publisher(transport)
    one.send({"cases": [tombstone(value)]}, [])
    one.send({"cases": [upsert(value, 1, "a")]}, [])
    assert [((value,), None), ((value,), (value, 1, "a"))] == decoded(transport)


def test_a_row_too_large_is_kept_by_key_and_the_others_go() -> None:
    transport = FakeTransport()
    one = publisher(transport, max_row_bytes=100)
    one.send({"cases": [upsert(1, 1, "x" * 200, seq=9), upsert(2, 1, "small", seq=9)]}, [])
    assert [((2,), (2, 1, "small"))] == decoded(transport)
    (notice,) = [notice_of(message) for message in stored(transport, NOTICES)]
    assert (NoticeKind.QUARANTINE, "main", "cases", 9) == (notice.kind, notice.source, notice.table, notice.seq)
    key_id, payload = unframe(base64.b64decode(notice.key))
    assert one.schema_ids("cases") == (notice.value_schema_id, key_id) == (notice.value_schema_id, notice.key_schema_id)
    assert [(1,)] == KeyCodec(TopicRegistry(transport, "tr.schemas").schema(key_id)).decode([payload])
    assert "x" * 10 not in notice.reason


def test_a_tombstone_is_never_too_large() -> None:
    """A key alone may be long, but a delete that is not sent is a row too many for ever."""
    transport = FakeTransport()
    publisher(transport, max_row_bytes=1).send({"cases": [tombstone(1)]}, [])
    assert [((1,), None)] == decoded(transport)


def test_ends_begin_with_what_the_topic_held_and_rise_with_our_own() -> None:
    transport = FakeTransport()
    publisher(transport).send({"cases": [tombstone(1), tombstone(2)]}, [])
    second = publisher(transport)
    assert {0: 2} == second.ends[TOPIC]
    transport.send([Message(TOPIC, b"stale", None, partition=0)])
    assert {0: 2} == second.ends[TOPIC]
    second.send({"cases": [tombstone(3)]}, [])
    assert {0: 4} == second.ends[TOPIC]


def test_ends_cover_every_partition_and_the_notices() -> None:
    transport = FakeTransport()
    one = publisher(transport, partitions=4)
    notice = Notice(NoticeKind.COPY, "main", "cases", 1, "copy owed", 1)
    one.send({"cases": [tombstone(number) for number in range(100)]}, [notice])
    assert transport.ends([TOPIC, NOTICES]) == {TOPIC: one.ends[TOPIC], NOTICES: one.ends[NOTICES]}
    assert 4 == len([part for part, end in one.ends[TOPIC].items() if end])


class HalfTransport(FakeTransport):
    """Appends half of a batch and then says "not now"."""

    broken = False

    def send(self, messages: Sequence[Message]) -> list[tuple[int, int]]:
        if self.broken:
            super().send(messages[: len(messages) // 2])
            raise Transient(Code.STREAM_BUSY, "not now")
        return super().send(messages)


def test_half_a_batch_is_not_under_our_ends_until_all_of_it_is() -> None:
    transport = HalfTransport()
    one = publisher(transport)
    records = [tombstone(1), tombstone(2)]
    transport.broken = True
    with pytest.raises(Transient):
        one.send({"cases": records}, [])
    assert {0: 0} == one.ends[TOPIC]
    transport.broken = False
    one.send({"cases": records}, [])
    assert {0: 3} == one.ends[TOPIC]
    assert [(1,), (1,), (2,)] == [key for key, _ in decoded(transport)]


def test_nothing_to_send_sends_nothing() -> None:
    transport = FakeTransport()
    assert 0 == publisher(transport).send({"cases": []}, [])
    assert [] == stored(transport, TOPIC)
