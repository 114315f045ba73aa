"""Members of one group in one process, each with its own session on a real server: who takes and gives back what."""

from __future__ import annotations

from collections.abc import Callable

from adapters.postgres import Postgres
from schemas.errors import Code, Superseded
from sink.group import SinkGroup, share
from sink.progress import lock_key
from tests.model.world import SteppingClock

TIMEOUT_MS = 10_000
SOURCES = ["a", "b", "c", "d", "e"]


class Member:
    """A member whose sinks do nothing but count."""

    def __init__(self, url: str, clock: SteppingClock) -> None:
        self.target = Postgres(url, application_name="tailrace-sink-member")
        self.clock = clock
        self.said: list[str] = []
        self.steps: dict[str, int] = {}
        self.superseded: set[str] = set()
        self.group = SinkGroup(
            "tests",
            SOURCES,
            self.target,
            self._made,
            clock,
            timeout_ms=TIMEOUT_MS,
            say=lambda a, t: self.said.append(a),
        )

    def _made(self, source: str) -> _Counting:
        return _Counting(lambda: self._step(source))

    def _step(self, source: str) -> bool:
        if source in self.superseded:
            raise Superseded(Code.PROGRESS_LOST, "another sink took this source over", source=source)
        self.steps[source] = self.steps.get(source, 0) + 1
        return False

    def look(self) -> set[str]:
        """One look at the others and one step of every source; the sources that were stepped."""
        self.clock.ms += 1000
        self.group.step()
        self.steps = {}
        for source in SOURCES:
            self.group.sink_of(source).step()
        return set(self.steps)


class _Counting:
    def __init__(self, step: Callable[[], bool]) -> None:
        self.step = step

    def close(self) -> None:
        """Nothing is open."""


def _looks(*members: Member, rounds: int = 4) -> list[set[str]]:
    for _ in range(rounds):
        owned = [member.look() for member in members]
    return owned


def test_shares_add_up_and_differ_by_one_at_most() -> None:
    for sources in range(8):
        for members in range(1, 6):
            shares = [share(sources, list(range(members)), me) for me in range(members)]
            assert sources == sum(shares)
            assert max(shares) - min(shares) <= 1
    assert 0 == share(5, [1, 2], 3)


def test_a_member_that_comes_gets_its_share_and_what_a_dead_one_had_is_taken(database_url: str) -> None:
    clock = SteppingClock()
    one, two, three = (Member(database_url, clock) for _ in range(3))
    assert [set(SOURCES)] == _looks(one)
    first, second = _looks(one, two)
    assert (3, 2) == (len(first), len(second))
    assert set(SOURCES) == first | second
    shared = _looks(one, two, three)
    assert [2, 2, 1] == [len(owned) for owned in shared]
    assert set(SOURCES) == set.union(*shared)
    one.target.close()
    assert set(SOURCES) == set.union(*_looks(two, three))
    # Back with a new session, as the youngest.
    again = _looks(two, three, one)
    assert [2, 2, 1] == [len(owned) for owned in again]
    assert set(SOURCES) == set.union(*again)
    assert "sink.session_lost" in one.said
    for member in (one, two, three):
        member.target.close()


def test_more_members_than_sources_stand_by_and_say_so_once(database_url: str) -> None:
    clock = SteppingClock()
    members = [Member(database_url, clock) for _ in range(6)]
    owned = _looks(*members)
    assert [1, 1, 1, 1, 1, 0] == [len(some) for some in owned]
    assert 1 == members[5].said.count("sink.standby")
    for member in members:
        member.target.close()


def test_a_source_nobody_comes_for_is_taken_beyond_the_share(database_url: str) -> None:
    """A member that is held up in a long cut of another source looks at nothing meanwhile."""
    clock = SteppingClock()
    one, busy, outsider = Member(database_url, clock), Member(database_url, clock), Member(database_url, clock)
    first, second = _looks(one, busy)
    for source in second:
        busy.target.release_advisory_lock(lock_key(source))
    assert first == _looks(one, rounds=3)[0]
    # The other one is alive all the while: only its looks are missing.
    for _ in range(20):
        busy.target.rows("SELECT 1")
        owned = one.look()
    assert set(SOURCES) == owned
    assert set(SOURCES) == _looks(one)[0], "what was taken for want of another is not given back at once"
    # Somebody came: it is shared again.
    shared = _looks(one, outsider)
    assert len(shared[1]) >= 1
    assert set(SOURCES) >= shared[0] | shared[1]
    for member in (one, busy, outsider):
        member.target.close()


def test_a_source_that_was_lost_is_let_go_and_its_lock_with_it(database_url: str) -> None:
    clock = SteppingClock()
    one = Member(database_url, clock)
    _looks(one)
    one.superseded = {"b"}
    one.look()
    assert "sink.lost" in one.said
    other = Postgres(database_url, application_name="other")
    assert other.try_advisory_lock(lock_key("b"))
    assert set(SOURCES) - {"b"} == _looks(one, rounds=2)[0]
    other.close()
    one.target.close()


def test_a_sink_started_alone_keeps_its_source(database_url: str) -> None:
    clock = SteppingClock()
    alone = Postgres(database_url, application_name="tailrace-sink-c")
    assert alone.try_advisory_lock(lock_key("c"))
    one = Member(database_url, clock)
    assert set(SOURCES) - {"c"} == _looks(one, rounds=20)[0]
    assert alone.rows("SELECT 1") == [(1,)]
    alone.close()
    one.target.close()
