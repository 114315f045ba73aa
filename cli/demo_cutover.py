"""Do: the demo's second flow: writes move to PostgreSQL under load, come back, and move there for good.

Every step is the verb that an operator calls, in this process; what it did is told in a line or two. The application works
through the router and is never stopped: it writes down each write that it was told is done, and each of those is looked
for by its name on the side that writes belong to.
Invariant: what is not as it must be ends the demo with 4, however nice the rest looked
(test_the_demo_of_the_cutover_finds_nothing_lost).
"""

from __future__ import annotations

import io
import json
import secrets
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live
from rich.panel import Panel

from cli.backup import backup_source
from cli.beginning import children, install_source, prepare_target, start_embedded
from cli.checkpoint import checkpoint_command, replay_command
from cli.complete import complete_command
from cli.content import report_lines, verify_source
from cli.cutover import cutover_command
from cli.demo_parts import configure, end, short, title, watch
from cli.look import Looker
from cli.migration import migration_line
from cli.rollback import rollback_command
from cli.shift import shift_command
from cli.wiring import target_url, telemetry
from examples.legal_cases.build import build
from examples.legal_cases.oracle import Finding, acknowledged, judge
from examples.legal_cases.repository import (
    PostgresStore,
    SqliteStore,
    Store,
    login_url,
    prepare_postgres,
    rebuild_search,
)
from examples.legal_cases.routed import STOP_FILE, start
from ops.config import Config
from ops.supervise import Supervisor
from schemas.errors import Code, Failed, Refusal, Transient

PROCESSES, THREADS, RATE = 4, 25, 30.0
"""A hundred people; steps a second of all together, each a write and three reads."""
WORK_S, WORK_WRITES, PATIENCE_S = 3.0, 80, 60.0
"""How long people are watched on a side: until so much was written, however slow this machine is."""
LOOK_S = 0.25
SEARCH = "object:cases.case_search"
SETTINGS = """
[shift]
# A demo has a minute: two steps, and no time to bake.
increments = [10, 100]
bake_seconds = 1
min_samples = 10
[health]
interval_s = 0.5
window_s = 30
# Everything runs on this one machine: a slow moment says nothing of the target.
latency_floor_ms = 2000
"""
VERIFICATIONS, ATTEMPTS = 4, 5
CHECKPOINT = "before-the-move"
STEPS = ("baking", "inconclusive")
"""Stages in which `shift auto` goes on."""


def demonstrate_cutover(folder: Path, held: ExitStack, *, seed: int, cases: int, plain: bool, bootstrap: str) -> None:
    """The whole of it; what was started is on `held`."""
    story = _begin(folder, held, seed=seed, cases=cases, plain=plain, bootstrap=bootstrap)
    story.follow(through=f"topics of {bootstrap}" if bootstrap else "one local file")
    story.shift()
    story.switch("writes move to PostgreSQL")
    story.back()
    story.replay()
    story.switch("writes move to PostgreSQL again, for good this time")
    story.complete()
    story.summary()


def _begin(folder: Path, held: ExitStack, *, seed: int, cases: int, plain: bool, bootstrap: str) -> Story:
    # Its own file: the verbs' output is caught while they run, and must not take this one's along.
    console = Console(file=sys.stdout)
    begun_s = time.monotonic()
    title(console, 1, "a legal-cases application on two SQLite files, a hundred people at work")
    paths = build(folder, seed=seed, cases=cases)
    for path in paths:
        click.echo(f"  {short(path)} ({path.stat().st_size:,} bytes)")
    config = configure(folder, paths, bootstrap, more=SETTINGS)
    server = start_embedded(config)
    held.callback(server.stop)
    story = Story(folder, config, console, live=console.is_terminal and not plain, begun_s=begun_s)
    people = start(folder, story.url, processes=PROCESSES, threads=THREADS, rate=RATE, seed=seed)
    held.callback(end, people)
    story.people += people
    held.callback(story.looker.close)
    held.callback(story.supervisor.stop)
    return story


