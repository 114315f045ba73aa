"""Routes and reports between Tailrace and the routers: through the run folder, and through a Valkey that may die."""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from adapters import redis as board_module
from adapters.redis import RedisBoard
from cutover.routing import RoutePublisher, read_reports
from embedded.valkey import EmbeddedValkey
from ops.clock import SystemClock
from schemas.authority import Authority
from tailrace_router import CallableRoute, FileRoute, FolderReports, Route, Router, Side, redis_link
from tailrace_router.redis_link import RedisReports, RedisRoute
from tests.cutover_rig import Rig, begun


def until(happened: Callable[[], bool], *, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[tuple[EmbeddedValkey, str]]:
    server = EmbeddedValkey(tmp_path / "valkey")
    yield server, server.start()
    server.stop()


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(Rig(tmp_path, database_url), "INSERT INTO t VALUES (1, ?, 'a')") as made:
        yield made


def publisher(rig: Rig, folder: Path, board: RedisBoard | None = None) -> RoutePublisher:
    said = rig.said
    return RoutePublisher(
        rig.target,
        sorted(rig.sides),
        folder,
        board,
        SystemClock(),
        lambda action, text: said.append(f"{action} {text}"),
    )


def test_a_route_says_what_the_row_says(rig: Rig, tmp_path: Path) -> None:
    """From the row over the file to a decision, through a switch, with what one source has applied as a lower bound."""
    folder = tmp_path / "run"
    routes = publisher(rig, folder)
    routes.publish()
    found = FileRoute(folder / "route.json").read()
    assert found is not None
    assert (0, "source", True) == (found.epoch, found.authority, found.consistent)
    heads = {name: side.app.rows("SELECT max(seq) FROM _tailrace_log")[0][0] for name, side in rig.sides.items()}
    assert all(found.applied[name] >= head for name, head in heads.items())
    rig.sides["cases"].app.run("UPDATE t SET v = 'later'")
    later = rig.sides["cases"].app.rows("SELECT max(seq) FROM _tailrace_log")[0][0]
    routes.publish()
    behind = FileRoute(folder / "route.json").read()
    assert behind is not None
    assert behind.applied["cases"] < later
    rig.settle()
    outcome = rig.switch().run(rig.row.read())
    routes.told(Authority.TARGET, outcome.token)
    after = FileRoute(folder / "route.json").read()
    assert after is not None
    assert (outcome.token, Side.TARGET) == (after.epoch, after.writes)
    assert [] == rig.said


def test_a_source_that_the_target_does_not_know_leaves_the_lag_unknown(rig: Rig, tmp_path: Path) -> None:
    routes = RoutePublisher(rig.target, [*rig.sides, "more"], tmp_path / "run", None, SystemClock(), lambda *_: None)
    routes.publish()
    found = FileRoute(tmp_path / "run" / "route.json").read()
    assert found is not None
    assert (None, 0) == (found.lag_ms, Route(1, read_share=9, consistent=True, lag_ms=found.lag_ms).share_within(10**9))


def test_an_older_route_does_not_replace_a_newer_one(
    rig: Rig, tmp_path: Path, valkey: tuple[EmbeddedValkey, str]
) -> None:
    """A publisher that was stopped wakes up and publishes what it had in its hands."""
    _, url = valkey
    board = RedisBoard(lambda: url, prefix="p", allow_plaintext=False)
    routes, folder = publisher(rig, tmp_path / "run", board), tmp_path / "run"
    routes.publish_alone(Authority.TARGET, 6)
    routes.publish_alone(Authority.TO_TARGET, 5)
    assert 6 == json.loads((folder / "route.json").read_text())["epoch"]
    router = Router([RedisRoute(url, prefix="p")])
    assert (6, "target") == (router.state().route.epoch, router.state().route.authority)
    assert not board.put_route(Route(6).text(), epoch=6, published_at_ms=1)
    router.close()
    routes.close()
    (folder / "route.json").write_text("torn")
    routes.publish_alone(Authority.TARGET, 7)
    assert 7 == json.loads((folder / "route.json").read_text())["epoch"]


def test_a_target_that_is_away_leaves_what_the_mover_knows(tmp_path: Path, rig: Rig) -> None:
    from adapters.postgres import Postgres

    said: list[str] = []
    nowhere = Postgres("postgresql://nobody@127.0.0.1:1/none", application_name="test")
    routes = RoutePublisher(
        nowhere, ["a"], tmp_path / "run", None, SystemClock(), lambda action, _: said.append(action)
    )
    for _ in range(3):
        routes.told(Authority.SOURCE, 9)
    found = FileRoute(tmp_path / "run" / "route.json").read()
    assert found is not None
    assert (9, Side.SOURCE, 0) == (found.epoch, found.writes, found.share_within(10**9))
    assert ["route.unpublished"] == said


class Requests:
    """Threads that read and write by the router; every failure is kept."""

    def __init__(self, path: Path, router: Router) -> None:
        self.router = router
        self.path = path
        self.done: list[Side] = []
        self.failed: list[str] = []
        self.end = threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(number,)) for number in range(8)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        with closing(sqlite3.connect(self.path, timeout=60, isolation_level=None)) as db:
            turn = 0
            while not self.end.wait(0.01):
                turn += 1
                try:
                    with self.router.read(f"{number}-{turn}") as side:
                        db.execute("SELECT count(*) FROM t").fetchone()
                    self.router.retrying(lambda side: db.execute("INSERT INTO t(v) VALUES ('x')"))
                    self.done.append(side)
                except Exception as error:  # noqa: BLE001 - none may happen
                    self.failed.append(repr(error))

    def stop(self) -> None:
        self.end.set()
        for thread in self.threads:
            thread.join()

    def more(self, side: Side, count: int) -> Callable[[], bool]:
        before = self.done.count(side)
        return lambda: self.done.count(side) >= before + count


