"""Do: what comes when the target is open: see that the way back arrives, that what it brought is what was written, and
validate what came with the open. Writes go on meanwhile."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass, field

from adapters.postgres import Postgres
from capture.sqlite_source import SqliteSource
from cli.cutover_wiring import BackLook, guard_of
from cli.wiring import open_source
from cutover.authority import AuthorityRow
from cutover.tail import Tail, TailCompare
from cutover.way_back import NEXT, lost_of
from ops.clock import SystemClock
from ops.config import Config
from ops.telemetry import Telemetry
from schemas.change import Position
from schemas.errors import Code, Refusal, Superseded, TailraceError, Transient

TAIL_S = 10.0


def _compared(config: Config, session: Postgres, row: AuthorityRow, token: int, events: Telemetry) -> Tail:
    """Writes go on either way: whoever switched should know at once what a rollback would have to wait for, or lose. A row
    that came back as something else is no way back, until every row was sent again."""
    with ExitStack() as held:
        look = BackLook(config)
        held.callback(look.close)
        sources = {}
        for name in config.source_databases:
            db = open_source(config, name)
            held.callback(db.close)
            sources[name] = (source := SqliteSource(db, name), source)
        try:
            opened = row.read()
            start = Position(opened.reverse_label, opened.reverse_start)
            tail = TailCompare(session, sources, look, SystemClock()).run(start, budget_s=TAIL_S)
        except (Transient, Refusal) as error:
            if error.code not in (Code.DRAIN_TIMEOUT, Code.NO_ROLLBACK):
                raise
            events.event("cutover.tail", f"the way back has not arrived yet: {error.message}", level="warning")
            return Tail()
        for name, rows in tail.differing.items():
            events.event("cutover.tail", f"{name}: what came back is not what was written: {rows[0]}", level="error")
        # Where it went back meanwhile no rollback can be stopped any more: exit code and lines say what differs.
        with suppress(Superseded):
            wrong = {lost_of(name): f"{len(rows)} rows came back wrong" for name, rows in tail.differing.items()}
            row.lose(token, wrong)
        return tail


@dataclass(slots=True)
class AfterOpen:
    """What was found behind the open. Nothing of it moves writes: they belong to PostgreSQL whatever stands here."""

    tail: Tail = field(default_factory=Tail)
    not_validated: dict[str, str] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)
    """Steps that could not be done, each with why and the next step."""

    @property
    def exit_code(self) -> int:
        return 4 if self.tail.differing else 1 if self.failed else 0

    def lines(self) -> list[str]:
        lines = _tail_lines(self.tail)
        lines += [f"not validated: {name}: {why}" for name, why in self.not_validated.items()]
        if self.failed:
            lines.append("writes moved, and go on on PostgreSQL; what failed is what comes after the switch:")
            lines += [f"  {one}" for one in self.failed]
            lines.append("  next: tailrace status; tailrace verify --integrity names what is still missing there")
        return lines


def after_open(config: Config, session: Postgres, row: AuthorityRow, token: int, events: Telemetry) -> AfterOpen:
    """Each step by itself: one that fails keeps no other from being done, and none of them ends the verb as if nothing
    had moved (test_what_fails_behind_the_open_says_that_writes_moved)."""
    found = AfterOpen()
    try:
        found.tail = _compared(config, session, row, token, events)
    except TailraceError as error:
        found.failed.append(f"compare what came back: {error}")
    try:
        # Writers are back already: this reads every row and holds nobody up.
        found.not_validated = guard_of(config, session, row, events.say)[1].validate()
    except TailraceError as error:
        found.failed.append(f"validate foreign keys and CHECKs: {error}")
    for text in found.failed:
        events.event(
            "cutover.after_open", f"writes belong to PostgreSQL; failed behind the switch: {text}", level="error"
        )
    return found


def _tail_lines(tail: Tail) -> list[str]:
    if tail.arrived_s is None:
        return [f"the way back did not arrive within {TAIL_S:g} s: do capture and sink run? tailrace rollback --status"]
    words = [f"{tail.equal_rows} rows written there are equal"] if tail.equal_rows else []
    words += [f"{tail.moving_rows} were written too often to be compared"] if tail.moving_rows else []
    compared = ", ".join(words) or "nothing was written there yet"
    lines = [f"the way back has arrived at every file ({tail.arrived_s:.1f} s; {compared})"]
    for name, rows in tail.differing.items():
        lines += [f"{name}: NO WAY BACK, what came back is not what was written: {one}" for one in rows[:5]]
        lines.append(f"  next: {NEXT.format(source=name)}")
    return lines
