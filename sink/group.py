"""Do: share the sources of one configuration among several sinks, one owner a source.

A member is a session that holds the group's lock shared; a source belongs to the session that holds its lock. Both end with
the session, so that what a dead member had is free at once, and a silent one is ended by whoever looks
(adapters/lease.py). There is no leader and nothing is written down: every member sees the same locks and counts the same
share. A source moves between two cuts only, and whoever had it loses every later compare-and-set.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from adapters.lease import Holder, Leases, key_of
from adapters.postgres import Postgres
from schemas.errors import Superseded
from schemas.ports import Clock
from sink.progress import lock_key

LOOKS = 10
"""Looks within one time-out."""
LOOK_MAX_MS = 1000


class Tail(Protocol):
    def step(self) -> bool: ...
    def close(self) -> None: ...


def share(sources: int, members: Sequence[int], me: int) -> int:
    """How many sources are mine: equal parts, and one more for the first members, so that the shares add up."""
    base, more = divmod(sources, max(1, len(members)))
    return base + (members.index(me) < more) if me in members else 0


class SinkGroup:
    """One member. All its sinks share its session: what the server says of that session it says of all of them."""

    def __init__(
        self,
        group: str,
        sources: Sequence[str],
        target: Postgres,
        make: Callable[[str], Tail],
        clock: Clock,
        *,
        timeout_ms: int,
        say: Callable[[str, str], None],
    ) -> None:
        self._target = target
        self._make = make
        self._clock = clock
        self._say = say
        self._timeout_ms = timeout_ms
        # A little early: the look that finds it out, and the claim, are part of the time-out.
        self._leases = Leases(target, clock, timeout_ms=timeout_ms * 8 // 10)
        self._group_key = key_of(f"tailrace:group:{group}")
        self._keys = {source: lock_key(source) for source in sources}
        self._pid: int | None = None
        self._owned: dict[str, Tail] = {}
        self._kept: set[str] = set()
        """Taken beyond the share, since whoever they were for did not come."""
        self._free_since_ms: dict[str, int] = {}
        self._members: list[int] = []
        self._looked_at_ms = 0
        self._standing_by = False

    def step(self) -> bool:
        """See who is there and what is free; take and give back."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._looked_at_ms < min(LOOK_MAX_MS, self._timeout_ms // LOOKS):
            return False
        self._looked_at_ms = now_ms
        if self._pid is None or self._target.backend_pid != self._pid:
            self._join()
        holders = self._leases.holders([self._group_key, *self._keys.values()])
        self._end_silent(holders)
        members = [one.pid for one in sorted(holders, key=lambda one: (one.since_s, one.pid)) if self._is_member(one)]
        if members != self._members:
            self._members, self._kept = members, set()
        held = {one.key for one in holders if one.key != self._group_key}
        free = [source for source, key in self._keys.items() if key not in held]
        self._free_since_ms = {source: self._free_since_ms.get(source, now_ms) for source in free}
        assert self._pid is not None
        mine = share(len(self._keys), members, self._pid) + len(self._kept)
        for source in list(self._owned)[mine:]:
            self._give_back(source)
        self._take(free, mine, now_ms)
        # Not while a share of its own is about to be given back by somebody.
        if self._standing_by != (not self._owned and mine == 0):
            self._standing_by = not self._standing_by
            if self._standing_by:
                self._say("sink.standby", f"{len(members)} members apply every source; this one stands by")
        return False

    def sink_of(self, source: str) -> SharedSink:
        return SharedSink(self, source)

    def owners(self, source: str, stepper: Tail) -> OwnersAlone:
        """Something else that only the owner of a source does: its keys on the way back."""
        return OwnersAlone(self, source, stepper)

    def tail(self, source: str) -> Tail | None:
        """The sink of a source that this member owns through the session it has now."""
        return self._owned.get(source) if self._target.backend_pid == self._pid else None

    def lost(self, source: str) -> None:
        """Somebody else has the source: a stopped process that woke up comes here."""
        self._say("sink.lost", f"{source}: another sink took it over")
        self._drop(source)

    def close(self) -> None:
        """Everything is free for the others once this returns."""
        self._target.free_advisory_locks()
        self._target.close()

    def _join(self) -> None:
        """A new session owns nothing: what the former one had belongs to whoever took it meanwhile."""
        if self._owned:
            self._say("sink.session_lost", f"the session that owned {', '.join(self._owned)} has ended; joining again")
        self._owned, self._kept, self._pid = {}, set(), None
        self._target.refuse_pooler()
        self._target.rows("SELECT pg_advisory_lock_shared(%s)", (self._group_key,))
        self._pid = self._target.backend_pid

    def _is_member(self, one: Holder) -> bool:
        return one.key == self._group_key

    def _end_silent(self, holders: Sequence[Holder]) -> None:
        """Only members: a sink that was started alone for a source keeps it."""
        for one in self._leases.end_silent([one for one in holders if self._is_member(one)]):
            self._say("sink.member_silent", f"session {one.pid} did nothing for {one.silent_ms} ms and was ended")

    def _take(self, free: Sequence[str], mine: int, now_ms: int) -> None:
        for source in free:
            orphan = now_ms - self._free_since_ms[source] >= self._timeout_ms
            if len(self._owned) >= mine and not orphan:
                continue
            if not self._target.try_advisory_lock(self._keys[source]):
                continue
            if len(self._owned) >= mine:
                self._kept.add(source)
                mine += 1
            self._owned[source] = self._make(source)
            self._say("sink.took", f"{source}: {len(self._owned)} of {len(self._keys)} sources are applied here")

    def _give_back(self, source: str) -> None:
        self._drop(source)
        self._say("sink.gave_back", f"{source}: another member has less than its share")

    def _drop(self, source: str) -> None:
        self._owned.pop(source, None)
        self._kept.discard(source)
        if self._target.backend_pid == self._pid:
            self._target.release_advisory_lock(self._keys[source])


class SharedSink:
    """The stepper of one source: rests while another member owns it, so that each source backs off by itself."""

    def __init__(self, group: SinkGroup, source: str) -> None:
        self._group = group
        self._source = source

    def step(self) -> bool:
        tail = self._group.tail(self._source)
        if tail is None:
            return False
        try:
            return tail.step()
        except Superseded:
            self._group.lost(self._source)
            return False

    def close(self) -> None:
        """The session is the group's."""


class OwnersAlone:
    """A stepper that rests while another member owns the source."""

    def __init__(self, group: SinkGroup, source: str, stepper: Tail) -> None:
        self._group = group
        self._source = source
        self._stepper = stepper

    def step(self) -> bool:
        return self._group.tail(self._source) is not None and self._stepper.step()

    def close(self) -> None:
        self._stepper.close()