class Story:
    """One run of the flow, and what it found."""

    def __init__(self, folder: Path, config: Config, console: Console, *, live: bool, begun_s: float) -> None:
        self.folder = folder
        self.config = config
        self.config_path = folder / "tailrace.toml"
        self.console = console
        self.live = live
        self.begun_s = begun_s
        self.chapter = 1
        self.password = secrets.token_urlsafe(16)
        self.url = login_url(target_url(config), self.password)
        self.people: list[subprocess.Popen[bytes]] = []
        self.looker = Looker(config, list(config.source_databases))
        self.supervisor = Supervisor(children(self.config_path))
        self.pauses: list[str] = []
        self.wrong: dict[str, int] = {}

    # the steps

    def follow(self, *, through: str) -> None:
        self._title(f"backup, triggers, copy, follow, through {through}")
        events = telemetry(self.config, "demo", terminal=False)
        prepare_target(self.config)
        for name in self.config.source_databases:
            click.echo(f"  {backup_source(self.config, name, events).line}")
        for name in self.config.source_databases:
            click.echo(f"  {install_source(self.config, name, wal=True)}")
        self.supervisor.start()
        watch(self.console, self.supervisor, self.looker, plain=not self.live, longer_s=0.0)
        prepare_postgres(target_url(self.config), self.password)
        click.echo("  the application got a login of its own on PostgreSQL, and its triggers there")
        self._verify()
        self._call(checkpoint_command, CHECKPOINT)

    def shift(self) -> None:
        self._title("reads move by percentage, each step watched; writes stay")
        self._looked_at()
        self._call(shift_command, "auto", "--detach")
        said: tuple[float, str] | None = None
        with self._panel() as show:
            while True:
                state = self._call(shift_command, "--status", quiet=True)
                now = state["read_share"], state["stage"]
                if now != said:
                    said = now
                    why = state["health"]["step"]["reason"] if state["stage"] in STEPS else state["reason"]
                    # Without enough requests a look concludes nothing; that is what the first looks of a step are.
                    stage = "waits" if now[1] == "inconclusive" else now[1]
                    line = f"  {now[0]:.0%} of the reads on PostgreSQL: {stage}, {why}"
                    self.console.print(line, highlight=False, soft_wrap=True)
                show()
                if state["stage"] not in STEPS:
                    break
                time.sleep(LOOK_S)
        if state["stage"] != "done":
            raise Failed(Code.INTERNAL, f"the reads came back: {state['reason']}", hint="tailrace shift --status")

    def switch(self, text: str) -> None:
        self._title(text)
        done = self._switched()
        parts = ", ".join(f"{name} {seconds * 1000:.0f}" for name, seconds in done["parts_s"].items())
        self._paused("to PostgreSQL", done["pause_s"], f" ({parts})")
        self._work("PostgreSQL", "target")

    def _switched(self) -> dict[str, Any]:
        """On a busy machine a writer may hold its lock for too long: refused, or taken back, and asked for again."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._call(cutover_command, "--waive", SEARCH)
            except (Refusal, Transient) as error:
                click.echo(f"  not now: {error.message}")
                time.sleep(1.0)
        return self._call(cutover_command, "--waive", SEARCH)

    def back(self) -> None:
        self._title("and back to SQLite, with everything that was written meanwhile")
        done = self._call(rollback_command, "--reason", "a trial")
        self._paused("back to SQLite", done["pause_s"], "")
        rebuild_search(self.folder)
        click.echo("  the application rebuilt its full-text index, which its triggers keep on SQLite alone")
        self._work("SQLite", "source")
        self._verify()

    def replay(self) -> None:
        self._title("replay: the target reads the stream again from the checkpoint on")
        done = self._call(replay_command, "--from", CHECKPOINT)
        touched = sum(done["touched"].values())
        changes = ", ".join(f"{name} up to {seq:,}" for name, seq in sorted(done["upto"].items()))
        click.echo(
            f"  {changes}; {touched:,} keys that it had changed were looked up at the sources; {done['seconds']:.1f} s"
        )
        self._verify()

    def complete(self) -> None:
        self._title("the way back is given up, and people go home")
        self._call(complete_command, "--yes", "COMPLETE")
        (self.folder / STOP_FILE).touch()
        for one in self.people:
            if code := one.wait(timeout=PATIENCE_S):
                raise Failed(Code.INTERNAL, f"a process of the application ended with {code}", hint="run it by hand")

    def summary(self) -> None:
        store = PostgresStore(self.url)
        try:
            found = judge(self.folder, store, ended=True)
        finally:
            store.close()
        self._blame(found)
        acked = found.acknowledged
        click.echo()
        self.console.print(f"[bold]what happened[/bold] [dim]({time.monotonic() - self.begun_s:.0f} s)[/dim]")
        click.echo(
            f"  writes  {acked.total:,} acknowledged, {acked.at('source'):,} by SQLite and {acked.at('target'):,} by "
            f"PostgreSQL: lost {len(found.lost) + len(found.lost_sessions)}, doubled {len(found.doubled)}"
        )
        click.echo(
            f"  people  {PROCESSES * THREADS} stayed at work; {len(acked.logins):,} logins, and {len(acked.writes):,} "
            f"looks at a session on whichever side: {len(found.errors)} failed"
        )
        click.echo(f"  pauses  {'; '.join(self.pauses)}")
        exact = not (found.ledger_off or found.counter_off or found.audit_off)
        click.echo(
            f"  sums    ledger, counters and audit rows after two moves and back: {'exact' if exact else 'WRONG'}"
        )
        click.echo("  now     PostgreSQL is the database; the SQLite files are a fenced archive")
        click.echo(f"  everything is in {short(self.folder)}/; remove it when you are done")
        if self.wrong:
            listed = ", ".join(f"{what} {count}" for what, count in self.wrong.items())
            self.console.print(f"[bold red]WRONG: {listed}[/bold red]", highlight=False)
            sys.exit(4)

    # what the steps are made of

    def _title(self, text: str) -> None:
        self.chapter += 1
        title(self.console, self.chapter, f"{text} [dim]({time.monotonic() - self.begun_s:.0f} s)[/dim]")

    def _call(self, command: click.Command, *arguments: str, quiet: bool = False) -> dict[str, Any]:
        """The verb with --json. Its errors name what is in the way, so what it says aside is not shown."""
        if not quiet:
            line = f"  [dim]$ tailrace {command.name} {shlex.join(arguments)}[/dim]"
            self.console.print(line, highlight=False, soft_wrap=True)
        said, aside = io.StringIO(), io.StringIO()
        with redirect_stdout(said), redirect_stderr(aside):
            code = command.main([*arguments, "--json"], obj=self.config_path, standalone_mode=False)
        if code:
            told = f"{command.name} ended with {code}: {aside.getvalue().strip()}"
            raise Failed(Code.INTERNAL, told, hint="see migration.log in the demo folder")
        document: dict[str, Any] = json.loads(said.getvalue())
        return document

    def _looked_at(self) -> None:
        """The watch looks now and then: a share rises only on a look at what was verified a moment ago."""
        until_s = time.monotonic() + PATIENCE_S
        while time.monotonic() < until_s:
            state = self._call(shift_command, "--status", quiet=True)
            if state["watched"] and not any(one["outcome"] == "failed" for one in state["health"]["checks"]):
                return
            time.sleep(LOOK_S)

    def _paused(self, where: str, pause_s: float, more: str) -> None:
        self.pauses.append(f"{where} {pause_s * 1000:.0f} ms")
        self.console.print(
            f"  nobody could write for [bold]{pause_s * 1000:.0f} ms[/bold]{more}", highlight=False, soft_wrap=True
        )

    def _work(self, name: str, side: str) -> None:
        """People work on this side for a while, and everything they were ever told is looked for there."""
        before, begun_s = acknowledged(self.folder).at(side), time.monotonic()
        with self._panel() as show:
            while True:
                for line in self.supervisor.look():
                    self.console.print(f"  {line}")
                show()
                written, passed_s = acknowledged(self.folder).at(side) - before, time.monotonic() - begun_s
                if written >= WORK_WRITES and passed_s >= WORK_S:
                    break
                if passed_s > PATIENCE_S:
                    raise Failed(Code.INTERNAL, f"{written} writes on {name} in {passed_s:.0f} s", hint="see error.log")
                time.sleep(LOOK_S)
        store: Store = PostgresStore(self.url) if side == "target" else SqliteStore(self.folder)
        try:
            found = judge(self.folder, store)
        finally:
            store.close()
        self._blame(found)
        click.echo(
            f"  {written:,} writes on {name} since; of {found.acknowledged.total:,} acknowledged in all, "
            f"{len(found.lost) + len(found.lost_sessions)} are lost and {len(found.doubled)} doubled there"
        )

    def _verify(self) -> None:
        """A row that never stands still while it is looked at is not compared, and looked at again."""
        for name in self.config.source_databases:
            for _ in range(VERIFICATIONS):
                report = verify_source(self.config, name)
                if report.clean or report.differences:
                    break
            for line in report_lines(report):
                click.echo(f"  {line}")
            if not report.clean:
                self.wrong["sources that differ"] = self.wrong.get("sources that differ", 0) + 1

    def _blame(self, found: Finding) -> None:
        """The worst that was seen of each kind."""
        for what, count in found.wrong.items():
            self.wrong[what] = max(count, self.wrong.get(what, 0))

    @contextmanager
    def _panel(self) -> Iterator[Callable[[], None]]:
        """Where writes go and what was acknowledged, on a terminal; elsewhere nothing."""
        if not self.live:
            yield lambda: None
            return
        with Live(console=self.console, auto_refresh=False, transient=True) as live:
            yield lambda: live.update(self._state(), refresh=True)

    def _state(self) -> Panel:
        acked = acknowledged(self.folder)
        lines = [
            migration_line(self.looker.look()),
            f"acknowledged: {acked.at('source'):,} by SQLite, {acked.at('target'):,} by PostgreSQL, of which "
            f"{len(acked.logins):,} logins",
        ]
        return Panel("\n".join(lines), title="tailrace demo", title_align="left", border_style="cyan")
