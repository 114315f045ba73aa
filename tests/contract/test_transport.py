"""One suite over every transport: offsets, bounds, order and errors are the same wherever the stream lives."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from ops.retry import with_retries
from schemas.change import Message, TopicPartition
from schemas.errors import Code, Failed, Refusal
from schemas.ports import TRANSPORT_CALLS, TopicSettings, Transport
from tests.fakes.transport import FakeTransport
from tests.fix_kafka import fresh_topics

T0 = TopicPartition("t", 0)


@pytest.fixture(params=["fake", "local", "kafka", "confluent"])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    made: Transport
    if request.param in ("kafka", "confluent"):
        driver = "kafka-python" if request.param == "kafka" else "confluent"
        fresh = fresh_topics(request.getfixturevalue("kafka_address"), driver=driver)
        made = with_retries(fresh, TRANSPORT_CALLS, for_s=20.0)
    else:
        made = FakeTransport() if request.param == "fake" else LocalLog(tmp_path / "stream.db")
    settings = {
        "t": TopicSettings(partitions=1, max_message_bytes=1000),
        "wide": TopicSettings(partitions=4),
        "plain": TopicSettings(compacted=False),
    }
    made.create_topics(settings)
    yield made
    made.close()


def _numbered(count: int) -> list[Message]:
    return [Message("t", b"k%d" % at, b"v%d" % at) for at in range(count)]


def test_offsets_start_at_zero_without_gaps(transport: Transport) -> None:
    assert transport.send(_numbered(3)) == [(0, 0), (0, 1), (0, 2)]
    assert transport.send(_numbered(1)) == [(0, 3)]
    assert transport.ends(["t"]) == {"t": {0: 4}}
    assert transport.begins(["t"]) == {"t": {0: 0}}


def test_a_topic_made_a_moment_ago_has_its_ends_beside_older_ones(transport: Transport) -> None:
    transport.send(_numbered(1))
    assert {"t": {0: 1}} == transport.ends(["t"])
    transport.create_topics({"new": TopicSettings(partitions=2)})
    assert {"t": {0: 1}, "new": {0: 0, 1: 0}} == transport.ends(["t", "new"])
    assert [] == transport.fetch({T0: (1, None), TopicPartition("new", 1): (0, None)}).messages


def test_fetch_keeps_order_content_and_headers(transport: Transport) -> None:
    headers = (("op", b"d"), ("seq", b"\x00\xff"))
    transport.send([Message("plain", b"k", None, headers), Message("plain", None, b"", ())])
    first, second = transport.fetch({TopicPartition("plain", 0): (0, None)}).messages
    assert (b"k", None, headers, 0) == (first.key, first.value, tuple(first.headers), first.offset)
    assert (second.key, second.value, tuple(second.headers)) == (None, b"", ())


def test_fetch_stops_at_its_bounds_and_says_where_to_go_on(transport: Transport) -> None:
    transport.send(_numbered(10))
    by_end = transport.fetch({T0: (2, 5)})
    assert ([one.offset for one in by_end.messages], dict(by_end.next)) == ([2, 3, 4], {T0: 5})
    by_count = transport.fetch({T0: (2, None)}, max_messages=3)
    assert ([one.offset for one in by_count.messages], dict(by_count.next)) == ([2, 3, 4], {T0: 5})
    by_bytes = transport.fetch({T0: (2, None)}, max_bytes=1)
    assert ([one.offset for one in by_bytes.messages], dict(by_bytes.next)) == ([2], {T0: 3})


def test_an_end_that_is_not_written_yet_is_not_stepped_over(transport: Transport) -> None:
    transport.send(_numbered(2))
    assert dict(transport.fetch({T0: (0, 9)}).next) == {T0: 2}


def test_equal_keys_share_a_partition(transport: Transport) -> None:
    placed = transport.send([Message("wide", b"k%d" % (at % 20), b"") for at in range(100)])
    assert [part for part, _ in placed[:20]] * 5 == [part for part, _ in placed]
    assert {0, 1, 2, 3} == {part for part, _ in placed}


def test_too_large_sends_nothing(transport: Transport) -> None:
    with pytest.raises(Failed) as caught:
        transport.send([*_numbered(1), Message("t", b"", b"x" * 1001)])
    assert caught.value.code == Code.RECORD_TOO_LARGE
    assert transport.ends(["t"]) == {"t": {0: 0}}


def test_a_missing_topic_is_named(transport: Transport) -> None:
    with pytest.raises(Failed) as caught:
        transport.ends(["nosuch"])
    assert caught.value.code == Code.TOPIC_MISSING


def test_create_is_idempotent_and_never_changes_the_partition_count(transport: Transport) -> None:
    before = transport.topic_ids(["t", "nosuch"])
    assert {"t"} == set(before)
    transport.create_topics({"t": TopicSettings(partitions=1, max_message_bytes=1000)})
    assert before == transport.topic_ids(["t"])
    with pytest.raises(Refusal):
        transport.create_topics({"t": TopicSettings(partitions=2)})
    assert dict(transport.topics("t")) == {"t": 1}


def test_group_offsets_come_back(transport: Transport) -> None:
    # A broker forgets the offsets of a deleted topic some time later: a name of its own for every run.
    group = uuid.uuid4().hex
    transport.commit_group(group, {T0: 7})
    transport.commit_group(group, {T0: 8})
    assert transport.committed(group, ["t"]) == {T0: 8}
    assert transport.committed(group, ["wide"]) == {}


def test_a_raised_limit_takes_larger_messages(transport: Transport) -> None:
    """A row that was too large is sent once the limit is raised, into the topic that is there."""
    large = Message("t", b"k", b"x" * 30_000)
    with pytest.raises(Failed) as caught:
        transport.send([large])
    assert Code.RECORD_TOO_LARGE == caught.value.code
    transport.create_topics({"t": TopicSettings(max_message_bytes=20 << 20)})
    transport.create_topics({"t": TopicSettings(max_message_bytes=500)})
    assert [(0, 0)] == transport.send([large])
    assert [(0, 1)] == transport.send([Message("t", b"k", b"x" * (19 << 20))])
    assert [30_000, 19 << 20] == [
        len(one.value or b"") for at in (0, 1) for one in transport.fetch({T0: (at, at + 1)}, timeout_s=5).messages
    ]
