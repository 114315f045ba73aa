"""Do: close and open the target for everybody but the sink, together with the authority row.

The order is the argument: the compare-and-set comes first and the guards stand or rest in its transaction, so that no
moment exists in which the row says one thing and the tables another. ENABLE and DISABLE TRIGGER take SHARE ROW EXCLUSIVE:
they wait for writers in flight and bind old snapshots, as CREATE TRIGGER does, and unlike DROP TRIGGER they wait for no
reader: an open read on the target does not lengthen the pause (test_an_open_read_does_not_hold_the_switch).
The row comes first, so that two of these never wait for each other. The guard fires ALWAYS: a session in replica role
is a writer too. Cases: test_old_snapshot_writes_after_the_fence, test_a_prepared_write_meets_the_guard.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from adapters.postgres import Postgres
from capture.postgres_shapes import Changes, changed, remember
from capture.postgres_triggers import firing, resting
from cutover.authority import AuthorityRow
from cutover.objects import OpenedObjects
from cutover.prepare import plans_of
from ops.points import reach
from schemas.authority import Authority, Migration, Restoring
from schemas.ddl import full_name
from schemas.errors import Code, Failed, Refusal, Transient
from schemas.plan import TablePlan
from schemas.ports import Clock

GUARDS = ("tailrace_guard", "tailrace_guard_truncate")
LOCK_TIMEOUT_MS = 800
PATIENCE = 3
"""Writers in flight may finish so often; what they hold then is taken from them: not acknowledged, so nothing is lost."""
_BLOCKERS = (
    "SELECT DISTINCT l.pid, a.application_name FROM pg_locks AS l JOIN pg_stat_activity AS a USING (pid) "
    "WHERE l.locktype = 'relation' AND l.granted AND l.pid <> pg_backend_pid() "
    "AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database()) "
    "AND l.relation IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name) "
    "AND coalesce(a.xact_start, a.query_start) < clock_timestamp() - interval '0.7 seconds'"
)


def refuse_lost(lost: Mapping[tuple[str, str], str]) -> None:
    """Raises Refusal(NO_ROLLBACK): a table is not what it was when the target opened, and its rows did not all come back."""
    if lost:
        (source, table), why = next(iter(lost.items()))
        raise Refusal(
            Code.NO_ROLLBACK,
            f"the way back does not carry {len(lost)} things, among them {source}.{table}: {why}",
            hint="tailrace status names all",
        )


class TargetGuard:
    """The guards and log triggers of all replicated tables of a migration."""

    def __init__(
        self, target: Postgres, row: AuthorityRow, plans: Sequence[TablePlan], objects: OpenedObjects | None = None
    ) -> None:
        self._objects = objects
        self._target = target
        self._row = row
        self._plans = sorted(plans, key=full_name)

    def open(
        self,
        before: Migration,
        *,
        verb: str,
        detail: Mapping[str, Any],
        window: str,
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
        hold: Callable[[], None] = lambda: None,
    ) -> int:
        """TO_TARGET -> TARGET: guards rest, log triggers fire, and the reverse start is this statement's own snapshot.
        Returns the new token. Raises Superseded, Transient(TARGET_BUSY). `hold`: looks at the fences, when nothing is left to
        wait for but the commit; raises what keeps the target closed."""
        also = {
            "reverse_start": "txid_current_snapshot()::text",
            "reverse_label": "(SELECT txid_snapshot_xmax(s) - (SELECT count(*) FROM txid_snapshot_xip(s)) "
            "FROM txid_current_snapshot() AS s)",
            "window_until": f"clock_timestamp() + interval '{window}'",
            "failed": "''",
            "no_rollback": "'{}'",
            "read_share": "10000",
        }
        with self._target.transaction():
            self._target.run(f"SET LOCAL lock_timeout = {int(lock_timeout_ms)}")
            token = self._row.move(before, Authority.TARGET, verb=verb, also=also, detail=detail)
            self._refuse_late()
            for plan in self._plans:
                guards = ", ".join(f"DISABLE TRIGGER {name}" for name in GUARDS)
                self._target.run(f"ALTER TABLE {full_name(plan)} {guards}")
                for statement in firing(plan):
                    self._target.run(statement)
            failed = self._objects.make() if self._objects is not None else {}
            remember(self._target, self._plans)
            reach("cutover.mid_open")
            if failed:
                self._row.note(token, Authority.TARGET, Authority.TARGET, verb="objects", detail=failed)
            hold()
        return token

    def _refuse_late(self) -> None:
        """A table that came after the way back was proven would stay closed, and its writes would not be logged."""
        known = {full_name(plan): plan.target_key for plan in self._plans}
        late = [name for plan in plans_of(self._target) if known.get(name := full_name(plan)) != plan.target_key]
        if late:
            raise Failed(
                Code.REVERSE_UNPROVEN,
                f"{', '.join(late)} came, or got another key, after the way back was proven",
                hint="tailrace cutover again",
            )

    def insist(
        self,
        attempt: Callable[[], int],
        clock: Clock,
        say: Callable[[str, str], None],
        *,
        budget_s: float,
        patience: int,
    ) -> int:
        """An attempt that takes these tables' locks, again until it succeeds or its time is over: sessions hold them for
        longer than the lock time-out. From its `patience`-th failure on those sessions are ended."""
        deadline_s = clock.monotonic_s() + budget_s
        failed = 0
        while True:
            try:
                return attempt()
            except Transient as error:
                if clock.monotonic_s() >= deadline_s:
                    raise
                failed += 1
                if failed >= patience and error.code is Code.TARGET_BUSY:
                    self.end_blockers(say)
                clock.sleep(0.02)

    def end_blockers(self, say: Callable[[str, str], None]) -> None:
        """Both sides are closed, and a session has kept a lock on these tables for the whole lock time-out: it is ended.
        A reader loses a report; everybody else waits for it. Where our role may not, it is only named."""
        names = [full_name(plan) for plan in self._plans]
        found = self._target.rows(_BLOCKERS, (names,))
        for pid, name in found:
            try:
                self._target.rows("SELECT pg_terminate_backend(%s)", (pid,))
                say("cutover.blocker_ended", f"session {pid} ({name or 'unnamed'}) held the target's tables: ended")
            except Failed as error:
                say(
                    "cutover.blocker", f"session {pid} ({name or 'unnamed'}) holds the target's tables: {error.message}"
                )

    def close(
        self,
        before: Migration,
        *,
        verb: str,
        lease_s: float,
        detail: Mapping[str, Any],
        lock_timeout_ms: int = LOCK_TIMEOUT_MS,
    ) -> int:
        """TARGET -> TO_SOURCE: guards stand again. The log triggers go on firing: what was in flight is still logged."""
        with self._target.transaction():
            self._target.run(f"SET LOCAL lock_timeout = {int(lock_timeout_ms)}")
            token = self._row.move(before, Authority.TO_SOURCE, verb=verb, lease_s=lease_s, detail=detail)
            self._close_all()
            # Behind the locks: no DDL of these tables is under way any more.
            refuse_lost(self.changes().lost)
            reach("rollback.mid_close")
        return token

    def close_for(self, before: Migration, restoring: Restoring) -> int:
        """The same for a restore, which asks for nothing that came back: what this side changed is thrown away."""
        with self._target.transaction():
            self._target.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            token = self._row.begin_restore(before, restoring)
            self._close_all()
            reach("restore.mid_close")
        return token

    def _close_all(self) -> None:
        for plan in list(self._plans):
            guards = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in GUARDS)
            try:
                self._target.run(f"ALTER TABLE {full_name(plan)} {guards}")
            except Transient:
                # The application writes this one before one that is locked here already, and each waits for the
                # other: the next attempt begins with it (test_writers_in_another_order_do_not_starve_the_return).
                self._plans = [plan, *(one for one in self._plans if one is not plan)]
                raise

    def changes(self) -> Changes:
        """What of these tables is not as it was at the open."""
        return changed(self._target, self._plans)

    def shut(self) -> None:
        """The guards stand, whatever the row says: writes that the migration does not know of are refused."""
        guards = ", ".join(f"ENABLE ALWAYS TRIGGER {name}" for name in GUARDS)
        with self._target.transaction():
            self._target.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            for plan in self._plans:
                self._target.run(f"ALTER TABLE {full_name(plan)} {guards}")

    def rest(self) -> None:
        """After the way back was drained: what the forward sink writes is no change of the target's own."""
        with self._target.transaction():
            self._target.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            for plan in self._plans:
                for statement in resting(plan):
                    self._target.run(statement)
            if self._objects is not None:
                self._objects.unmake()
            reach("rollback.mid_return")
