"""Do: who holds which advisory lock, and the end of a holder that has fallen silent.

An advisory lock belongs to a session. The server frees it the moment the holder's connection closes (kill -9), yet a
process that is only stopped keeps its connection for ever. So a lease has a time-out, and it is judged by what cannot lie:
the server itself knows since when a session waits for its client. Whoever looks and finds a holder that has kept the server
waiting for the time-out ends that session; the woken holder finds its locks gone, and what it still sends loses its
compare-and-set (test_a_stopped_member_loses_its_sources_and_writes_nothing_when_it_wakes).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

from adapters.postgres import Postgres
from schemas.ports import Clock

COPY_PROGRESS_SINCE = 140_000

_HOLDERS = (
    "SELECT ((l.classid::bigint << 32) | l.objid::bigint), l.pid, l.pid = pg_backend_pid(), a.application_name, "
    "extract(epoch FROM a.backend_start)::float8, a.state, "
    "(extract(epoch FROM clock_timestamp() - a.state_change) * 1000)::bigint, a.wait_event_type = 'Client', "
    "a.state_change::text FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid WHERE l.locktype = 'advisory' AND "
    "l.granted AND l.objsubid = 1 AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) AND "
    "((l.classid::bigint << 32) | l.objid::bigint) = ANY(%s)"
)


class Holder(NamedTuple):
    """One advisory lock that is held."""

    key: int
    pid: int
    mine: bool
    name: str
    since_s: float
    """When the session began: the older one comes first."""
    silent_ms: int
    """For how long it has kept the server waiting; 0 while the server works for it."""


def key_of(text: str) -> int:
    """Key of the advisory lock of this name."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big", signed=True)


class Leases:
    """Advisory locks as leases, seen from one session."""

    def __init__(self, target: Postgres, clock: Clock, *, timeout_ms: int) -> None:
        self._target = target
        self._clock = clock
        self._timeout_ms = timeout_ms
        self._copying: dict[int, tuple[str, float]] = {}
        """pid -> how far its COPY was when it last moved, and when that was seen."""

    def holders(self, keys: Sequence[int]) -> list[Holder]:
        with self._target.transaction():
            # A role that owns the tables need not be allowed to see the login role's sessions.
            self._target.run("SET LOCAL ROLE NONE")
            found = self._target.rows(_HOLDERS, (list(keys),))
            copied = self._copied([row[1] for row in found if row[7] and row[5] == "active"])
        now_s = self._clock.monotonic_s()
        self._copying = {pid: seen for pid, seen in self._copying.items() if pid in copied}
        result = []
        for key, pid, mine, name, since_s, state, waited_ms, for_client, changed in found:
            silent_ms = 0
            if state in ("idle", "idle in transaction", "idle in transaction (aborted)"):
                silent_ms = waited_ms
            elif for_client and pid in copied:
                # In the middle of a COPY the server waits for the client all the time: what counts is that it moves.
                evidence = f"{changed} {copied[pid]}"
                if self._copying.get(pid, ("", 0.0))[0] != evidence:
                    self._copying[pid] = evidence, now_s
                silent_ms = int((now_s - self._copying[pid][1]) * 1000)
            result.append(Holder(key, pid, mine, name or "", since_s, silent_ms))
        return result

    def _copied(self, pids: Sequence[int]) -> dict[int, int]:
        if not pids or self._target.server_version < COPY_PROGRESS_SINCE:
            return dict.fromkeys(pids, 0)
        moved = self._target.rows("SELECT pid, bytes_processed FROM pg_stat_progress_copy WHERE pid = ANY(%s)", (pids,))
        return {**dict.fromkeys(pids, 0), **dict(moved)}

    def end_silent(self, holders: Sequence[Holder]) -> list[Holder]:
        """End the sessions that kept the server waiting for the time-out; returns one lock of each."""
        silent = {one.pid: one for one in holders if not one.mine and one.silent_ms >= self._timeout_ms}
        for pid in silent:
            with self._target.transaction():
                self._target.run("SET LOCAL ROLE NONE")
                self._target.rows("SELECT pg_terminate_backend(%s)", (pid,))
        return list(silent.values())
