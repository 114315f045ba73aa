"""The router in one process: routes from a list, errors as the two databases raise them."""

from __future__ import annotations

import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from cutover import reports as tailrace_reports
from tailrace_router import CallableRoute, FileRoute, FolderReports, Marker, Route, Router, Side, WritesMoving, moved
from tailrace_router import counts as router_counts
from tailrace_router.marker import Pins


class Published:
    """What is published now; None: the place is gone."""

    def __init__(self, route: Route | None) -> None:
        self.route = route
        self.asked = 0

    def __call__(self) -> str:
        self.asked += 1
        if self.route is None:
            raise ConnectionError("gone")
        return self.route.text()


def until(happened: Callable[[], bool], *, timeout_s: float = 20.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.005)


_published = [0]
"""Two routes of one millisecond would be one."""


def route(epoch: int, authority: str = "source", share: int = 0, **more: Any) -> Route:
    _published[0] = max(_published[0] + 1, time.time_ns() // 1_000_000)
    return Route(
        epoch, authority, share, 1, _published[0], more.pop("consistent", True), more.pop("lag_ms", 10), **more
    )


class Made:
    def __init__(self) -> None:
        self.published = Published(route(4))
        self.routers: list[Router] = []

    def router(self, **settings: Any) -> Router:
        one = Router([CallableRoute(self.published)], poll_s=0.01, **settings)
        self.routers.append(one)
        return one

    def publish(self, router: Router, route: Route) -> None:
        self.published.route = route
        until(lambda: router.state().route == route)


@pytest.fixture
def made() -> Iterator[Made]:
    one = Made()
    yield one
    for router in one.routers:
        router.close()


def test_reads_follow_the_share_and_writes_the_authority(made: Made) -> None:
    router = made.router()
    assert {Side.SOURCE} == {router.read_side(number) for number in range(200)}
    made.publish(router, route(4, share=5000))
    first = {number for number in range(200) if router.read_side(number) is Side.TARGET}
    assert 60 < len(first) < 140
    made.publish(router, route(4, share=7500))
    assert first < {number for number in range(200) if router.read_side(number) is Side.TARGET}
    with router.write() as side:
        assert Side.SOURCE is side
    made.publish(router, route(6, "target"))
    assert {Side.TARGET} == {router.read_side(number) for number in range(200)}
    with router.write() as side:
        assert "target" == str(side)


def test_the_target_is_read_only_while_it_is_near(made: Made) -> None:
    router = made.router(max_lag_ms=500)
    for wrong in ({"lag_ms": 501}, {"lag_ms": None}, {"consistent": False}):
        made.publish(router, route(4, share=10_000, lag_ms=10))
        assert Side.TARGET is router.read_side(1)
        time.sleep(0.002)
        made.publish(router, route(4, share=10_000, **wrong))
        assert Side.SOURCE is router.read_side(1)
        time.sleep(0.002)


def test_an_older_route_is_never_taken(made: Made) -> None:
    router = made.router()
    newer = route(6, "target")
    made.publish(router, newer)
    made.published.route = route(5, "to_target")
    asked = made.published.asked
    until(lambda: made.published.asked > asked + 3)
    assert newer == router.state().route


def test_the_newest_of_several_sources_counts() -> None:
    old, new = Published(route(4)), Published(route(6, "target"))
    router = Router([CallableRoute(new), CallableRoute(old)])
    assert 6 == router.state().route.epoch
    router.close()


def test_a_route_that_nobody_renews_sends_no_reads_to_the_target(made: Made) -> None:
    router = made.router(stale_s=0.3)
    made.publish(router, route(4, share=10_000))
    assert Side.TARGET is router.read_side(1)
    until(lambda: router.read_side(1) is Side.SOURCE)
    assert not router.state().fresh
    made.publish(router, route(4, share=10_000))
    assert Side.TARGET is router.read_side(1)


def test_a_file_that_lay_there_for_days_is_not_fresh(tmp_path: Path) -> None:
    old = Route(4, "source", 10_000, 1, 1_000_000, True, 1)
    (tmp_path / "route.json").write_text(old.text())
    router = Router(tmp_path / "route.json")
    assert old == router.state().route
    assert Side.SOURCE is router.read_side(1)
    router.close()


def test_when_every_source_is_gone_the_last_route_stays(made: Made) -> None:
    router = made.router(wait_s=0.1)
    made.publish(router, route(6, "target"))
    made.published.route = None
    until(lambda: router.state().gone)
    assert ["callable: ConnectionError"] == list(router.state().failing)
    with router.write() as side:
        assert Side.TARGET is side
    assert Side.TARGET is router.read_side(1)


def test_the_last_route_is_remembered_over_a_restart(tmp_path: Path) -> None:
    keep = tmp_path / "last.json"
    there = Published(route(6, "target"))
    one = Router([CallableRoute(there)], remember=keep)
    one.close()
    there.route = None
    other = Router([CallableRoute(there)], remember=keep)
    assert Side.TARGET is other.read_side(1)
    assert other.state().gone
    other.close()
    keep.write_text("half a docu")
    assert -1 == Router([], remember=keep).state().route.epoch


def fenced(token: int) -> sqlite3.IntegrityError:
    return sqlite3.IntegrityError(f"tailrace-fenced: writes moved away at token {token}; ask the router where to")


class Guarded(psycopg.errors.RaiseException):
    sqlstate = "TR001"


class Wrapped(Exception):
    """As an object mapper does it."""

    def __init__(self, orig: BaseException) -> None:
        super().__init__("wrapped")
        self.orig = orig


def test_errors_of_the_closed_side_are_known() -> None:
    assert 7 == moved(fenced(7))
    assert -1 == moved(Guarded("guarded"))
    assert 7 == moved(Wrapped(fenced(7)))
    assert -1 == moved(Wrapped(Guarded()))
    assert None is moved(sqlite3.IntegrityError("UNIQUE constraint failed: t.tailrace-fenced"))
    assert None is moved(ValueError())
    looped = ValueError()
    looped.__cause__ = looped
    assert None is moved(looped)


def test_a_write_that_meets_the_fence_waits_for_the_new_route(made: Made) -> None:
    router = made.router()
    with pytest.raises(WritesMoving) as caught, router.write():
        raise fenced(5)
    assert isinstance(caught.value.__cause__, sqlite3.IntegrityError)
    assert (5, True) == (caught.value.epoch, caught.value.retryable)
    # The route may still say epoch 4, then 5 (to_target): neither is where this write belongs.
    threading.Timer(0.1, lambda: setattr(made.published, "route", route(5, "to_target"))).start()
    threading.Timer(0.3, lambda: setattr(made.published, "route", route(6, "target"))).start()
    with router.write() as side:
        assert Side.TARGET is side


def test_a_fence_that_is_lifted_lets_the_write_through(made: Made) -> None:
    router = made.router()
    with pytest.raises(WritesMoving), router.write():
        raise fenced(5)
    made.published.route = route(6, "source")
    with router.write() as side:
        assert Side.SOURCE is side


def test_the_wait_is_bounded_and_then_the_database_is_asked(made: Made) -> None:
    """The fence was lifted and the route of it lost: an open side must not stay closed for ever."""
    router = made.router(wait_s=0.1)
    with pytest.raises(WritesMoving), router.write():
        raise fenced(5)
    with pytest.raises(WritesMoving, match="the source refuses writes"), router.write():
        pass
    with router.write() as side:
        assert Side.SOURCE is side
    made.publish(router, route(5, "to_target"))
    with pytest.raises(WritesMoving, match="both sides are closed"), router.write():
        pass


def test_with_no_route_left_the_databases_are_asked(made: Made) -> None:
    """Redis died in the middle of a switch. The side that is closed refuses; a wrong guess never writes on both."""
    router = made.router(wait_s=0.05)
    made.published.route = None
    until(lambda: router.state().gone)
    asked = []

    def transaction(side: Side) -> str:
        asked.append(side)
        if side is Side.SOURCE:
            raise fenced(5)
        return "written"

    assert "written" == router.retrying(transaction)
    assert [Side.SOURCE, Side.TARGET] == asked
    marker = router.wrote("u1", Side.TARGET)
    assert 5 == marker.epoch
    assert Side.TARGET is router.read_side("u1"), "its own write is there, though the route does not know it"
    assert Side.SOURCE is router.read_side("u2")


def test_retrying_gives_up_in_time_and_passes_other_errors_on(made: Made) -> None:
    router = made.router(wait_s=0.05)
    calls = []

    def closed(side: Side) -> None:
        calls.append(side)
        raise fenced(5)

    with pytest.raises(WritesMoving):
        router.retrying(closed, for_s=0.4)
    assert 1 <= len(calls)
    with pytest.raises(ZeroDivisionError):
        router.retrying(lambda side: 1 / 0)


def test_a_deadlock_is_tried_again(made: Made) -> None:
    """The return closes all tables; a transaction that locks them in another order may be its victim. Found by the story."""
    router = made.router()
    calls = []

    def transaction(side: Side) -> str:
        calls.append(side)
        if len(calls) == 1:
            raise psycopg.errors.DeadlockDetected
        return "written"

    assert "written" == router.retrying(transaction)
    with pytest.raises(psycopg.errors.UniqueViolation):
        router.retrying(lambda side: (_ for _ in ()).throw(psycopg.errors.UniqueViolation()))


def test_on_switch_hears_every_switch_once(made: Made) -> None:
    router = made.router()
    heard: list[Side] = []

    def broken(side: Side) -> None:
        raise RuntimeError

    router.on_switch(broken)
    router.on_switch(heard.append)
    for number, authority in enumerate(("to_target", "source", "to_target", "target", "target", "to_source", "source")):
        made.publish(router, route(5 + number, authority))
    until(lambda: 2 == len(heard))
    assert [Side.TARGET, Side.SOURCE] == heard
    assert 2 == router.state().callback_failures


def test_a_read_of_ones_own_write(made: Made) -> None:
    router = made.router()
    made.publish(router, route(4, share=10_000, applied={"cases": 10, "auth": 5}))
    assert Side.TARGET is router.read_side("u1")
    marker = router.wrote("u1", Side.SOURCE, {"cases": 12, "auth": 5})
    assert Side.SOURCE is router.read_side("u1")
    assert Side.TARGET is router.read_side("u2")
    assert Side.SOURCE is router.read_side("u2", after=marker.text()), "a marker from another process"
    made.publish(router, route(4, share=10_000, applied={"cases": 11, "auth": 9}))
    assert Side.SOURCE is router.read_side("u1")
    time.sleep(0.002)
    made.publish(router, route(4, share=10_000, applied={"cases": 12, "auth": 9}))
    assert Side.TARGET is router.read_side("u1")
    assert Side.TARGET is router.read_side("u2", after=marker)
    assert 0 == router.state().pins


def test_a_write_without_positions_holds_for_a_time(made: Made) -> None:
    router = made.router(hold_s=0.2)
    made.publish(router, route(4, share=10_000))
    router.wrote("u1", Side.SOURCE)
    assert Side.SOURCE is router.read_side("u1")
    until(lambda: router.read_side("u1") is Side.TARGET)


def test_a_marker_of_a_later_epoch_is_followed(made: Made) -> None:
    """The other process knows of the switch already; this one would read the side that is behind."""
    router = made.router()
    assert Side.TARGET is router.read_side("u1", after=Marker(6, Side.TARGET, 0).text())
    made.publish(router, route(8, "source"))
    assert Side.SOURCE is router.read_side("u1", after=Marker(6, Side.TARGET, 0).text())
    for nonsense in ("", "x", "1:nowhere:2:", "1:source:2:a=b", "::::"):
        assert Side.SOURCE is router.read_side("u1", after=nonsense)


def test_a_marker_comes_back_as_it_was() -> None:
    marker = Marker(3, Side.SOURCE, 17, {"a:b&c=d": 4, "cases": 5})
    assert marker == Marker.of(marker.text())
    assert Marker(3, Side.TARGET, 17) == Marker.of(Marker(3, Side.TARGET, 17).text())


def test_too_many_pins_pin_everybody() -> None:
    """The oldest are not forgotten: until their positions are applied, a key that is not kept counts as having written."""
    pins = Pins(limit=2)
    behind, there = route(4, applied={"cases": 5}), route(4, applied={"cases": 9})
    for number in range(4):
        pins.add(("user", str(number)), Marker(4, Side.SOURCE, 0, {"cases": 6 + number}))
    assert 2 == len(pins)
    assert Side.SOURCE is pins.side_for(("user", "0"), behind, now_ms=0, hold_ms=1)
    assert Side.SOURCE is pins.side_for(("user", "never wrote"), behind, now_ms=0, hold_ms=1)
    assert None is pins.side_for(("user", "0"), there, now_ms=0, hold_ms=1)
    assert Side.SOURCE is pins.side_for(("user", "3"), behind, now_ms=0, hold_ms=1)
    pins.sweep(there, now_ms=0, hold_ms=1)
    assert not pins


def test_reports_say_how_it_went(made: Made, tmp_path: Path) -> None:
    router = made.router(reports=[FolderReports(tmp_path)], report_s=0.05)
    made.publish(router, route(4, share=10_000))
    for _ in range(20):
        with router.read("u1"):
            pass
    with pytest.raises(ZeroDivisionError), router.read("u1"):
        _ = 1 / 0
    with router.write():
        pass
    with pytest.raises(WritesMoving), router.write():
        raise fenced(5)
    path = tmp_path / f"{router.instance}.json"

    def told() -> tailrace_reports.RouterReports:
        found = [tailrace_reports.Report(path.read_bytes(), 0.0)] if path.exists() else []
        return tailrace_reports.merged(found)

    def total() -> tailrace_reports.Window:
        return told().between(0, 1 << 60)

    until(lambda: 1 == total().source.moved)
    assert (21, 1) == (total().target.requests, total().target.failures)
    assert (1, 0, 1) == (total().source.requests, total().source.failures, total().source.moved)
    assert 20 == sum(total().target.latencies.values())
    assert 4 == told().instances[router.instance].epoch
    router.close()
    made.routers.clear()
    assert [] == list(tmp_path.iterdir())


def test_a_sink_of_reports_that_fails_disturbs_nobody(made: Made) -> None:
    class Broken:
        def send(self, instance: str, document: str) -> None:
            raise OSError

        gone = send

    router = made.router(reports=[Broken()], report_s=0.01)
    until(lambda: 0 < router.state().report_failures)
    made.publish(router, route(6, "target"))


def test_both_distributions_agree() -> None:
    """Nothing is imported from one into the other, so the numbers that both need are compared here."""
    assert (tailrace_reports.FORMAT, tailrace_reports.WINDOW_MS) == (router_counts.FORMAT, router_counts.WINDOW_MS)
    assert (tailrace_reports.FIRST_MS, tailrace_reports.GROWTH) == (router_counts.FIRST_MS, router_counts.GROWTH)


def test_a_latency_is_no_larger_than_its_bucket() -> None:
    for milliseconds in (0.001, 0.05, 0.06, 1.0, 17.3, 400.0, 60_000.0):
        number = router_counts.bucket_of(milliseconds / 1000)
        ends = router_counts.FIRST_MS * router_counts.GROWTH**number
        assert milliseconds <= ends * 1.000001
        assert number == 0 or milliseconds > ends / router_counts.GROWTH * 0.999999


def test_counts_stay_bounded() -> None:
    counts = router_counts.Counts()
    for second in range(2000):
        counts.succeeded(Side.SOURCE, 0.001, now_ms=second * 1000)
    document = json.loads(counts.document(instance="a", epoch=1, stale=False, at_ms=0))
    assert router_counts.KEPT_WINDOWS == len(document["windows"])
    assert 5 == document["windows"][-1]["source"]["requests"]


def test_a_forked_child_has_its_own_thread_and_name(made: Made) -> None:
    """A server that forks its workers after the router was made: threads do not come along."""
    router = made.router()
    parent = router.instance
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            made.published.route = route(6, "target")
            deadline = time.monotonic() + 20
            while router.read_side(1) is not Side.TARGET and time.monotonic() < deadline:
                time.sleep(0.01)
            os.write(write, f"{router.read_side(1)} {router.instance != parent}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert "target True" == os.read(read, 99).decode()
    os.close(read)


def test_a_file_that_is_replaced_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "route.json"
    source = FileRoute(path)
    with pytest.raises(FileNotFoundError):
        source.read()
    path.write_text(Route(1).text())
    assert Route(1) == source.read()
    assert None is source.read()
    whole = tmp_path / "new"
    whole.write_text(Route(2).text())
    whole.replace(path)
    assert Route(2) == source.read()
