"""Lag tools hear of what was applied, and no cut waits for it."""

from __future__ import annotations

from schemas.change import TopicPartition
from schemas.ports import TopicSettings
from sink.group_offsets import EVERY_MS, GroupOffsets
from tests.fakes.transport import FakeTransport

T0 = TopicPartition("t", 0)


class HandClock:
    ms = 0

    def now_ms(self) -> int:
        return self.ms

    def monotonic_ms(self) -> int:
        return self.ms

    def monotonic_s(self) -> float:
        return self.ms / 1000

    def sleep(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


def test_the_group_hears_of_it_later() -> None:
    transport, clock = FakeTransport(), HandClock()
    transport.create_topics({"t": TopicSettings(partitions=1)})
    group = GroupOffsets(transport, clock, "g")
    heard = []
    for offset in (3, 4, 5):
        group.owed = {T0: offset}
        group.tell()
        heard.append(transport.committed("g", ["t"]))
    clock.ms += EVERY_MS
    group.tell()
    heard.append(transport.committed("g", ["t"]))
    assert [{T0: 3}, {T0: 3}, {T0: 3}, {T0: 5}] == heard
