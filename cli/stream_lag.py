"""Do: how many records of the stream a sink has not applied, topic by topic: what lag tools of the broker call LAG.

End of the topic minus the offset that the target holds for it, over all partitions. The offset is committed to the
consumer group right after the target committed, so `kafka-consumer-groups` shows the same numbers
(test_the_tools_of_the_broker_show_the_same_lag). Changes in the source that are not in the stream yet are not in it: those
are `lag_changes`. Invariant: what cannot be read is None, never 0.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from adapters.postgres import Postgres
from cli.wiring import open_target, open_transport
from ops.config import Config
from schemas.change import Progress
from schemas.errors import TailraceError
from schemas.names import notice_topic, topic_of
from schemas.ports import Transport
from sink.progress import prepared, read_progress

AGAIN_S = 10.0
"""After a stream or a target that could not be read."""

Lags = dict[str, int | None]


class StreamLag:
    """Keeps its connections between looks."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._transport: Transport | None = None
        self._target: Postgres | None = None
        self._due_s = 0.0

    def look(self, source: str) -> Lags | None:
        """topic -> records; None as a whole where the stream or the target cannot be read, or nothing was applied yet."""
        if time.monotonic() < self._due_s:
            return None
        try:
            return self._look(source)
        except TailraceError:
            # The verb's other figures say what is wrong with the target; the stream's daemons say what is with it.
            self._due_s = time.monotonic() + AGAIN_S
            return None

    def _look(self, source: str) -> Lags | None:
        if self._target is None:
            self._target = open_target(self._config, "lag")
        # The offsets before the ends: what is applied in between makes the lag larger, never less than nothing.
        progress = read_progress(self._target, source) if prepared(self._target) else None
        if progress is None:
            return None
        if self._transport is None:
            kind = self._config.transport.kind
            if kind == "local" and not self._config.path(self._config.transport.path).exists():
                return None  # opening it would make it
            self._transport = open_transport(self._config)
        prefix = self._config.transport.prefix
        names = {topic_of(prefix, source, table) for table in progress.tables}
        names |= {where.topic for where in progress.offsets} | {notice_topic(prefix, source)}
        present = self._transport.topics(f"{prefix}.")
        ends = self._transport.ends(sorted(names & set(present)))
        return {name: _lag(name, ends, progress) for name in sorted(names)}

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()
        if self._target is not None:
            self._target.close()


def _lag(topic: str, ends: Mapping[str, Mapping[int, int]], progress: Progress) -> int | None:
    if topic not in ends:
        return None
    applied = {where.partition: at for where, at in progress.offsets.items() if where.topic == topic}
    return sum(max(0, end - applied.get(part, 0)) for part, end in ends[topic].items())


def whole(lags: Lags | None) -> int | None:
    """Of all topics; None where one of them is unknown."""
    if lags is None or None in lags.values():
        return None
    return sum(lag for lag in lags.values() if lag is not None)
