"""Do: verify what changed since the last clean verification: live before the claim, and the rest behind the fence.

The order is the argument. A mark is where every topic ended before a verification began; each key that changes after it
lies behind it. Before the claim, while everybody writes, the keys behind the mark are compared and the mark is moved, until
few are left: what writers change in the meantime is all that is compared while nobody can write. There nothing moves any
more, so a difference is one. It takes the switch back: a row that differs then would be what everybody reads from then on.
Bounded by keys and by seconds: what does not fit takes the switch back as well, and is never skipped
(test_more_changes_than_fit_take_the_switch_back).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from adapters.postgres import Postgres
from cutover.topic_keys import TopicKeys
from schemas.change import TableState, TopicPartition
from schemas.errors import Code, Differ, Failed, TailraceError
from schemas.model import Key
from schemas.names import topic_of
from schemas.ports import Clock, Registry, Transport
from sink.progress import offsets_from, offsets_text, read_progress
from verify.verification import Verification

ROUNDS = 8
FEW = 100
"""So little is left for the fence that another round would not make it less."""


@dataclass(frozen=True, slots=True)
class FinalSettings:
    keys: int = 5000
    """At most so many records are looked up while nobody can write."""
    budget_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Mark:
    """Where the topics of one source ended before its last clean verification."""

    offsets: Mapping[TopicPartition, int]
    topics: Mapping[str, str]
    generations: Mapping[str, int]


class Marks:
    """The marks of all sources, on the target."""

    def __init__(self, target: Postgres, transport: Transport, *, prefix: str) -> None:
        self._target = target
        self._transport = transport
        self._prefix = prefix

    def now(self, source: str) -> Mark:
        """To be stored once a verification that begins after this found nothing."""
        progress = read_progress(self._target, source)
        tables = progress.tables.values() if progress else ()
        generations = {one.table: one.generation for one in tables if one.state is not TableState.GONE}
        present = self._transport.topic_ids(topic_of(self._prefix, source, name) for name in generations)
        ends = self._transport.ends(present) if present else {}
        offsets = {TopicPartition(topic, part): end for topic, parts in ends.items() for part, end in parts.items()}
        return Mark(offsets, present, generations)

    def read(self, source: str) -> Mark | None:
        found = self._target.rows(
            "SELECT offsets::text, topics::text, generations::text FROM tailrace.verified WHERE source = %s", (source,)
        )
        return Mark(offsets_from(found[0][0]), json.loads(found[0][1]), json.loads(found[0][2])) if found else None

    def store(self, source: str, mark: Mark) -> None:
        store_mark(self._target, source, mark)

    def pending(self, source: str) -> tuple[int | None, str]:
        """(records since the mark, why it says nothing any more): at least as many as keys that changed."""
        return behind(self.read(source), self.now(source))

    def table_of(self, source: str, mark: Mark) -> dict[str, str]:
        """topic -> table."""
        return {topic_of(self._prefix, source, name): name for name in mark.generations}


def store_mark(target: Postgres, source: str, mark: Mark) -> None:
    """After a full verification of it that found nothing."""
    target.run(
        "INSERT INTO tailrace.verified(source, offsets, topics, generations) VALUES (%s, %s, %s, %s) ON CONFLICT "
        "(source) DO UPDATE SET at = clock_timestamp(), offsets = EXCLUDED.offsets, topics = EXCLUDED.topics, "
        "generations = EXCLUDED.generations",
        (source, offsets_text(mark.offsets), json.dumps(dict(mark.topics)), json.dumps(dict(mark.generations))),
    )


def behind(mark: Mark | None, now: Mark) -> tuple[int | None, str]:
    """As `Marks.pending`; pure."""
    if mark is None:
        return None, "no full and clean verification left a mark"
    for topic, known in mark.topics.items():
        if now.topics.get(topic, known) != known:
            return None, f"topic {topic} was made again since"
    for name, generation in now.generations.items():
        if mark.generations.get(name) != generation:
            return None, f"{name} was copied since"
    return sum(max(0, end - mark.offsets.get(where, 0)) for where, end in now.offsets.items()), ""


class FinalVerify:
    """Of one attempt. `checks`: source -> its verification, with connections of their own."""

    def __init__(
        self,
        marks: Marks,
        transport: Transport,
        registry: Registry,
        checks: Mapping[str, Verification],
        clock: Clock,
        settings: FinalSettings,
        *,
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
    ) -> None:
        self._marks = marks
        self._transport = transport
        self._keys = TopicKeys(transport, registry)
        self._checks = checks
        self._moving: dict[str, list[tuple[str, list[Key]]]] = {source: [] for source in checks}
        self._clock = clock
        self._settings = settings
        self._say = say

    def catch_up(self) -> dict[str, int]:
        """While everybody writes: compare what is behind the marks and move them, for as long as that leaves less and less.
        Returns source -> records that are left. Raises Failed(FINAL_DIFFERS | NOT_COMPARED)."""
        left: dict[str, int] = {}
        for _ in range(ROUNDS):
            before = sum(left.values())
            for source in self._checks:
                left[source] = self._caught_up(source)
            if sum(left.values()) <= FEW or 0 < before <= 2 * sum(left.values()):
                break
        return left

    def _caught_up(self, source: str) -> int:
        mark, after, _ = self._state(source)
        moving, self._moving[source] = self._moving[source], []
        compared = 0
        for table, keys in (*moving, *self._changed(source, mark, after)):
            self._compare(source, table, keys, live=True)
            compared += len(keys)
        self._marks.store(source, after)
        if compared:
            self._say("cutover.verified", f"{source}: {compared} changes since the last verification are equal")
        return self._state(source)[2]

    def verify(self, keep_lease: Callable[[], None]) -> None:
        """Behind the fence, with everything drained."""
        begun_s = lease_s = self._clock.monotonic_s()
        states = {source: self._state(source) for source in self._checks}
        waiting = {source: count for source, (_, _, count) in states.items()}
        if sum(waiting.values()) > self._settings.keys:
            raise self._too_many(waiting)
        for source, (mark, now, _) in states.items():
            for table, keys in (*self._moving[source], *self._changed(source, mark, now)):
                now_s = self._clock.monotonic_s()
                if now_s - begun_s > self._settings.budget_s:
                    raise self._too_many(waiting)
                if now_s - lease_s > 1.0:
                    keep_lease()
                    lease_s = now_s
                self._compare(source, table, keys, live=False)

    def _state(self, source: str) -> tuple[Mark, Mark, int]:
        """(its mark, where it stands now, records that wait to be compared)."""
        mark, now = self._marks.read(source), self._marks.now(source)
        count, why = behind(mark, now)
        if mark is None or count is None:
            raise Failed(Code.NOT_COMPARED, why, source=source, hint="tailrace verify")
        return mark, now, count + sum(len(keys) for _, keys in self._moving[source])

    def _changed(self, source: str, mark: Mark, upto: Mark) -> Iterator[tuple[str, list[Key]]]:
        """(table, keys) of every record from one mark to the other."""
        tables = self._marks.table_of(source, upto)
        for page in self._keys.since(upto.topics, mark.offsets, _ends(upto)):
            found: dict[str, dict[bytes, None]] = {}
            for stored in page:
                if stored.key is not None:
                    found.setdefault(tables[stored.topic], {})[stored.key] = None
            for table, raw in found.items():
                yield table, [self._keys.key(one) for one in raw]

    def _compare(self, source: str, table: str, keys: list[Key], *, live: bool) -> None:
        """`live`: a row that moves all the time is looked at again, behind the fence at the latest, where it stands still
        (test_a_row_that_never_stands_still_is_compared_behind_the_fence)."""
        wrong = self._checks[source].of_keys(table, keys)
        if live and (moving := [key for key, word in wrong if word == "not_compared"]):
            self._moving[source].append((table, moving))
            wrong = [pair for pair in wrong if pair[1] != "not_compared"]
        if not wrong:
            return
        words = sorted({word for _, word in wrong})
        if words == ["not_compared"]:
            raise Failed(
                Code.NOT_COMPARED,
                f"{len(wrong)} rows that changed since the last verification could not be compared",
                source=source,
                table=table,
                hint="tailrace verify",
            )
        raise Differ(
            Code.FINAL_DIFFERS,
            f"{len(wrong)} rows that changed since the last verification are {', '.join(words)}",
            source=source,
            table=table,
            hint="tailrace verify names them, tailrace repair sends them again; then tailrace cutover",
        )

    def _too_many(self, waiting: Mapping[str, int]) -> TailraceError:
        told = ", ".join(f"{source} {count}" for source, count in sorted(waiting.items()))
        bounds = f"cutover.final_verify_keys = {self._settings.keys}, final_verify_s = {self._settings.budget_s:g}"
        return Failed(
            Code.NOT_COMPARED,
            f"writers changed more since the last look than can be compared while they wait: {told} ({bounds})",
            hint="tailrace cutover again at a quieter time, or raise the bounds: the pause grows with them",
        )


def _ends(mark: Mark) -> dict[str, dict[int, int]]:
    ends: dict[str, dict[int, int]] = {}
    for where, end in mark.offsets.items():
        ends.setdefault(where.topic, {})[where.partition] = end
    return ends
