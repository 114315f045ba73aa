"""What one consumer fetched ahead is served as a fresh read would bring it, whatever else it reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import pytest

from adapters.kafka_ahead import ReadAhead
from adapters.kafka_driver import Polled
from schemas.change import Stored, TopicPartition
from schemas.errors import Code, Failed, TailraceError

A, B = TopicPartition("a", 0), TopicPartition("b", 0)


class Broker:
    """Partitions by name; a topic that is made again has another id and other messages."""

    def __init__(self) -> None:
        self.held: dict[TopicPartition, list[Stored]] = {A: [], B: []}
        self.ids = {"a": "a1", "b": "b1"}
        self.readers: list[Consumer] = []
        self.looks = 0

    def fill(self, where: TopicPartition, offsets: Iterable[int], value: bytes = b"") -> None:
        self.held[where] += [Stored(where.topic, where.partition, at, 0, b"k", value, ()) for at in offsets]

    def looked(self, topics: Iterable[str]) -> dict[str, str]:
        self.looks += 1
        return {topic: self.ids[topic] for topic in topics}

    def ends(self, parts: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
        return {where: self.held[where][-1].offset + 1 if self.held[where] else 0 for where in parts}

    def reader(self) -> Consumer:
        self.readers.append(Consumer(self))
        return self.readers[-1]


class Consumer:
    """Like librdkafka: everything that it reads is fetched at once, and handed out in that order."""

    def __init__(self, broker: Broker) -> None:
        self.broker = broker
        self.at: dict[TopicPartition, int] = {}
        self.stood: dict[TopicPartition, int] = {}
        self.fetched: list[Stored] = []
        self.sought: list[Mapping[TopicPartition, int]] = []
        self.lost: dict[TopicPartition, TailraceError] = {}
        self.breaks: TailraceError | None = None
        self.closed = False

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        assert not self.at.keys() & places.keys()
        self.sought.append(dict(places))
        self.at |= places
        self.stood |= places
        self._fetch()

    def leave(self, parts: Collection[TopicPartition]) -> None:
        for where in parts:
            del self.at[where]
        self.fetched = [one for one in self.fetched if TopicPartition(one.topic, one.partition) in self.at]

    def poll(self, *, max_messages: int, timeout_s: float) -> Polled:
        del timeout_s
        self._fetch()
        some, self.fetched = self.fetched[:max_messages], self.fetched[max_messages:]
        if self.breaks is not None:
            raise self.breaks
        found: dict[TopicPartition, list[Stored]] = {}
        for one in some:
            where = TopicPartition(one.topic, one.partition)
            found.setdefault(where, []).append(one)
            self.stood[where] = one.offset + 1
        lost, self.lost = self.lost, {}
        return Polled(found, lost)

    def stands(self, where: TopicPartition) -> int:
        return self.stood[where]

    def close(self) -> None:
        self.closed = True

    def _fetch(self) -> None:
        for where, at in self.at.items():
            new = [one for one in self.broker.held[where] if one.offset >= at]
            self.fetched += new
            if new:
                self.at[where] = new[-1].offset + 1


@pytest.fixture
def broker() -> Broker:
    return Broker()


def _read(
    ahead: ReadAhead,
    *wanted: tuple[TopicPartition, int, int],
    most: int = 100,
    most_bytes: int = 1 << 20,
    ids: Mapping[str, str] | None = None,
) -> tuple[list[tuple[str, int, bytes]], list[int]]:
    asked = {where: (start, end) for where, start, end in wanted}
    fetched = ahead.read(asked, max_messages=most, max_bytes=most_bytes, ids=ids)
    messages = [(one.topic, one.offset, one.value or b"") for one in fetched.messages]
    return messages, [fetched.next[where] for where in asked]


def _of(where: TopicPartition, offsets: Iterable[int], value: bytes = b"") -> list[tuple[str, int, bytes]]:
    return [(where.topic, at, value) for at in offsets]


def test_partitions_in_turn_are_each_sought_once(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(6))
    broker.fill(B, range(6))
    for at in range(6):
        assert (_of(A, [at]), [at + 1]) == _read(ahead, (A, at, at + 1))
        assert (_of(B, [at]), [at + 1]) == _read(ahead, (B, at, at + 1))
    (reader,) = broker.readers
    assert [{A: 0}, {B: 0}] == reader.sought


def test_what_lies_behind_a_range_is_not_lost(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(10))
    broker.fill(B, range(3))
    assert (_of(A, range(4)) + _of(B, range(3)), [4, 3]) == _read(ahead, (A, 0, 4), (B, 0, 3))
    assert (_of(A, range(4, 10)), [10]) == _read(ahead, (A, 4, 10))
    assert 1 == len(broker.readers[0].sought)


def test_the_same_call_gives_the_same_messages(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(5))
    assert _read(ahead, (A, 0, 5)) == _read(ahead, (A, 0, 5)) == (_of(A, range(5)), [5])
    assert (_of(A, range(2, 5)), [5]) == _read(ahead, (A, 2, 5))


def test_limits_keep_the_rest_for_the_next_call(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(6), b"xx")
    assert (_of(A, [0, 1], b"xx"), [2]) == _read(ahead, (A, 0, 6), most=2)
    assert (_of(A, [2], b"xx"), [3]) == _read(ahead, (A, 2, 6), most_bytes=1)
    assert (_of(A, [3, 4, 5], b"xx"), [6]) == _read(ahead, (A, 3, 6))
    assert 1 == len(broker.readers[0].sought)


def test_gaps_of_compaction_are_stepped_over(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, [1, 4, 9])
    assert (_of(A, [1, 4]), [7]) == _read(ahead, (A, 0, 7))
    assert (_of(A, [9]), [10]) == _read(ahead, (A, 7, 10))


def test_what_was_fetched_ahead_of_a_topic_that_was_made_again_is_not_served(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(8), b"old")
    assert (_of(A, range(4), b"old"), [4]) == _read(ahead, (A, 0, 4))
    broker.ids["a"], broker.held[A] = "a2", []
    broker.fill(A, range(8), b"new")
    assert (_of(A, range(4, 8), b"new"), [8]) == _read(ahead, (A, 4, 8))
    assert [True, False] == [one.closed for one in broker.readers]


def test_who_names_the_id_is_served_without_a_look_and_never_of_another_topic(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(8), b"old")
    first = {"a": "a1"}
    assert (_of(A, range(2), b"old"), [2]) == _read(ahead, (A, 0, 2), ids=first)
    assert (_of(A, [2, 3], b"old"), [4]) == _read(ahead, (A, 2, 4), ids=first)
    assert 1 == broker.looks
    broker.ids["a"], broker.held[A] = "a2", []
    broker.fill(A, range(8), b"new")
    assert (_of(A, [4, 5], b"new"), [6]) == _read(ahead, (A, 4, 6), ids={"a": "a2"})
    assert (2, [True, False]) == (broker.looks, [one.closed for one in broker.readers])


def test_following_brings_what_came_and_never_of_another_topic(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)

    def follow(at: int, topic_id: str, most: int = 100) -> tuple[list[tuple[str, int, bytes]], int]:
        fetched = ahead.follow({A: at}, max_messages=most, max_bytes=1 << 20, timeout_s=0.0, ids={"a": topic_id})
        return [(one.topic, one.offset, one.value or b"") for one in fetched.messages], fetched.next[A]

    broker.fill(A, range(3), b"old")
    assert (_of(A, [0, 1], b"old"), 2) == follow(0, "a1", most=2)
    assert (_of(A, [2], b"old"), 3) == follow(2, "a1")
    assert ([], 3) == follow(3, "a1")
    broker.fill(A, range(3, 6), b"old")
    assert (_of(A, [3], b"old"), 4) == follow(3, "a1", most=1)
    assert (1, 1) == (broker.looks, len(broker.readers))
    broker.ids["a"], broker.held[A] = "a2", []
    broker.fill(A, range(6), b"new")
    assert (_of(A, [4, 5], b"new"), 6) == follow(4, "a2")
    broker.readers[-1].lost[A] = Failed(Code.STREAM_REWOUND, "out of range", hint="")
    with pytest.raises(Failed):
        follow(6, "a2")


def test_where_a_read_will_go_on_is_sought_beforehand(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(4))
    ahead.begin({A: 2, B: 0})
    assert (_of(A, [2, 3]), [4]) == _read(ahead, (A, 2, 4))
    assert [{A: 2, B: 0}] == broker.readers[0].sought


def test_a_range_that_is_not_there_yet_ends_where_the_partition_ends(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(3))
    assert (_of(A, range(3)), [3]) == _read(ahead, (A, 0, 9))
    assert ([], [3]) == _read(ahead, (A, 3, 9))


def test_messages_polled_before_an_error_are_read_again(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(8))
    _read(ahead, (A, 0, 2))
    broker.fill(A, range(8, 12))
    broker.readers[0].breaks = Failed(Code.STREAM_IO, "broken", hint="")
    with pytest.raises(Failed):
        _read(ahead, (A, 2, 12))
    assert (_of(A, range(2, 12)), [12]) == _read(ahead, (A, 2, 12))


def test_a_partition_that_nobody_wants_now_may_break(broker: Broker) -> None:
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends)
    broker.fill(A, range(4))
    broker.fill(B, range(4))
    _read(ahead, (A, 0, 2), (B, 0, 2))
    broker.readers[0].lost[A] = Failed(Code.STREAM_REWOUND, "out of range", hint="")
    broker.fill(B, range(4, 8))
    assert (_of(B, range(2, 8)), [8]) == _read(ahead, (B, 2, 8))
    broker.fill(A, range(4, 8))
    assert (_of(A, range(2, 8)), [8]) == _read(ahead, (A, 2, 8))
    broker.readers[0].lost[A] = Failed(Code.STREAM_REWOUND, "out of range", hint="")
    broker.fill(A, range(8, 9))
    with pytest.raises(Failed):
        _read(ahead, (A, 8, 9))


def test_a_backlog_that_is_in_the_way_is_read_again_later(broker: Broker) -> None:
    """A table that is being copied: its partition was read, is held, and others go on."""
    ahead = ReadAhead(broker.reader, broker.looked, broker.ends, keep_bytes=10_000)
    broker.fill(A, range(2))
    _read(ahead, (A, 0, 2))
    broker.fill(A, range(2, 5000), b"x" * 100)
    broker.fill(B, range(3))
    assert (_of(B, range(3)), [3]) == _read(ahead, (B, 0, 3))
    assert {B} == set(broker.readers[0].at)
    offsets = [at for _, at, _ in _read(ahead, (A, 2, 5000), most=10_000)[0]]
    assert list(range(2, 5000)) == offsets
