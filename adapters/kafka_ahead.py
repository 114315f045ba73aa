"""Do: read ranges of partitions through one consumer that is never turned away from what it fetches ahead.

Invariant: of every partition that is read, all messages from `start` up to `at` that the broker holds lie in `kept`, and
they are of the topic whose id was looked up before the first of them was asked for. A range is served from there only
after another look says that the id is the same, or to a caller who names this id and looks by itself afterwards: ids
never come back, so it was the same all the time between, and what is served is what a fresh read would bring.
Trap: what a consumer has fetched of a topic that was made again is given to whoever asks for the same offsets next: then
the consumer goes with all that it holds (test_what_was_fetched_ahead_of_a_topic_that_was_made_again_is_not_served).
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from adapters.kafka_driver import Reader
from schemas.change import Fetched, Stored, TopicPartition
from schemas.errors import Code, TailraceError, Transient

FETCH_S = 15.0
"""Without a single message from a range that holds some: the broker cannot be reached."""
POLL_S = 0.2
SILENT_S = 0.15
"""Without what was acknowledged: then it is asked whether it is there at all."""
STRAY_MESSAGES = 1000
"""Asked for without waiting after a poll brought only what nobody wants now."""
KEEP_BYTES = 32 << 20
"""Of messages that nobody wants now; above it their partitions are read again once they are wanted."""


@dataclass(slots=True)
class _Part:
    start: int
    at: int
    topic_id: str
    kept: deque[Stored] = field(default_factory=deque)

    @property
    def next(self) -> int:
        return self.kept[0].offset if self.kept else self.at


class ReadAhead:
    """The partitions that were asked for, until they are in the way.

    Args:
        made: makes a consumer; called again when a topic was made again.
        ids: topic -> id; raises Failed(TOPIC_MISSING).
        ends: where partitions end now; asked only when a range brings nothing.
    """

    def __init__(
        self,
        made: Callable[[], Reader],
        ids: Callable[[Iterable[str]], Mapping[str, str]],
        ends: Callable[[Sequence[TopicPartition]], Mapping[TopicPartition, int]],
        *,
        keep_bytes: int = KEEP_BYTES,
    ) -> None:
        self._made = made
        self._ids = ids
        self._ends = ends
        self._keep_bytes = keep_bytes
        self._reader: Reader | None = None
        self._parts: dict[TopicPartition, _Part] = {}
        self._kept_bytes = 0

    def read(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int]],
        *,
        max_messages: int,
        max_bytes: int,
        ids: Mapping[str, str] | None = None,
    ) -> Fetched:
        """At least one message of these ranges as far as they are there, or their ends where compaction left nothing."""
        with self._whole():
            return self._read(wanted, max_messages, max_bytes, ids or {})

    def _read(
        self,
        wanted: Mapping[TopicPartition, tuple[int, int]],
        max_messages: int,
        max_bytes: int,
        ids: Mapping[str, str],
    ) -> Fetched:
        reader = self._stand(wanted, ids)
        next_ = {where: start for where, (start, _) in wanted.items()}
        open_ = {where: upper for where, (_, upper) in wanted.items()}
        messages: list[Stored] = []
        taken_bytes, stray = 0, False
        asked_at = time.monotonic()
        deadline = asked_at + FETCH_S
        while True:
            for where, upper in list(open_.items()):
                room_bytes = max_bytes - taken_bytes
                taken_bytes += self._take(
                    self._parts[where], upper, messages, room=max_messages - len(messages), room_bytes=room_bytes
                )
                next_[where] = self._parts[where].start
                if next_[where] >= upper:
                    del open_[where]
            room = max_messages - len(messages)
            if not open_ or room <= 0 or taken_bytes >= max_bytes:
                break
            # consume(n) of librdkafka waits for n messages: what is asked for is what is there.
            ask, wait_s = min(room, sum(upper - next_[where] for where, upper in open_.items())), POLL_S
            polled = self._poll(
                reader, open_, max_messages=STRAY_MESSAGES if stray else ask, timeout_s=0.0 if stray else wait_s
            )
            stray = bool(polled) and not any(where in open_ for where in polled)
            if not polled:
                if messages:
                    break
                # librdkafka's ends of partitions are empty polls that took no time.
                if time.monotonic() - asked_at < SILENT_S:
                    continue
                if ids:
                    # Perhaps it was made again: this consumer may wait for ever.
                    return self._read(wanted, max_messages, max_bytes, {})
                there = self._ends(list(open_))
                open_ = {
                    where: min(upper, there[where]) for where, upper in open_.items() if next_[where] < there[where]
                }
            if time.monotonic() > deadline:
                raise Transient(
                    Code.STREAM_UNREACHABLE, "the broker sends nothing", hint="it is tried again; check the broker"
                )
        return Fetched(messages, next_)

    def follow(
        self,
        wanted: Mapping[TopicPartition, int],
        *,
        max_messages: int,
        max_bytes: int,
        timeout_s: float,
        ids: Mapping[str, str],
    ) -> Fetched:
        """What has come of these partitions by itself, and no question to the broker where they end: what is on its way
        comes with a later call."""
        messages: list[Stored] = []
        with self._whole():
            reader = self._stand({where: (at, at) for where, at in wanted.items()}, ids)
            parts = {where: self._parts[where] for where in wanted}
            if not any(one.kept for one in parts.values()):
                open_ = {where: one.at for where, one in parts.items()}
                self._poll(reader, open_, max_messages=max_messages, timeout_s=timeout_s)
            for one in parts.values():
                taken_bytes = sum(map(_weight, messages))
                room, room_bytes = max_messages - len(messages), max_bytes - taken_bytes
                self._take(one, one.at, messages, room=room, room_bytes=room_bytes)
        return Fetched(messages, {where: one.start for where, one in parts.items()})

    def begin(self, places: Mapping[TopicPartition, int]) -> None:
        """Somebody will read on from there: connections, leaders and the first fetch take up to a second."""
        with self._whole():
            reader = self._stand({where: (at, at) for where, at in places.items()}, {})
            self._poll(reader, {}, max_messages=1, timeout_s=POLL_S)

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """What was polled and not kept yet when something failed is a hole that no later read would see."""
        try:
            yield
        except BaseException:
            with contextlib.suppress(TailraceError):
                self.drop()
            raise

    def drop(self) -> None:
        """Forget everything; the next read begins with a consumer of its own."""
        reader, self._reader = self._reader, None
        self._parts.clear()
        self._kept_bytes = 0
        if reader is not None:
            reader.close()

    def _stand(self, wanted: Mapping[TopicPartition, tuple[int, int]], named: Mapping[str, str]) -> Reader:
        """Every wanted partition is read, from its start or with all from there on in hand."""
        if self._reader is not None and all(self._held(where, at, named) for where, (at, _) in wanted.items()):
            for where, (start, _) in wanted.items():
                self._skip(self._parts[where], start)
            return self._reader
        ids = self._ids(dict.fromkeys(where.topic for where in wanted))
        if any(ids.get(where.topic, one.topic_id) != one.topic_id for where, one in self._parts.items()):
            self.drop()
        if self._reader is None:
            self._reader = self._made()
        anew: dict[TopicPartition, int] = {}
        for where, (start, _) in wanted.items():
            one = self._parts.get(where)
            if one is None or not one.start <= start <= one.at:
                anew[where] = start
            else:
                self._skip(one, start)
        if anew:
            self._leave([where for where in anew if where in self._parts])
            self._reader.seek(anew)
            self._parts |= {where: _Part(start, start, ids[where.topic]) for where, start in anew.items()}
        return self._reader

    def _held(self, where: TopicPartition, start: int, named: Mapping[str, str]) -> bool:
        one = self._parts.get(where)
        return one is not None and one.topic_id == named.get(where.topic) and one.start <= start <= one.at

    def _skip(self, one: _Part, start: int) -> None:
        while one.kept and one.kept[0].offset < start:
            self._kept_bytes -= _weight(one.kept.popleft())
        one.start = start

    def _take(self, one: _Part, upper: int, messages: list[Stored], *, room: int, room_bytes: int) -> int:
        kept, taken_bytes = one.kept, 0
        while kept and kept[0].offset < upper and room > 0 and taken_bytes < room_bytes:
            message = kept.popleft()
            messages.append(message)
            room -= 1
            taken_bytes += _weight(message)
        self._kept_bytes -= taken_bytes
        # Over gaps that compaction left, and over what lies behind the range.
        one.start = max(one.start, min(one.next, upper))
        return taken_bytes

    def _poll(
        self, reader: Reader, open_: Mapping[TopicPartition, int], *, max_messages: int, timeout_s: float
    ) -> Mapping[TopicPartition, list[Stored]]:
        polled = reader.poll(max_messages=max_messages, timeout_s=timeout_s)
        for where, some in polled.messages.items():
            one = self._parts.get(where)
            if one is not None:
                one.kept.extend(some)
                one.at = some[-1].offset + 1
                self._kept_bytes += sum(map(_weight, some))
        for where, error in polled.lost.items():
            if where in open_:
                raise error
            self._leave([where])
        for where, upper in open_.items():
            one = self._parts[where]
            if one.at < upper:
                one.at = max(one.at, reader.stands(where))
        if self._kept_bytes > self._keep_bytes:
            self._leave([where for where, one in self._parts.items() if one.kept and where not in open_])
        return polled.messages

    def _leave(self, parts: list[TopicPartition]) -> None:
        if parts and self._reader is not None:
            self._reader.leave(parts)
        for where in parts:
            if (one := self._parts.pop(where, None)) is not None:
                self._kept_bytes -= sum(map(_weight, one.kept))


def _weight(message: Stored) -> int:
    return len(message.key or b"") + len(message.value or b"")
