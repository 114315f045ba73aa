"""The share of reads steps up under a watch, and goes back for each cause; after the switch the writes do. Real databases,
a simulated application that reports."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from cutover.authority import AuthorityRow
from cutover.health import Thresholds
from cutover.reports import WINDOW_MS, Instance, RouterReports, Window
from cutover.routing import ROUTE_FILE, RoutePublisher
from cutover.shift import ShiftRules, Stage
from cutover.shift_row import ShiftRow
from cutover.vitals import Senses
from cutover.watch import Watch
from ops.clock import SystemClock
from schemas.authority import Authority
from schemas.errors import Failed, Superseded
from tests.cutover_rig import Rig
from tests.unit.cutover.test_health import side

LIMITS = Thresholds(min_samples=50, target_down_s=30.0)
RULES = ShiftRules(bake_s=9.0)
WELL = {"source": side(100), "target": side(100)}


@dataclass
class Application:
    """What the application and its surroundings show."""

    rig: Rig
    windows: list[Window] = field(default_factory=list)
    epochs: dict[str, int | None] = field(default_factory=lambda: {"web-1": None, "web-2": None})
    """None: the one in force."""
    ages: dict[str, float] = field(default_factory=dict)
    target: str = ""
    probes: dict[str, str | None] = field(default_factory=lambda: {"url 1": ""})
    disk_full: list[str] = field(default_factory=list)
    blocking: list[str] = field(default_factory=list)

    def reports(self) -> RouterReports:
        token = self.rig.row.read().token
        instances = {
            name: Instance(token if epoch is None else epoch, self.ages.get(name, 1.0))
            for name, epoch in self.epochs.items()
        }
        return RouterReports(tuple(self.windows[-60:]), instances)


class Returner:
    """The way back, in this process: the rig's clock steps the streams while it waits."""

    running = False

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self.reasons: list[str] = []
        self._ended: tuple[bool, str] | None = None
        self.fails = False

    def start(self, reason: str) -> None:
        self.reasons.append(reason)
        if not self.fails:
            self._rig.rollback().run(reason=reason)
        self._ended = (not self.fails, "as asked")

    def ended(self) -> tuple[bool, str] | None:
        found, self._ended = self._ended, None
        return found


