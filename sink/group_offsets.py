"""Do: tell the transport's group what the target has committed; lag tools read it and nothing else.

Invariant: told after the target's commit and never on a cut's way: the broker's answer takes longer than a small cut.
What a sink that ended could not tell any more is told when the next one starts (test_the_group_hears_of_it_later).
"""

from __future__ import annotations

from collections.abc import Mapping

from schemas.change import TopicPartition
from schemas.ports import Clock, Transport

EVERY_MS = 200


class GroupOffsets:
    """Of one source."""

    def __init__(self, transport: Transport, clock: Clock, group: str) -> None:
        self._transport = transport
        self._clock = clock
        self._group = group
        self._told_at_ms = -EVERY_MS
        self.owed: Mapping[TopicPartition, int] = {}

    def tell(self) -> None:
        now_ms = self._clock.monotonic_ms()
        if self.owed and now_ms - self._told_at_ms >= EVERY_MS:
            self._transport.commit_group(self._group, self.owed)
            # Behind it: a failure that came only every so often would be a recovery in between, and a line in the log each.
            self._told_at_ms = now_ms
            self.owed = {}
