"""Do: the verb demo: the sample application with live writers, moved to an embedded PostgreSQL before your eyes.

Two flows: copy and follow (here), and the whole way there, back and there again (cli/demo_cutover.py).

Everything happens in one folder that can be thrown away; every step is the same code that `up` and `verify` run. The
stream is one file, or topics of a broker: one that the demo starts itself, or one that runs already.
Invariant: what the demo started ends with it, also on SIGTERM; what a killed one left is shut down by the next
(test_the_broker_of_a_killed_demo_is_shut_down).
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cli.backup import backup_source
from cli.beginning import children, install_source, prepare_target, start_embedded
from cli.content import report_lines, verify_source
from cli.demo_cutover import demonstrate_cutover
from cli.demo_parts import configure, drain, end, fresh, say_plan, short, title, watch
from cli.look import Looker
from cli.render import lag_line
from cli.wiring import open_target, telemetry
from embedded.kafka import VERSION, EmbeddedKafka, absent
from examples.legal_cases.build import LEDGER_TOTAL, build
from examples.legal_cases.writer import start as start_writers
from ops.config import Config
from ops.supervise import Supervisor
from schemas.errors import Code, Failed, Refusal
from verify.report import Report

WRITERS = 3
RATE = 120.0
WATCH_S = 6.0


@click.command("demo")
@click.option(
    "--flow",
    type=click.Choice(["follow", "cutover"]),
    default="follow",
    show_default=True,
    help="cutover: reads and writes move to PostgreSQL, come back, and move for good; about a minute.",
)
@click.option("--folder", type=click.Path(path_type=Path), default=Path("demo-run"), show_default=True)
@click.option("--seed", type=int, default=1, show_default=True)
@click.option("--cases", type=int, default=3000, show_default=True)
@click.option("--plain", is_flag=True, help="Lines instead of the live view.")
@click.option("--transport", type=click.Choice(["local", "kafka"]), default="local", show_default=True)
@click.option("--bootstrap", default="", help="With kafka: host:port of a broker that runs already, on loopback.")
@click.option(
    "--jars",
    type=click.Path(path_type=Path),
    envvar="TAILRACE_KAFKA_JARS",
    default=Path(".cache", f"kafka-{VERSION}"),
    show_default=True,
    help="With kafka: the jars of the broker that the demo starts.",
)
def demo_command(
    flow: str, folder: Path, seed: int, cases: int, plain: bool, transport: str, bootstrap: str, jars: Path
) -> None:
    """The whole main job on sample data, in about half a minute. No server is needed."""
    folder = folder.absolute()
    if bootstrap and transport != "kafka":
        raise Refusal(Code.USAGE, "--bootstrap goes with --transport kafka", hint="add it, or leave --bootstrap out")
    if transport == "kafka" and not bootstrap and (lacking := absent(jars)):
        raise _no_broker(lacking)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as held:
        fresh(folder)
        if transport == "kafka" and not bootstrap:
            broker = EmbeddedKafka(folder / ".tailrace" / "kafka", jars=jars.absolute())
            held.callback(broker.stop)
            bootstrap = broker.start()
            click.echo(f"Kafka {VERSION} runs on {bootstrap} for this demo")
        demonstrate = demonstrate_cutover if flow == "cutover" else _demonstrate
        demonstrate(folder, held, seed=seed, cases=cases, plain=plain, bootstrap=bootstrap)


def _no_broker(lacking: str) -> Failed:
    image = f"docker run --rm -d -p 127.0.0.1:9092:9092 apache/kafka:{VERSION}"
    return Failed(
        Code.PACKAGE_MISSING,
        f"the demo cannot start a broker: {lacking}",
        hint="`make demo TRANSPORT=kafka` fetches the jars where Java and Maven are installed (apt install "
        f"default-jdk-headless maven); or, with Docker, `{image}` and then "
        "`tailrace demo --transport kafka --bootstrap 127.0.0.1:9092`",
    )


def _demonstrate(folder: Path, held: ExitStack, *, seed: int, cases: int, plain: bool, bootstrap: str) -> None:
    console = Console()
    title(console, 1, "a legal-cases application on two SQLite files")
    paths = build(folder, seed=seed, cases=cases)
    for path in paths:
        click.echo(f"  {short(path)} ({path.stat().st_size:,} bytes)")
    config = configure(folder, paths, bootstrap)
    title(console, 2, f"{WRITERS} processes begin to write, and never stop until the end")
    server = start_embedded(config)
    held.callback(server.stop)
    writers = start_writers(folder, processes=WRITERS, seed=seed, seconds=600, rate=RATE)
    held.callback(end, writers)
    looker = Looker(config, list(config.source_databases))
    held.callback(looker.close)
    supervisor = Supervisor(children(folder / "tailrace.toml"))
    held.callback(supervisor.stop)
    title(console, 3, "plan: what will be carried, translated or reported")
    say_plan(config)
    title(console, 4, "backup and triggers, while the writers write")
    events = telemetry(config, "demo", terminal=False)
    prepare_target(config)
    for name in config.source_databases:
        click.echo(f"  {backup_source(config, name, events).line}")
    for name in config.source_databases:
        install_source(config, name, wal=True)
    through = f"topics of {bootstrap}" if bootstrap else "one local file"
    title(console, 5, f"copy, catch up, follow, through {through}")
    started = time.monotonic()
    supervisor.start()
    watch(console, supervisor, looker, plain=plain, longer_s=WATCH_S)
    click.echo(f"  copied, indexed and caught up after {time.monotonic() - started:.1f} s; the writers go on")
    _prove(console, folder, config, supervisor, looker, writers)


def _prove(
    console: Console,
    folder: Path,
    config: Config,
    supervisor: Supervisor,
    looker: Looker,
    writers: list[subprocess.Popen[bytes]],
) -> None:
    title(console, 6, "verify every row on both sides, while the writers write")
    reports = [verify_source(config, name) for name in config.source_databases]
    for report in reports:
        for line in report_lines(report):
            click.echo(f"  {line}")
    ledger = _ledger(config)
    if any(writer.poll() is not None for writer in writers):
        raise Failed(Code.INTERNAL, "a writer of the sample application died", hint="run its module by hand")
    end(writers)
    title(console, 7, "the writers end; the lag falls to zero")
    final = drain(supervisor, looker)
    for name, one in final["sources"].items():
        click.echo(f"  {lag_line(name, one)}")
    reports = [verify_source(config, name) for name in config.source_databases]
    _summary(console, folder, reports, final, ledger)


def _ledger(config: Config) -> list[int | None]:
    """Sums that readers of the target see in single snapshots while money moves: None where not consistent."""
    target = open_target(config, "ledger")
    sums: list[int | None] = []
    try:
        for _ in range(50):
            with target.snapshot():
                consistent = target.rows("SELECT consistent FROM tailrace.progress WHERE source = 'cases'")[0][0]
                total = int(target.rows("SELECT sum(balance) FROM cases.ledger")[0][0])
            sums.append(total if consistent else None)
            time.sleep(0.01)
    finally:
        target.close()
    return sums


def _summary(
    console: Console, folder: Path, reports: list[Report], final: dict[str, Any], ledger: list[int | None]
) -> None:
    acknowledged = sum(len(path.read_text().splitlines()) for path in folder.glob("writer-*.acks"))
    rows = sum(table.rows for report in reports for table in report.tables)
    seen = [total for total in ledger if total is not None]
    wrong = sum(total != LEDGER_TOTAL for total in seen)
    clean = all(report.clean for report in reports)
    console.print("\n[bold]what happened[/bold]")
    click.echo(f"  {acknowledged:,} transactions were acknowledged by SQLite while everything moved")
    click.echo(f"  {rows:,} rows compared one by one after the last of them: {'all equal' if clean else 'DIFFERENT'}")
    click.echo(f"  the ledger's sum was read {len(seen)} times on the target while money moved: {wrong} times wrong")
    for name, one in final["sources"].items():
        click.echo(
            f"  {name}: lag {one['lag_changes']} changes, {'consistent' if one['consistent'] else 'NOT consistent'}"
        )
    click.echo(f"  everything is in {short(folder)}/; remove it when you are done")
    if not clean or wrong or any(one["lag_changes"] != 0 for one in final["sources"].values()):
        sys.exit(4)