class Shifting:
    """The rig with an application, a watch and what it told."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.app = Application(rig)
        self.returner = Returner(rig)
        self.told: list[tuple[str, str, str]] = []
        self.routes = RoutePublisher(
            rig.postgres(), list(rig.sides), rig.folder, None, SystemClock(), lambda action, text: None
        )
        self.watch = self.make()
        self.shift = ShiftRow(rig.target, rig.row)

    def make(self, rules: ShiftRules = RULES) -> Watch:
        session = self.rig.postgres()
        app = self.app
        senses = Senses(
            reports=app.reports,
            target=lambda: app.target,
            probes=lambda: app.probes,
            disk_full=lambda: app.disk_full,
            blocking=lambda: app.blocking,
        )
        return Watch(
            session,
            list(self.rig.sides),
            AuthorityRow(session, actor="watch"),
            self.routes,
            self.rig.clock,
            senses,
            self.returner,
            self._alert,
            limits=LIMITS,
            rules=rules,
            interval_s=5.0,
            window_s=60.0,
        )

    def _alert(self, action: str, text: str, *, level: str = "info", log: str = "") -> None:
        self.told.append((action, text, log))

    def actions(self) -> list[str]:
        return [action for action, _, _ in self.told if not action.startswith("performance.")]

    def serve(self, **sides: object) -> None:
        """One window of requests, and the look after it."""
        clock = self.rig.clock
        clock.ms += -clock.ms % WINDOW_MS
        self.app.windows.append(Window(clock.ms, clock.ms + WINDOW_MS, **(sides or WELL)))  # type: ignore[arg-type]
        clock.ms += WINDOW_MS + 100
        self.watch.step()

    def set(self, share: int, stage: Stage) -> None:
        state = self.shift.read().state
        after = replace(state, stage=stage, since_ms=self.rig.clock.now_ms())
        self.shift.share(self.rig.row.read(), state, after, share, verb="shift", reason="test")

    @property
    def share(self) -> int:
        return self.rig.row.read().read_share

    @property
    def stage(self) -> Stage:
        return self.shift.read().state.stage

    def route(self) -> dict[str, object]:
        return json.loads((self.rig.folder / ROUTE_FILE).read_text())  # type: ignore[no-any-return]


@pytest.fixture
def one(tmp_path: Path, database_url: str) -> Iterator[Shifting]:
    rig = Rig(tmp_path, database_url)
    for name, its in rig.sides.items():
        its.app.run("INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b')", (name,))
    rig.settle()
    rig.install_back()
    verify(rig)
    yield Shifting(rig)
    rig.close()


def verify(rig: Rig, *, rows: int = 1000, differing: int = 0, not_compared: int = 0) -> None:
    """What a verification of now would have stored."""
    for name in rig.sides:
        rig.target.run("DELETE FROM tailrace.verdicts WHERE source = %s", (name,))
        rig.target.run(
            "INSERT INTO tailrace.verdicts VALUES (%s, 't', %s, 1, %s, %s, 0, 0, %s)",
            (name, SystemClock().now_ms(), rows, differing, not_compared),
        )


def test_from_ten_to_a_hundred(one: Shifting) -> None:
    one.set(1000, Stage.BAKING)
    seen = [1000]
    for _ in range(20):
        one.serve()
        if one.share != seen[-1]:
            seen.append(one.share)
        if one.stage is Stage.DONE:
            break
    assert [1000, 2500, 5000, 7500, 9000, 10_000] == seen
    assert Stage.DONE == one.stage
    assert 10_000 == one.route()["read_share"]
    journal = one.rig.target.rows("SELECT (detail->>'to')::int FROM tailrace.journal WHERE verb = 'shift' ORDER BY seq")
    assert seen == [share for (share,) in journal]
    assert ["shift.raised"] * 5 + ["shift.done"] == one.actions()
    assert {"performance.log"} == {log for action, _, log in one.told if action == "performance.window"}
    health = one.shift.read().health
    assert health is not None
    assert ("healthy", 100.0) == (health["outcome"], health["integrity_percent"])


def test_a_step_waits_for_samples_and_goes_on_when_they_come(one: Shifting) -> None:
    one.set(1000, Stage.BAKING)
    for _ in range(4):
        one.serve(source=side(100), target=side(5))
    assert (1000, Stage.INCONCLUSIVE) == (one.share, one.stage)
    assert ["shift.inconclusive"] == one.actions()
    one.serve()
    assert (2500, Stage.BAKING) == (one.share, one.stage)


def test_a_failed_step_goes_back_to_nothing_at_once(one: Shifting) -> None:
    one.set(2500, Stage.BAKING)
    one.serve(source=side(100), target=side(100, 2))
    assert (0, Stage.BROUGHT_BACK) == (one.share, one.stage)
    assert 0 == one.route()["read_share"]
    assert ("shift.brought_back", "rollback.log") in [(action, log) for action, _, log in one.told]
    one.serve()
    assert (0, Stage.BROUGHT_BACK) == (one.share, one.stage)
    # An operator begins again; the requests of the time before are no longer counted.
    one.set(1000, Stage.BAKING)
    for _ in range(3):
        one.serve()
    assert one.share > 1000


def test_a_step_that_passed_waits_for_what_status_blocks(one: Shifting) -> None:
    one.set(1000, Stage.BAKING)
    one.app.blocking = ["cases: 3 rows in quarantine"]
    for _ in range(3):
        one.serve()
    assert (1000, Stage.INCONCLUSIVE) == (one.share, one.stage)
    assert "3 rows in quarantine" in one.shift.read().state.reason
    one.app.blocking = []
    one.serve()
    assert 2500 == one.share


def cause(one: Shifting, name: str) -> dict[str, object]:
    """Make it; what the application then serves."""
    match name:
        case "error rate":
            return {"source": side(100), "target": side(100, 20)}
        case "integrity":
            verify(one.rig, rows=940, not_compared=60)
        case "proven to differ":
            verify(one.rig, differing=1)
        case "no room left":
            one.app.disk_full = ["sink cases: target-disk-full"]
        case "follows epoch":
            one.app.epochs["web-1"] = 99
        case "health checks failed in a row":
            one.app.probes = {"url 1": "answers 503"}
        case "the way back does not carry":
            one.rig.target.run('UPDATE tailrace.migration SET no_rollback = \'{"t": "a column went"}\'')
    return WELL


LOOKS = {"follows epoch": (3, 6), "health checks failed in a row": (3, 3)}
"""At least and at most. A mismatch counts after its grace, checks after the third; everything else at the next look."""
CAUSES = [
    "error rate",
    "integrity",
    "proven to differ",
    "no room left",
    "follows epoch",
    "health checks failed in a row",
]


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_brings_reads_back_within_the_next_look(one: Shifting, name: str) -> None:
    one.set(1000, Stage.HELD)
    one.serve()
    assert 1000 == one.share
    served = cause(one, name)
    looks = 0
    while one.share and looks < 10:
        one.serve(**served)
        looks += 1
    least, most = LOOKS.get(name, (1, 1))
    assert least <= looks <= most
    assert (0, Stage.BROUGHT_BACK) == (one.share, one.stage)
    assert name in one.shift.read().state.reason
    assert 1 == one.actions().count("shift.brought_back")


@pytest.mark.parametrize("name", CAUSES)
def test_each_cause_brings_writes_back_after_the_switch(one: Shifting, name: str) -> None:
    one.serve()
    one.rig.switch().run(one.rig.row.read())
    one.serve()
    one.rig.target.run("INSERT INTO cases.t VALUES (7, 'written there', 'g')")
    assert Authority.TARGET == one.rig.row.read().authority
    served = cause(one, name)
    looks = 0
    while not one.returner.reasons and looks < 10:
        one.serve(**served)
        looks += 1
    least, most = LOOKS.get(name, (1, 1))
    assert least <= looks <= most
    assert 1 == len(one.returner.reasons)
    assert name in one.returner.reasons[0]
    assert (Authority.SOURCE, 0) == (one.rig.row.read().authority, one.share)
    assert (7, "written there", "g") in one.rig.source_rows("cases")
    for _ in range(4):
        one.serve(**served)
    assert 1 == len(one.returner.reasons)
    assert {"rollback.automatic", "rollback.automatic_done"} <= set(one.actions())
    # The operator switches again, and it is no better: within the cooldown nobody goes back by itself.
    one.rig.settle()
    one.rig.switch().run(one.rig.row.read())
    for _ in range(6):
        one.serve(**cause(one, name))
    assert 1 == len(one.returner.reasons)
    assert 1 == one.actions().count("rollback.needs_operator")


def test_what_could_not_be_brought_back_is_tried_again_after_the_cooldown(one: Shifting) -> None:
    one.watch = one.make(replace(RULES, cooldown_s=60.0))
    one.rig.switch().run(one.rig.row.read())
    one.serve()
    one.returner.fails = True
    served = cause(one, "error rate")
    for _ in range(50):
        one.serve(**served)
    assert 3 == len(one.returner.reasons)
    assert 3 == one.actions().count("rollback.automatic_failed")
    assert 1 == one.actions().count("rollback.needs_operator")


def test_a_way_back_that_would_lose_something_is_told_and_not_taken(one: Shifting) -> None:
    one.rig.switch().run(one.rig.row.read())
    cause(one, "the way back does not carry")
    one.serve()
    assert [] == one.returner.reasons
    assert 1 == one.actions().count("rollback.needs_operator")


def test_switched_off_it_only_tells(one: Shifting) -> None:
    one.watch = one.make(replace(RULES, auto_rollback_enabled=False))
    one.set(1000, Stage.BAKING)
    for _ in range(3):
        one.serve(source=side(100), target=side(100, 50))
    assert (1000, Stage.INCONCLUSIVE) == (one.share, one.stage)
    assert "auto_rollback_enabled = false" in one.shift.read().state.reason


def test_noise_brings_nothing_back(one: Shifting) -> None:
    """Every request at the target fails, and they are few; a probe fails twice; Redis is away; no look is good."""
    one.set(1000, Stage.HELD)
    for look in range(12):
        one.app.probes = {"url 1": "answers 503" if look % 3 else ""}
        one.app.windows.clear()
        one.serve(source=side(100), target=side(40, 40))
    assert 1000 == one.share


def test_noise_brings_no_writes_back(one: Shifting) -> None:
    """After the switch: the same few requests, of which each fails, and a probe that fails twice and is good again."""
    one.rig.switch().run(one.rig.row.read())
    one.serve()
    for look in range(12):
        one.app.probes = {"url 1": "answers 503" if look % 3 else ""}
        one.app.windows.clear()
        one.serve(source=side(0), target=side(40, 40))
    assert [] == one.returner.reasons
    assert Authority.TARGET == one.rig.row.read().authority


def test_a_target_that_was_away_too_long_after_the_switch(one: Shifting) -> None:
    """Nothing can be brought back from a server that does not answer; it is at the first look that reaches it."""
    one.rig.switch().run(one.rig.row.read())
    one.serve()
    one.app.target = "target-unreachable"
    for _ in range(8):
        one.serve()
    assert [] == one.returner.reasons
    assert 1 == one.actions().count("rollback.waits")
    one.app.target = ""
    one.serve()
    assert ["the target was away"] == [
        reason.partition(" for")[0].rpartition(": ")[2] for reason in one.returner.reasons
    ]
    assert Authority.SOURCE == one.rig.row.read().authority


def test_a_target_that_was_away_too_long(one: Shifting) -> None:
    one.set(1000, Stage.HELD)
    one.serve()
    one.routes.publish()
    assert 1000 == one.route()["read_share"]
    one.app.target = "target-unreachable"
    one.serve()
    # At once, although the row cannot be changed.
    assert 0 == one.route()["read_share"]
    for _ in range(7):
        one.serve()
    assert 1000 == one.share
    one.app.target = ""
    one.serve()
    assert (0, Stage.BROUGHT_BACK) == (one.share, one.stage)
    assert "the target was away for" in one.shift.read().state.reason


def test_a_target_that_restarts_brings_nothing_back(one: Shifting) -> None:
    one.set(1000, Stage.HELD)
    one.serve()
    one.app.target = "target-unreachable"
    one.serve()
    one.serve()
    one.app.target = ""
    for _ in range(4):
        one.serve()
    assert 1000 == one.share


def test_a_step_decided_before_shift_back_changes_nothing(one: Shifting) -> None:
    one.set(1000, Stage.BAKING)
    before, state = one.rig.row.read(), one.shift.read().state
    one.set(0, Stage.IDLE)
    with pytest.raises(Superseded, match="changed by somebody else"):
        one.shift.share(before, state, state, 2500, verb="shift", reason="late")
    assert 0 == one.share


def test_a_share_of_the_time_before_a_switch_changes_nothing(one: Shifting) -> None:
    before, state = one.rig.row.read(), one.shift.read().state
    one.rig.switch().run(before, practise=True)
    with pytest.raises(Superseded):
        one.shift.share(before, state, state, 2500, verb="shift", reason="late")
    assert (0, state) == (one.share, one.shift.read().state)


def test_a_target_without_the_table_has_no_state(one: Shifting) -> None:
    """Bookkeeping of a release before this one."""
    one.rig.target.run("DROP TABLE tailrace.shift")
    assert (Stage.IDLE, None) == (one.stage, one.shift.read().health)


def test_application_writes_are_still_refused_at_the_target(one: Shifting) -> None:
    """Reads alone are shifted."""
    one.set(10_000, Stage.HELD)
    session: Postgres = one.rig.postgres()
    session.run("DO $$ BEGIN CREATE ROLE reader LOGIN PASSWORD 'app'; EXCEPTION WHEN duplicate_object THEN END $$")
    session.run("GRANT USAGE ON SCHEMA cases TO reader")
    session.run("GRANT ALL ON cases.t TO reader")
    reader = Postgres(f"postgresql://reader:app@{one.rig.url.split('@')[1]}", application_name="reader")
    one.rig.opened.append(reader)
    assert 2 == reader.rows("SELECT count(*) FROM cases.t")[0][0]
    with pytest.raises(Failed, match="has not switched"):
        reader.run("INSERT INTO cases.t VALUES (9, 'x', 'y')")
