"""Do: publish the route to the application's routers, and read what they report.

Invariant: the route repeats what the authority row says and decides nothing: it may be late or lost at any moment, and
a writer that follows an old one meets the fence or the guard. So publishing never raises into a switch, and an older
route never replaces a newer one (test_an_older_route_does_not_replace_a_newer_one): routes are ordered by token, and
within one token by the target's own clock, whoever publishes.
How far the target is, is a lower bound: it was read before it is published (test_a_read_of_ones_own_write).
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from adapters.postgres import Postgres
from cutover.reports import Report, RouterReports, merged
from schemas.authority import Authority
from schemas.errors import TailraceError
from schemas.ports import Clock

FORMAT = 1
ROUTE_FILE = "route.json"
REPORTS_FOLDER = "router"
FORGET_S = 600.0
"""A report that was not renewed for so long is of a process that is gone."""
REDIS_REST_S = 2.0
"""A Redis that failed is left alone for so long: a switch publishes twice in the pause of the writers."""

_READ = (
    "SELECT m.authority, m.token, m.read_share, (extract(epoch FROM clock_timestamp()) * 1000)::bigint, "
    "(SELECT bool_and(p.consistent) AND NOT EXISTS (SELECT 1 FROM tailrace.progress WHERE applying_to IS NOT NULL) "
    "FROM tailrace.progress p WHERE p.source = ANY(%s)), "
    "(SELECT json_object_agg(p.source, p.applied)::text FROM tailrace.progress p WHERE p.source = ANY(%s)), "
    "(SELECT min(p.captured_at_ms) FROM tailrace.progress p WHERE p.source = ANY(%s) HAVING count(*) = %s) "
    "FROM tailrace.migration m WHERE m.id = 1"
)

Say = Callable[[str, str], None]


class Board(Protocol):
    """Where routers on other machines look, and report: adapters/redis.py. Raises Transient(ROUTE_UNPUBLISHED)."""

    def put_route(self, document: str, *, epoch: int, published_at_ms: int) -> bool: ...

    def reports(self) -> list[tuple[str, bytes, float]]: ...

    def close(self) -> None: ...


class RoutePublisher:
    """Args:
    sources: every source of the migration; one that the target does not know leaves the lag unknown.
    folder: the run folder.
    """

    def __init__(
        self,
        target: Postgres,
        sources: Sequence[str],
        folder: Path,
        board: Board | None,
        clock: Clock,
        say: Say,
    ) -> None:
        self._clock = clock
        self._target = target
        self._sources = list(sources)
        self._folder = folder
        self._board = board
        self._say = say
        self._rest_until_s = 0.0
        self._failing: dict[str, str] = {}

    def publish(self) -> bool:
        """The row as it is now; False: the target cannot be asked. Never raises: the next one tells it."""
        try:
            row = self._target.rows(_READ, (self._sources, self._sources, self._sources, len(self._sources)))[0]
        except (TailraceError, IndexError) as error:
            self._heard("target", error)
            return False
        self._heard("target", None)
        lag_ms = None if row[6] is None else max(0, self._clock.now_ms() - int(row[6]))
        self._give(
            {
                "format": FORMAT,
                "epoch": row[1],
                "authority": row[0],
                "read_share": row[2],
                "hash_version": 1,
                "published_at_ms": row[3],
                "consistent": bool(row[4]),
                "lag_ms": lag_ms,
                "applied": json.loads(row[5] or "{}"),
            }
        )
        return True

    def told(self, authority: Authority, token: int) -> None:
        """After a move: the row, or where the target went away meanwhile what the mover knows of it."""
        if not self.publish():
            self.publish_alone(authority, token)

    def publish_alone(self, authority: Authority, token: int) -> None:
        """While the target cannot be asked, and this process knows who may write: no read goes there."""
        self._give(
            {
                "format": FORMAT,
                "epoch": token,
                "authority": str(authority),
                "read_share": 0,
                "hash_version": 1,
                "published_at_ms": self._clock.now_ms(),
                "consistent": False,
                "lag_ms": None,
                "applied": {},
            }
        )

    def close(self) -> None:
        if self._board is not None:
            self._board.close()

    def _give(self, document: Mapping[str, Any]) -> None:
        # The file first: it is quick, and Redis may take its whole time-out.
        text = json.dumps(document)
        try:
            self._to_file(text, document)
            self._heard("file", None)
        except OSError as error:
            self._heard("file", error)
        if self._board is None or self._clock.monotonic_s() < self._rest_until_s:
            return
        try:
            self._board.put_route(text, epoch=document["epoch"], published_at_ms=document["published_at_ms"])
            self._heard("redis", None)
        except TailraceError as error:
            self._rest_until_s = self._clock.monotonic_s() + REDIS_REST_S
            self._heard("redis", error)

    def _to_file(self, text: str, document: Mapping[str, Any]) -> None:
        """Compared and replaced under a lock of its own: two publishers may be one behind the other."""
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / ROUTE_FILE
        with _locked(self._folder / f"{ROUTE_FILE}.lock"):
            if _order(path) > (document["epoch"], document["published_at_ms"]):
                return
            whole = path.with_suffix(".tmp")
            whole.write_text(text, encoding="utf-8")
            whole.replace(path)

    def _heard(self, where: str, error: Exception | None) -> None:
        """Say once that it fails, and once that it works again."""
        if error is None:
            if self._failing.pop(where, None) is not None:
                self._say("route.published", f"the route reaches {where} again")
        elif where not in self._failing:
            self._failing[where] = str(error)
            self._say("route.unpublished", f"{where}: {error}; routers follow the last route they know")


def read_reports(folder: Path, board: Board | None, *, now_ms: int) -> RouterReports:
    """What all routers reported, in the run folder and in Redis. Never raises: what cannot be read is named."""
    found: list[Report] = []
    broken: list[str] = []
    reports = folder / REPORTS_FOLDER
    for path in sorted(reports.glob("*.json")) if reports.is_dir() else ():
        try:
            age_s = now_ms / 1000 - path.stat().st_mtime
            if age_s > FORGET_S:
                path.unlink(missing_ok=True)
            else:
                found.append(Report(path.read_bytes(), age_s, path.name))
        except FileNotFoundError:
            continue  # its process ended meanwhile
        except OSError:
            broken.append(path.name)
    if board is not None:
        try:
            found += [Report(document, age_s, instance) for instance, document, age_s in board.reports()]
        except TailraceError:
            broken.append("Redis")
    return merged(found, unreadable=broken)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _order(path: Path) -> tuple[int, int]:
    """(epoch, published at) of the route that is there; what cannot be read is older than everything."""
    try:
        known = json.loads(path.read_bytes())
        return int(known["epoch"]), int(known["published_at_ms"])
    except (OSError, ValueError, KeyError, TypeError):
        return -1, -1
