"""Do: look at the application's health every few seconds, step the share of reads, and bring back what must go back.

It runs beside the steward in the capture daemon, in one place: that daemon outlives every terminal, its lock makes it the
only one, and without it there is no way back that a rollback could drain. Where it does not run nothing rises: `shift`
refuses when the last look is old. Every action is one compare-and-set, so a kill between any two lines leaves a named
stage, and the next look goes on from it (test_a_watch_killed_at_any_point_leaves_a_named_stage).
While the target cannot be asked the row cannot be changed either: the route says at once that no read goes there, and what
the outage was a cause for is done at the first look that reaches the row (test_a_target_that_was_away_too_long).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from adapters.postgres import Postgres
from cutover.authority import AuthorityRow
from cutover.health import Evaluation, Outcome, Seen, Thresholds, causes, evaluate, in_a_row
from cutover.shift import Action, Analysis, ShiftRules, ShiftState, Stage, What, analyse, attempted, decide
from cutover.shift_row import ShiftRow
from cutover.vitals import Senses, Vitals
from ops.points import reach
from schemas.authority import Authority, Migration
from schemas.errors import Refusal
from schemas.ports import Clock


class Routes(Protocol):
    """cutover/routing.py:RoutePublisher."""

    def publish(self) -> bool: ...

    def publish_alone(self, authority: Authority, token: int) -> None: ...


class Returner(Protocol):
    """Brings the writes back, in a process of its own: here it would wait for streams that this process steps."""

    def start(self, reason: str) -> None: ...

    def ended(self) -> tuple[bool, str] | None:
        """Once for each start: (it worked, what it said). None: it runs, or nothing was started."""
        ...

    @property
    def running(self) -> bool: ...


class Alert(Protocol):
    def __call__(self, action: str, text: str, *, level: str = "info", log: str = "") -> None: ...


class Watch:
    """Args:
    sources: names of all sources of the migration.
    window_s: how far back requests are counted for one look.
    """

    def __init__(
        self,
        target: Postgres,
        sources: Sequence[str],
        row: AuthorityRow,
        routes: Routes,
        clock: Clock,
        senses: Senses,
        returner: Returner,
        alert: Alert,
        *,
        limits: Thresholds,
        rules: ShiftRules,
        interval_s: float = 5.0,
        window_s: float = 30.0,
    ) -> None:
        self._vitals = Vitals(target, sources, senses, limits)
        self._row = row
        self._shift = ShiftRow(target, row)
        self._routes = routes
        self._clock = clock
        self._senses = senses
        self._returner = returner
        self._alert = alert
        self._limits = limits
        self._rules = rules
        self._interval_s = interval_s
        self._window_s = window_s
        self._due_s = 0.0
        self._down_since_s: float | None = None
        self._known: Migration | None = None
        self._token_since_ms = 0
        self._failed = 0
        self._owed: tuple[int, tuple[str, ...]] = (-1, ())
        self._alerted: set[str] = set()

    def step(self) -> bool:
        """One look, once an interval is over."""
        if self._clock.monotonic_s() < self._due_s:
            return False
        self._due_s = self._clock.monotonic_s() + self._interval_s
        self._after_return()
        wrong = self._senses.target()
        if wrong is None:
            return False
        if wrong:
            self._away()
            return False
        down_s, self._down_since_s = self._down_s(), None
        try:
            migration = self._row.read()
        except Refusal:
            return False  # nothing was begun yet
        if self._known is None or self._known.token != migration.token:
            self._token_since_ms = 0 if self._known is None else self._clock.now_ms()
        self._known = migration
        return self._look(migration, down_s)

    def close(self) -> None:
        """Connections belong to the wiring."""

    def _look(self, migration: Migration, down_s: float) -> bool:
        told = self._shift.read()
        state, now_ms = told.state, self._clock.now_ms()
        reports = self._senses.reports()
        since_ms = max(state.since_ms if state.token == migration.token else 0, self._token_since_ms)
        from_ms = max(now_ms - int(self._window_s * 1000), since_ms)
        seen = self._vitals.seen(migration, reports, reports.between(from_ms, now_ms), now_ms=now_ms)
        evaluation = evaluate(seen, self._limits)
        self._failed = in_a_row(self._failed, evaluation)
        found = list(causes(evaluation, self._failed, self._limits))
        token, owed = self._owed
        if token == migration.token:
            found += [one for one in owed if one not in found]
        analysis = analyse(
            reports.between(since_ms, now_ms),
            evaluation,
            self._rules,
            self._limits,
            share=migration.read_share,
            baked_s=(now_ms - since_ms) / 1000,
        )
        action = decide(state, migration, found, analysis, self._rules, now_ms=now_ms)
        self._tell(evaluation)
        moved = self._do(action, migration, state, now_ms)
        self._owed = (-1, ())
        self._note(evaluation, analysis, action, down_s)
        return moved

    def _away(self) -> None:
        """The target does not answer: no read goes there, and what follows from it is owed."""
        if self._down_since_s is None:
            self._down_since_s = self._clock.monotonic_s()
        seen = Seen(target_answers=False, target_down_s=self._down_s(), probes=self._senses.probes())
        evaluation = evaluate(seen, self._limits)
        self._failed = in_a_row(self._failed, evaluation)
        known = self._known
        if known is None:
            return
        found = causes(evaluation, self._failed, self._limits)
        if found:
            self._owed = (known.token, found)
        if known.authority is Authority.SOURCE and known.read_share:
            self._routes.publish_alone(Authority.SOURCE, known.token)
            self._once("shift.target_away", "the target does not answer: reads go to the source", level="warning")
        elif found and known.authority is Authority.TARGET:
            self._once("rollback.waits", f"{'; '.join(found)}: done once the target answers", level="error")

    def _down_s(self) -> float:
        return 0.0 if self._down_since_s is None else self._clock.monotonic_s() - self._down_since_s

    def _do(self, action: Action, migration: Migration, state: ShiftState, now_ms: int) -> bool:
        match action.what:
            case What.HOLD:
                return False
            case What.RAISE:
                return self._raise(action, migration, state, now_ms)
            case What.DONE:
                self._shift.change(state, replace(state, stage=Stage.DONE, reason=action.reason))
                self._alert("shift.done", f"every increment passed: {action.reason}")
            case What.PAUSE:
                return self._pause(action.reason, state)
            case What.READS_BACK:
                self._reads_back(action, migration, state, now_ms)
            case What.WRITES_BACK:
                return self._writes_back(action, migration, state, now_ms)
            case What.TELL:
                self._once("rollback.needs_operator", action.reason, level="error", log="rollback.log")
                return False
        return True

    def _raise(self, action: Action, migration: Migration, state: ShiftState, now_ms: int) -> bool:
        blocked = self._senses.blocking()
        if blocked:
            return self._pause(f"the step passed, and status blocks: {'; '.join(blocked)}", state)
        after = replace(state, stage=Stage.BAKING, since_ms=now_ms, reason=action.reason)
        reach("shift.before_raise")
        self._shift.share(migration, state, after, action.share, verb="shift", reason=action.reason)
        reach("shift.raised")
        self._routes.publish()
        self._alert("shift.raised", f"{action.share / 100:g} % of the reads go to the target: {action.reason}")
        return True

    def _pause(self, reason: str, state: ShiftState) -> bool:
        """Said once; the share stays, and the next look may pass."""
        if state.stage is Stage.INCONCLUSIVE:
            return False
        self._shift.change(state, replace(state, stage=Stage.INCONCLUSIVE, reason=reason))
        self._alert("shift.inconclusive", f"the share stays: {reason}", level="warning")
        return True

    def _reads_back(self, action: Action, migration: Migration, state: ShiftState, now_ms: int) -> None:
        after = replace(state, stage=Stage.BROUGHT_BACK, since_ms=now_ms, reason=action.reason)
        reach("shift.before_back")
        self._shift.share(migration, state, after, 0, verb="shift-back", reason=action.reason)
        reach("shift.back")
        self._routes.publish()
        self._failed = 0
        text = f"all reads go to the source again (were {migration.read_share / 100:g} %): {action.reason}"
        self._alert("shift.brought_back", text, level="error", log="rollback.log")

    def _writes_back(self, action: Action, migration: Migration, state: ShiftState, now_ms: int) -> bool:
        if self._returner.running:
            return False
        # Before it begins: a watch that is killed in between has made this attempt, and waits for the cooldown.
        self._shift.change(state, attempted(state, migration.token, now_ms=now_ms))
        reach("rollback.decided")
        self._alert("rollback.automatic", action.reason, level="error", log="rollback.log")
        self._returner.start(action.reason)
        return True

    def _after_return(self) -> None:
        ended = self._returner.ended()
        if ended is None:
            return
        worked, text = ended
        self._failed = 0 if worked else self._failed
        if worked:
            self._alert("rollback.automatic_done", text, level="warning", log="rollback.log")
        else:
            self._alert("rollback.automatic_failed", text, level="error", log="rollback.log")

    def _tell(self, evaluation: Evaluation) -> None:
        """Each trouble once, and again after it was gone."""
        names = {f"health.{one.partition(':')[0].replace(' ', '_')}": one for one in evaluation.alerts}
        if self._failed == 1 and evaluation.probed is Outcome.FAILED:
            names["health.check"] = "; ".join(
                f"{one.name}: {one.told}" for one in evaluation.checks if one.probing and one.outcome is Outcome.FAILED
            )
        for action, text in names.items():
            self._once(action, text, level="warning")
        kept = {"health.check"} if evaluation.probed is Outcome.FAILED else set()
        if not evaluation.rollback and evaluation.probed is Outcome.HEALTHY:
            self._alerted &= {*names, *kept}

    def _once(self, action: str, text: str, *, level: str, log: str = "") -> None:
        if action not in self._alerted:
            self._alerted.add(action)
            self._alert(action, text, level=level, log=log)

    def _note(self, evaluation: Evaluation, analysis: Analysis, action: Action, down_s: float) -> None:
        source, target = evaluation.window.source, evaluation.window.target
        if source.requests or target.requests:
            text = "; ".join(
                f"{name} p95 {'unknown' if one.p95_ms is None else f'{one.p95_ms:.1f} ms'}, {one.failures} of "
                f"{one.requests} failed"
                for name, one in (("source", source), ("target", target))
            )
            self._alert("performance.window", text, log="performance.log")
        document = {
            **evaluation.as_json(),
            "failed_in_a_row": self._failed,
            "step": {"verdict": analysis.verdict, "reason": analysis.reason},
            "action": action.what,
            "interval_s": self._interval_s,
            "target_was_away_s": down_s,
        }
        self._shift.looked(document)


def watches(age_s: float | None, interval_s: float) -> bool:
    """Is somebody looking? Before any share rises somebody must be there to bring it back."""
    return age_s is not None and age_s <= 3 * interval_s + 5
