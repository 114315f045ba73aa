"""Do: look at the size of the change log and at the free space now and then, and do at the limit what the policy says.

Invariant: it looks whether or not the stream can be reached: an outage is just when the log grows
(test_the_log_is_watched_while_the_stream_is_away).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from capture.install import detach
from capture.limits import Growth, LogLimits, growth
from capture.sqlite_source import SqliteSource
from schemas.errors import Code, Refusal, TailraceError
from schemas.ports import Clock

EVERY_MS = 2000


class LogWatch:
    """One source's log. `look()` raises Refusal(LOG_LIMIT) after it took the triggers away."""

    def __init__(self, source: SqliteSource, clock: Clock, limits: LogLimits, say: Callable[[str, str], None]) -> None:
        self._source = source
        self._clock = clock
        self._limits = limits
        self._say = say
        self._growth = Growth.FINE
        self._looked_at_ms = 0
        self._wal_grown = False

    @contextmanager
    def while_away(self) -> Iterator[None]:
        """A start that fails for a reason that may pass is tried for ever: the log is watched meanwhile."""
        try:
            yield
        except Refusal:
            raise
        except TailraceError:
            self.look()
            raise

    def look(self) -> None:
        """Say once when the log is half way to its limit; at the limit do what the policy says."""
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._looked_at_ms < EVERY_MS:
            return
        self._looked_at_ms = now_ms
        self._look_at_wal()
        with self._source.view() as view:
            head, log_bytes = view.head(), view.log_bytes()
        found = growth(self._limits, log_bytes=log_bytes, free_bytes=self._source.db.free_bytes())
        if found is not Growth.FINE and found is not self._growth:
            self._say(
                "capture.log_growth", f"{self._source.name}: the change log has some {log_bytes:,} bytes: {found}"
            )
        self._growth = found
        if found is Growth.OVER and self._limits.detach:
            detach(self._source.db)
            raise Refusal(
                Code.LOG_LIMIT,
                "the change log reached max_log_bytes, or the disk min_free_bytes: the triggers were taken away",
                source=self._source.name,
                position=head,
                # Not merely `up`: the log is as full at the next start, and capture would detach before it drained it.
                hint=f"nothing of the application was stopped; make room, then tailrace reset {self._source.name} "
                "--accept-history (begins the log anew and copies every table again), then tailrace up",
            )

    def _look_at_wal(self) -> None:
        """Said once when it begins and once when it is over."""
        limit = self._limits.max_wal_bytes
        backlog = self._source.backlog_bytes(above_bytes=limit)
        if backlog is None or (backlog > limit) == self._wal_grown:
            return
        self._wal_grown = not self._wal_grown
        if self._wal_grown:
            text = f"{backlog:,} bytes of the -wal cannot be written back: some reader has held its view for long"
            self._say("capture.wal_growth", f"{self._source.name}: {text}; copies back off")
        else:
            self._say("capture.wal_recovered", f"{self._source.name}: the -wal is written back again")
