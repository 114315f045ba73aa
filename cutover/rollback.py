"""Do: bring writes back to the sources, whatever phase the migration is in, and finish what a dead process left.

The order is the argument. After the switch: the target is closed first, by compare-and-set with its guards; the point to
drain to is read after that has committed, so that no transaction is still on its way to the log; only when the sources
hold everything up to it does the row go back, and only then are they lifted. A recovery in `to_source` finishes the drain;
it never just lifts. Before the open: the row first, then the fences, each with the newer token.
Cases: test_recovery_never_just_lifts, test_a_rollback_that_died_is_finished_by_the_next.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from adapters.bookkeeping import bring_up_to_date
from adapters.postgres import Postgres
from capture.postgres_triggers import LABEL
from cutover.authority import AuthorityRow
from cutover.behind import believed, lost_moves
from cutover.drain import CLOSED, MEND, Reached, arrived, behind, drain, refuse_kept
from cutover.source_fence import SourceFence
from cutover.target_guard import PATIENCE, TargetGuard, refuse_lost
from ops.points import reach
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal, Transient
from schemas.names import text_beside_parameters
from schemas.ports import Clock

Look = Callable[[], Mapping[str, Reached | None]]
Told = Callable[[Authority, int], None]


@dataclass(frozen=True, slots=True)
class RollbackSettings:
    lease_s: float = 10.0
    close_budget_s: float = 5.0
    drain_budget_s: float = 30.0
    ready_budget_s: float = 10.0
    """So long the way back may take to arrive where it stands, before anything is closed."""


@dataclass(frozen=True, slots=True)
class Returned:
    """What a rollback did. `was`: where writes belonged before."""

    token: int
    was: Authority
    pause_s: float
    lifted: tuple[str, ...]


def refuse_restoring(before: Migration) -> None:
    """Some files may be of the checkpoint already: draining into them, or lifting them, would mix two histories."""
    if before.restoring is not None:
        name = before.restoring.checkpoint
        raise Refusal(
            Code.RESTORE_RUNNING,
            f"the sources are being put back to checkpoint {name}, nobody can write until that has ended",
            position=before.token,
            hint=f"tailrace rollback --to {name} --reason R goes on with it; tailrace rollback --give-up --reason R takes "
            "it back as long as no file was put back",
        )


class Rollback:
    """Args:
    sources: names of all sources of the migration.
    look_back: how far the way back is applied at each source.
    told: after each move, where writes belong now and by which token: the route is published. Must not raise.
    """

    def __init__(
        self,
        target: Postgres,
        row: AuthorityRow,
        fence: SourceFence,
        guard: TargetGuard,
        clock: Clock,
        settings: RollbackSettings,
        *,
        look_back: Look,
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        told: Told = lambda authority, token: None,  # noqa: ARG005
    ) -> None:
        self._target = target
        self._told = told
        self._row = row
        self._fence = fence
        self._guard = guard
        self._clock = clock
        self._settings = settings
        self._look_back = look_back
        self._say = say
        self._upto: tuple[int, dict[str, int]] = (-1, {})
        """Token of a drain that is finished step by step, and what it drains to."""

    def run(self, *, reason: str) -> Returned:
        """Back to the sources. Raises Refusal(VERB_ILLEGAL) once completed, Refusal(NO_ROLLBACK) when it would lose,
        Refusal(AUTHORITY_BEHIND)."""
        before = believed(self._row.read, self._fence.carried)
        begun_s = self._clock.monotonic_s()
        match before.authority:
            case Authority.COMPLETED:
                raise Refusal(
                    Code.VERB_ILLEGAL, "the migration is completed", hint="a new migration leads the other way"
                )
            case Authority.SOURCE:
                token, lifted = before.token, self._settled(before)
            case Authority.TO_TARGET:
                token, lifted = self._abort(before, reason)
            case Authority.TARGET:
                if before.no_rollback:
                    what, why = next(iter(before.no_rollback.items()))
                    raise Refusal(
                        Code.NO_ROLLBACK,
                        f"the way back does not carry {len(before.no_rollback)} things, among them {what}: {why}",
                        hint="tailrace rollback --status names all; tailrace complete keeps writes where they are",
                    )
                # Here, too: a table that is gone cannot be closed, and the refusal should say why.
                refuse_lost(self._guard.changes().lost)
                refuse_kept(self._look_back(), hint=MEND)
                self._see_it_arrive()
                reach("rollback.arrived")
                token, lifted = self._return(self._close(before, reason), reason)
            case Authority.TO_SOURCE:
                refuse_restoring(before)
                token, lifted = self._return(before, reason)
        return Returned(token, before.authority, self._clock.monotonic_s() - begun_s, tuple(lifted))

    def accept_lost(self, *, reason: str) -> Returned:
        """Go on at the sources as they are, on a server that lost the last moves. A person said that the other one is
        gone: the row jumps behind everything that any source has seen, and the target is closed in the same transaction."""
        begun_s = self._clock.monotonic_s()
        bring_up_to_date(self._target)  # a backup of it may be of the release before
        carried = self._fence.carried()
        before = self._row.read()
        found = lost_moves(before, carried)
        if found is None:
            raise Refusal(
                Code.VERB_ILLEGAL,
                "nothing is lost: the target's row has every move that the sources have seen",
                position=before.token,
                hint="tailrace rollback --reason R",
            )
        token = found.token + 1
        with self._target.transaction():
            self._row.begin_again(before, token, reason=reason)
            self._guard.shut()
            self._guard.rest()
        reach("rollback.accepted")
        lifted = self._fence.lift(token)
        self._told(Authority.SOURCE, token)
        return Returned(token, before.authority, self._clock.monotonic_s() - begun_s, tuple(lifted))

    def recover(self, before: Migration) -> Returned | None:
        """Finish or take back what a process left that is gone; None where nothing is to be done. Raises
        Refusal(RESTORE_RUNNING): only a person throws rows away."""
        refuse_restoring(before)
        abandoned = before.lease_left_s is not None and before.lease_left_s < 0
        if before.authority is Authority.SOURCE:
            lifted = self._settled(before)
            return Returned(before.token, before.authority, 0.0, tuple(lifted)) if lifted else None
        if before.authority is Authority.TO_SOURCE and (abandoned or self._upto[0] == before.token):
            return self._finish(before)
        if not abandoned or before.authority is not Authority.TO_TARGET:
            return None
        self._say("cutover.recovered", f"{before.owner} left the migration at {before.authority}")
        return self.run(reason=f"recovered from {before.owner}")

    def _finish(self, before: Migration) -> Returned | None:
        """One look at the drain of a rollback that is gone, never a wait: whoever calls this also applies the way back
        (test_a_rollback_killed_before_its_drain_is_finished_by_the_steward)."""
        begun_s = self._clock.monotonic_s()
        if self._upto[0] != before.token:
            self._adopt(before)
            self._upto = before.token, self._drain_to()
            self._say(
                "cutover.recovered", f"{before.owner} left the migration at {before.authority}: its drain goes on"
            )
        elif before.lease_left_s is None or before.lease_left_s < self._settings.lease_s / 2:
            self._adopt(before)
        if self._guard.changes().grown:
            self._upto = before.token, self._drain_to()
            return None
        found = self._look_back()
        if behind(self._upto[1], found):
            refuse_kept({source: found.get(source) for source in arrived(self._upto[1], found)}, hint=CLOSED)
            return None
        token, lifted = self._opened_again(before, f"recovered from {before.owner}")
        return Returned(token, before.authority, self._clock.monotonic_s() - begun_s, tuple(lifted))

    def _settled(self, before: Migration) -> list[str]:
        """Writes belong to the sources: none may be fenced, and each must know the token."""
        carried = self._fence.carried()
        if before.token and any(one.token < before.token or one.fence is not None for one in carried.values()):
            return self._fence.lift(before.token)
        return []

    def _abort(self, before: Migration, reason: str) -> tuple[int, list[str]]:
        failed = {"failed": text_beside_parameters(reason)}
        token = self._row.move(before, Authority.SOURCE, verb="rollback", also=failed, detail={"reason": reason})
        reach("rollback.taken_back")
        lifted = self._fence.lift(token)
        self._told(Authority.SOURCE, token)
        return token, lifted

    def _see_it_arrive(self) -> None:
        """While the target is still open: a way back that stands still would leave both sides closed until somebody starts
        it, and what it owes now need not be waited for then (test_a_way_back_that_stands_still_closes_nothing)."""
        try:
            drain(
                self._drain_to(),
                self._look_back,
                self._clock,
                budget_s=self._settings.ready_budget_s,
                keep_lease=lambda: None,
            )
        except Transient as error:
            if error.code is not Code.DRAIN_TIMEOUT:
                raise
            raise Transient(
                Code.DRAIN_TIMEOUT,
                f"nothing was closed, writes stay on PostgreSQL: the way back stands still or is far behind ({error.message})",
                source=error.source,
                position=error.position,
                hint="tailrace status: do capture and sink run? then tailrace rollback again",
            ) from error

    def _close(self, before: Migration, reason: str) -> Migration:
        detail, lease_s = {"reason": reason}, self._settings.lease_s
        self._insist(
            lambda: self._guard.close(before, verb="rollback", lease_s=lease_s, detail=detail), patience=PATIENCE
        )
        reach("rollback.closed")
        closed = self._row.read()
        self._told(closed.authority, closed.token)
        return closed

    def _return(self, before: Migration, reason: str) -> tuple[int, list[str]]:
        token = before.token
        if before.lease_left_s is None or before.lease_left_s < self._settings.lease_s / 2:
            self._adopt(before)
        deadline_s = self._clock.monotonic_s() + self._settings.drain_budget_s
        growing = True
        while growing:
            # A column that was added at the last moment is taken over by the stream, and what its rows show comes behind it.
            growing = bool(self._guard.changes().grown)
            drain(
                self._drain_to(),
                self._look_back,
                self._clock,
                budget_s=max(0.0, deadline_s - self._clock.monotonic_s()),
                keep_lease=lambda: self._row.renew(token, lease_s=self._settings.lease_s),
            )
            growing = growing or bool(self._guard.changes().grown)
        reach("rollback.drained")
        return self._opened_again(before, reason)

    def _drain_to(self) -> dict[str, int]:
        """Read after the guards have committed: everything that was ever acknowledged is at or below this label. Raises
        Refusal(NO_ROLLBACK) where a source is past it: a server that lost transactions gives their numbers out again, and what
        is written under them would pass for what came back already (test_a_server_behind_what_came_back_is_no_way_back)."""
        found = self._look_back()
        label = int(self._target.rows(LABEL)[0][1])
        past = {source: one.applied for source, one in found.items() if one is not None and one.applied > label}
        if past:
            source, applied = next(iter(past.items()))
            raise Refusal(
                Code.NO_ROLLBACK,
                f"the target stands at {label}, behind what came back from it: this server lost transactions",
                source=source,
                position=applied,
                hint="point target_database_url at the server that has them; writes go on where they are",
            )
        return dict.fromkeys(self._fence.carried(), label)

    def _opened_again(self, before: Migration, reason: str) -> tuple[int, list[str]]:
        # A table that was changed on the closed side meanwhile is not carried from there on: its last rows may be missing.
        refuse_lost(self._guard.changes().lost)
        newer = self._moved_back(before, reason)
        reach("rollback.returned")
        lifted = self._fence.lift(newer)
        self._told(Authority.SOURCE, newer)
        return newer, lifted

    def _moved_back(self, before: Migration, reason: str) -> int:
        def attempt() -> int:
            with self._target.transaction():
                newer = self._row.move(
                    before, Authority.SOURCE, verb="return", also={"read_share": "0"}, detail={"reason": reason}
                )
                self._guard.rest()
            return newer

        # A reader of the target: what came with the open goes by statements that wait for readers, too.
        return self._insist(attempt, patience=0)

    def _insist(self, attempt: Callable[[], int], *, patience: int) -> int:
        return self._guard.insist(
            attempt, self._clock, self._say, budget_s=self._settings.close_budget_s, patience=patience
        )

    def _adopt(self, before: Migration) -> None:
        """The lease of a drain that somebody else left: the token stays, since both sides are closed under it."""
        self._row.adopt(before, lease_s=self._settings.lease_s)
