"""Do: the write switch: claim, fence, drain, verify, open; and everything taken back when a step fails.

The order is the argument (protocol section 8):
1. claim: (source, n) -> (to_target, n + 1) by compare-and-set. From here on every other attempt loses.
2. fence all sources with that token, cutoff under the same locks: no writer is left on the SQLite side.
3. drain to the cutoff: the target holds everything that was ever acknowledged.
4. verify what changed since the last clean verification; sequences; what else must stand before the first write.
5. the fences are looked at once more: DDL passes triggers, and a schema that moved is not the one that was drained.
6. open: (to_target, n + 1) -> (target, n + 2), guards and log triggers and the reverse start in one transaction, whose last
   act is to look at the fences again: it may have waited for locks for seconds (test_ddl_on_a_source_before_the_open).
Before 6 commits nobody can write anywhere; after it only the target can be written, and the way back begins exactly there.
A failure before 6: first the row goes back to the source, then the fences are lifted with the newer token: the other way
round a slow open of this attempt would find its row unchanged and open a target beside a writable source.
A lost reply to the commit of 6 is not guessed at: the row is read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cutover.authority import AuthorityRow
from cutover.drain import Reached, drain
from cutover.source_fence import Fence, SourceFence, Writable
from cutover.target_guard import TargetGuard
from ops.points import reach
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal, Superseded, TailraceError, Transient, Unknown
from schemas.names import text_beside_parameters
from schemas.ports import Clock


@dataclass(frozen=True, slots=True)
class SwitchSettings:
    lease_s: float = 10.0
    """After this without a sign of life anybody may take the move back."""
    fence_budget_s: float = 2.0
    """How long the fence may be asked for again while writers hold locks."""
    drain_budget_s: float = 10.0
    open_budget_s: float = 5.0
    window: str = "14 days"
    """Until when rollback is promised."""


@dataclass(slots=True)
class Outcome:
    """What a switch did. `pause_s`: from the first fence to the open (or to the lift)."""

    token: int
    pause_s: float
    cutoff: dict[str, int]
    parts_s: dict[str, float] = field(default_factory=dict)


Look = Callable[[], Mapping[str, Reached | None]]
Told = Callable[[Authority, int], None]
Tables = Callable[[], Mapping[str, Writable]]


class Switch:
    """One attempt.

    Args:
        tables: source -> every table to be fenced, read anew at each call.
        look: how far the forward stream is applied.
        verify: the final verification, behind the drain; given what keeps the lease. Raises what takes the switch back.
        before_open: named steps between drain and open; each may raise, which takes the switch back.
        told: after each move, where writes belong now and by which token: the route is published. Must not raise.
    """

    def __init__(
        self,
        row: AuthorityRow,
        fence: SourceFence,
        guard: TargetGuard,
        clock: Clock,
        settings: SwitchSettings,
        *,
        tables: Tables,
        look: Look,
        verify: Callable[[Callable[[], None]], None] | None = None,
        before_open: Sequence[tuple[str, Callable[[Mapping[str, int]], None]]] = (),
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        told: Told = lambda authority, token: None,  # noqa: ARG005
    ) -> None:
        self._row = row
        self._fence = fence
        self._guard = guard
        self._told = told
        self._clock = clock
        self._settings = settings
        self._tables = tables
        self._look = look
        self._verify = verify
        self._before_open = before_open
        self._say = say
        self._parts: dict[str, float] = {}
        self._maybe_open = False
        """The reply to a commit of the open was lost, or it was interrupted somewhere. What else fails was rolled back."""

    def run(self, before: Migration, *, practise: bool = False) -> Outcome:
        """Switch, or (`practise`) fence and lift at once, to measure. Raises what stopped it, after taking it back."""
        if before.authority is not Authority.SOURCE:
            raise Refusal(
                Code.VERB_ILLEGAL, f"writes belong to {before.authority}", position=before.token, hint="tailrace status"
            )
        verb = "practise" if practise else "cutover"
        token = self._row.move(before, Authority.TO_TARGET, verb=verb, lease_s=self._settings.lease_s)
        reach("cutover.claimed")
        begun_s = self._clock.monotonic_s()
        try:
            fences, begun_s = self._close_source(token)
            # Not before the fence: until then the sources take writes, and a writer that waits would wait for a long one.
            self._told(Authority.TO_TARGET, token)
            cutoff = {source: one.head for source, one in fences.items()}
            if practise:
                pause_s = self._take_back(token, begun_s, "")
                return Outcome(token + 1, pause_s, cutoff, self._parts)
            self._drain(token, cutoff)
            return self._open(token, fences, cutoff, begun_s)
        except Superseded:
            raise  # somebody else recovered it: row and fences are theirs
        except BaseException as error:
            reason = error.message if isinstance(error, TailraceError) else type(error).__name__
            # Interrupted anywhere, perhaps behind the commit: were the target to go away now, nobody may lift alone.
            self._maybe_open |= not isinstance(error, TailraceError)
            self._take_back(token, begun_s, reason)
            raise

    def _close_source(self, token: int) -> tuple[dict[str, Fence], float]:
        deadline_s = self._clock.monotonic_s() + self._settings.fence_budget_s
        while True:
            # Each attempt waits for locks: a lease that ended meanwhile would have this one taken back in its middle.
            self._row.renew(token, lease_s=self._settings.lease_s)
            begun_s = self._clock.monotonic_s()
            try:
                fences = self._fence.fence(token, self._tables())
                break
            except Transient as error:
                if self._clock.monotonic_s() >= deadline_s:
                    error.add_note("a long write transaction held the fence up; nothing was fenced")
                    raise
                self._clock.sleep(0.02)
        self._parts["fence"] = self._clock.monotonic_s() - begun_s
        self._say("cutover.fenced", f"{len(fences)} sources are fenced with token {token}")
        return fences, begun_s

    def _drain(self, token: int, cutoff: Mapping[str, int]) -> None:
        values = ", ".join(f"'{source.replace(chr(39), chr(39) * 2)}', {head}" for source, head in cutoff.items())
        self._row.set(token, {"cutoff": f"jsonb_build_object({values})"}, verb="fence", detail={"cutoff": dict(cutoff)})
        self._row.renew(token, lease_s=self._settings.lease_s)
        reach("cutover.draining")
        self._parts["drain"] = drain(
            cutoff,
            self._look,
            self._clock,
            budget_s=self._settings.drain_budget_s,
            keep_lease=lambda: self._row.renew(token, lease_s=self._settings.lease_s),
        )
        self._row.set(token, {"drained": "true"}, verb="drain", detail={})
        reach("cutover.drained")

    def _open(self, token: int, fences: dict[str, Fence], cutoff: dict[str, int], begun_s: float) -> Outcome:
        if self._verify is not None:
            started_s = self._clock.monotonic_s()
            self._verify(lambda: self._row.renew(token, lease_s=self._settings.lease_s))
            self._row.renew(token, lease_s=self._settings.lease_s)
            self._parts["verify"] = self._clock.monotonic_s() - started_s
        for name, step in self._before_open:
            started_s = self._clock.monotonic_s()
            step(cutoff)
            self._row.renew(token, lease_s=self._settings.lease_s)
            self._parts[name] = self._clock.monotonic_s() - started_s
        started_s = self._clock.monotonic_s()
        self._fence.hold(fences)
        reach("cutover.before_open")
        opened = self._opened(token, fences, {"cutoff": cutoff})
        reach("cutover.after_open")
        self._told(Authority.TARGET, opened)
        now_s = self._clock.monotonic_s()
        self._parts["open"] = now_s - started_s
        self._say("cutover.opened", f"writes belong to the target with token {opened}")
        return Outcome(opened, now_s - begun_s, cutoff, self._parts)

    def _opened(self, token: int, fences: Mapping[str, Fence], detail: Mapping[str, Any]) -> int:
        deadline_s = self._clock.monotonic_s() + self._settings.open_budget_s
        while True:
            try:
                return self._guard.open(
                    self._mine(token),
                    verb="open",
                    detail=detail,
                    window=self._settings.window,
                    hold=lambda: self._fence.hold(fences),
                )
            except Unknown:
                # Done or not done: only the row can say, and a commit that is under way holds it until it is decided.
                self._maybe_open = True
                found = self._row.read()
                if found.authority is Authority.TARGET and found.token == token + 1:
                    return found.token
            except Superseded:
                found = self._row.read()
                if self._maybe_open and found.authority is Authority.TARGET and found.token == token + 1:
                    return found.token
                raise
            except Transient as error:
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                if error.code is Code.TARGET_BUSY:
                    self._guard.end_blockers(self._say)
                self._row.renew(token, lease_s=self._settings.lease_s)
                self._clock.sleep(0.02)

    def _mine(self, token: int) -> Migration:
        """The row as this attempt left it; the compare-and-set decides whether it still is so."""
        return Migration(Authority.TO_TARGET, token)

    def _take_back(self, token: int, begun_s: float, reason: str) -> float:
        """Row first, then the fences; returns the pause in seconds."""
        failed = {"failed": text_beside_parameters(reason)}
        try:
            newer = self._row.move(
                self._mine(token), Authority.SOURCE, verb="take-back", also=failed, detail={"reason": reason}
            )
        except (Transient, Unknown) as error:
            if self._maybe_open:
                # Only the row can say, and the steward reads it.
                raise Unknown(
                    error.code,
                    "the target went away while it was being opened: whether writes moved is in its row alone, and nothing "
                    f"was lifted: the sources stay closed until it answers ({error.message})",
                    position=token,
                    hint="tailrace status once the target answers: the steward in capture goes on from there by itself",
                ) from error
            # The target is away. Nobody but this attempt could open under its token, and it ends here: the sources need
            # not wait for the target to come back. The row is taken back by whoever finds its lease ended.
            newer = token + 1
            self._say("cutover.lifted_alone", "the target cannot be reached: the sources are open again without it")
        reach("cutover.taken_back")
        self._fence.lift(newer)
        self._told(Authority.SOURCE, newer)
        pause_s = self._clock.monotonic_s() - begun_s
        if reason:
            self._say("cutover.taken_back", f"the source is open again after {pause_s:.3f} s: {reason}")
        return pause_s
