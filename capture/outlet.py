"""Do: the end of every capture, in either direction: records under labels, then the watermark that closes them.

Invariant: a watermark's ends come from what this publisher has acknowledged (capture/publish.py), never from a listing at
its time, and it names the ids that their topics had before the first of its records was sent; it is written only when the
caller's view held no more entries. The last watermark is the memory of capture: whoever begins anew reads it back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from capture.publish import Publisher
from schemas.change import Notice, Position, Record, Watermark
from schemas.ports import Clock, TopicSettings, Transport
from schemas.wire import watermark_message

WATERMARKS = TopicSettings(min_compaction_lag_ms=5 * 60 * 1000)
"""Only the last watermark is ever needed again; one a second for a week of idling would be a gigabyte."""


class Outlet:
    """One stream that is written. Not thread-safe."""

    def __init__(
        self,
        transport: Transport,
        clock: Clock,
        publisher: Publisher,
        *,
        topic: str,
        source: str,
        identity: str,
        path: str = "",
        last: Watermark | None,
    ) -> None:
        self._transport = transport
        self._clock = clock
        self._topic = topic
        self._source = source
        self._identity = identity
        self._path = path
        self.publisher = publisher
        self.last = last
        self._oldest_ts_ms: int | None = None
        self._sent_at_ms = 0

    def send(
        self,
        records: Mapping[str, Sequence[Record]],
        notices: Sequence[Notice],
        *,
        stamps_ms: Sequence[int | None] = (),
    ) -> int:
        """Returns the bytes sent, when all is acknowledged. `stamps_ms`: statement times of the entries behind the records."""
        sent_bytes = self.publisher.send(records, notices)
        known = [stamp for stamp in stamps_ms if stamp is not None]
        if known and self._oldest_ts_ms is None:
            self._oldest_ts_ms = min(known)
        return sent_bytes

    def watermark(
        self, position: Position, *, digest: str = "", fingerprint: str = "", heartbeat: bool = False
    ) -> None:
        made = Watermark(
            source=self._source,
            seq=position.seq,
            ends={topic: dict(ends) for topic, ends in self.publisher.ends.items()},
            captured_at_ms=self._clock.now_ms(),
            identity=self._identity,
            fingerprint=fingerprint,
            digest=digest,
            topics=dict(self.publisher.topics),
            oldest_ts_ms=self._oldest_ts_ms,
            token=position.token,
            path=self._path,
            heartbeat=heartbeat,
        )
        self._transport.send([watermark_message(self._topic, made)])
        self.last = made
        self._oldest_ts_ms = None
        self._sent_at_ms = self._clock.monotonic_ms()

    def heartbeat_due(self, every_ms: int) -> bool:
        return self.last is not None and self._clock.monotonic_ms() - self._sent_at_ms >= every_ms