def test_redis_killed_in_the_middle_of_a_shift_loses_no_request(
    tmp_path: Path, valkey: tuple[EmbeddedValkey, str]
) -> None:
    server, url = valkey
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as db:
        db.executescript("PRAGMA journal_mode=WAL; CREATE TABLE t(id INTEGER PRIMARY KEY, v)")
    board = RedisBoard(lambda: url, prefix="p", allow_plaintext=False)

    def publish(share: int) -> None:
        now_ms = time.time_ns() // 1_000_000
        document = Route(4, "source", share, 1, now_ms, True, 10).text()
        board.put_route(document, epoch=4, published_at_ms=now_ms)

    publish(1000)
    router = Router(
        [RedisRoute(url, prefix="p")], reports=[RedisReports(url, prefix="p")], report_s=0.2, stale_s=2.0, wait_s=0.5
    )
    requests = Requests(path, router)
    publish(5000)
    until(requests.more(Side.TARGET, 20))
    until(lambda: 4 == read_reports(tmp_path, board, now_ms=0).instances[router.instance].epoch)
    server.kill()
    until(lambda: router.state().gone)
    until(requests.more(Side.SOURCE, 20))
    until(lambda: not router.state().fresh)
    requests.done.clear()
    until(requests.more(Side.SOURCE, 60))
    # Each thread may have been in the middle of a request that began before.
    late = requests.done.count(Side.TARGET)
    assert late <= len(requests.threads), "nobody says any more how far the target is"
    assert ("Redis",) == read_reports(tmp_path, board, now_ms=0).unreadable
    server.start()

    def published_again() -> bool:
        publish(10_000)
        return router.state().fresh and not router.state().gone

    until(published_again)
    until(requests.more(Side.TARGET, 20))
    requests.stop()
    assert [] == requests.failed
    with closing(sqlite3.connect(path)) as db:
        assert (len(requests.done) > 0, True) == (True, db.execute("SELECT count(*) FROM t").fetchone()[0] > 60)
    router.close()
    assert {} == dict(read_reports(tmp_path, board, now_ms=0).instances)
    board.close()


def test_a_report_of_a_process_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    router = Router([CallableRoute(lambda: None)], reports=[FolderReports(tmp_path / "router")], report_s=0.05)
    until(lambda: 1 == len(list((tmp_path / "router").glob("*.json"))))
    now_ms = time.time_ns() // 1_000_000
    assert {router.instance} == set(read_reports(tmp_path, None, now_ms=now_ms).instances)
    router._closed = True
    router._wake.set()
    router._thread.join()
    assert {} == dict(read_reports(tmp_path, None, now_ms=now_ms + 700_000).instances)
    assert [] == list((tmp_path / "router").glob("*.json"))


def test_both_sides_give_reports_the_same_time() -> None:
    assert board_module.REPORT_TTL_S == redis_link.REPORT_TTL_S
