"""Any batches, read in any steps, come back once each, in order, with Kafka's partition."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from adapters.locallog import LocalLog
from schemas.change import Message, TopicPartition
from schemas.partition import murmur2
from schemas.ports import TopicSettings

with warnings.catch_warnings():
    # The client's package reads its version in a deprecated way; only its partitioner is wanted here.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka.partitioner.default import murmur2 as kafka_murmur2


@given(key=st.binary(max_size=70))
def test_murmur2_equals_the_clients(key: bytes) -> None:
    assert murmur2(key) == kafka_murmur2(key) % 2**32


@settings(max_examples=25, deadline=None)
@given(
    batches=st.lists(st.lists(st.tuples(st.binary(max_size=4), st.none() | st.binary(max_size=40)), max_size=8)),
    step=st.integers(1, 5),
    max_bytes=st.integers(1, 60),
)
def test_every_message_once_in_order(
    batches: list[list[tuple[bytes, bytes | None]]], step: int, max_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        log = LocalLog(Path(folder) / "stream.db")
        log.create_topics({"t": TopicSettings(partitions=3)})
        sent: dict[int, list[tuple[int, bytes, bytes | None]]] = {0: [], 1: [], 2: []}
        for batch in batches:
            placed = log.send([Message("t", key, value) for key, value in batch])
            for (part, offset), (key, value) in zip(placed, batch, strict=True):
                sent[part].append((offset, key, value))
        read: dict[int, list[tuple[int, bytes | None, bytes | None]]] = {0: [], 1: [], 2: []}
        wanted: dict[TopicPartition, tuple[int, int | None]] = {TopicPartition("t", part): (0, None) for part in read}
        while (fetched := log.fetch(wanted, max_messages=step, max_bytes=max_bytes)).messages:
            for one in fetched.messages:
                read[one.partition].append((one.offset, one.key, one.value))
            wanted = {where: (offset, None) for where, offset in fetched.next.items()}
        log.close()
    assert read == sent
    assert all([one[0] for one in part] == list(range(len(part))) for part in read.values())
