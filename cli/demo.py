"""Do: the verb demo: the sample application with live writers, moved to an embedded PostgreSQL before your eyes.

Everything happens in one folder that can be thrown away; every step is the same code that `up` and `verify` run. The
stream is one file, or topics of a broker: one that the demo starts itself, or one that runs already.
Invariant: what the demo started ends with it, also on SIGTERM; what a killed one left is shut down by the next
(test_the_broker_of_a_killed_demo_is_shut_down).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from cli.backup import backup_source
from cli.content import report_lines, verify_source
from cli.look import Looker
from cli.planning import plan_document
from cli.render import lag_line, status_panel
from cli.up import _children, _embedded, _install, _prepare_target, settled
from cli.wiring import open_target, telemetry
from embedded.kafka import VERSION, EmbeddedKafka, absent, end_orphan
from embedded.postgres import discard
from examples.legal_cases.build import LEDGER_TOTAL, build
from examples.legal_cases.writer import start as start_writers
from ops.config import Config, load, sample
from ops.supervise import Supervisor
from schemas.errors import Code, Failed, Refusal
from verify.report import Report

WRITERS = 3
RATE = 120.0
CAUGHT_UP_S = 60.0
WATCH_S = 6.0


@click.command("demo")
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
def demo_command(folder: Path, seed: int, cases: int, plain: bool, transport: str, bootstrap: str, jars: Path) -> None:
    """The whole main job on sample data, in about half a minute. No server is needed."""
    folder = folder.absolute()
    if bootstrap and transport != "kafka":
        raise Refusal(Code.USAGE, "--bootstrap goes with --transport kafka", hint="add it, or leave --bootstrap out")
    if transport == "kafka" and not bootstrap and (lacking := absent(jars)):
        raise _no_broker(lacking)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with ExitStack() as held:
        _fresh(folder)
        if transport == "kafka" and not bootstrap:
            broker = EmbeddedKafka(folder / ".tailrace" / "kafka", jars=jars.absolute())
            held.callback(broker.stop)
            bootstrap = broker.start()
            click.echo(f"Kafka {VERSION} runs on {bootstrap} for this demo")
        _demonstrate(folder, held, seed=seed, cases=cases, plain=plain, bootstrap=bootstrap)


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
    _title(console, 1, "a legal-cases application on two SQLite files")
    paths = build(folder, seed=seed, cases=cases)
    for path in paths:
        click.echo(f"  {_short(path)} ({path.stat().st_size:,} bytes)")
    config = _configure(folder, paths, bootstrap)
    _title(console, 2, f"{WRITERS} processes begin to write, and never stop until the end")
    server = _embedded(config)
    held.callback(server.stop)
    writers = start_writers(folder, processes=WRITERS, seed=seed, seconds=600, rate=RATE)
    held.callback(_end, writers)
    looker = Looker(config, list(config.source_databases))
    held.callback(looker.close)
    supervisor = Supervisor(_children(folder / "tailrace.toml"))
    held.callback(supervisor.stop)
    _title(console, 3, "plan: what will be carried, translated or reported")
    _say_plan(config)
    _title(console, 4, "backup and triggers, while the writers write")
    events = telemetry(config, "demo", terminal=False)
    _prepare_target(config)
    for name in config.source_databases:
        click.echo(f"  {backup_source(config, name, events).line}")
    for name in config.source_databases:
        _install(config, name, wal=True)
    through = f"topics of {bootstrap}" if bootstrap else "one local file"
    _title(console, 5, f"copy, catch up, follow, through {through}")
    started = time.monotonic()
    supervisor.start()
    _watch(console, supervisor, looker, plain=plain)
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
    _title(console, 6, "verify every row on both sides, while the writers write")
    reports = [verify_source(config, name) for name in config.source_databases]
    for report in reports:
        for line in report_lines(report):
            click.echo(f"  {line}")
    ledger = _ledger(config)
    if any(writer.poll() is not None for writer in writers):
        raise Failed(Code.INTERNAL, "a writer of the sample application died", hint="run its module by hand")
    _end(writers)
    _title(console, 7, "the writers end; the lag falls to zero")
    final = _drain(supervisor, looker)
    for name, one in final["sources"].items():
        click.echo(f"  {lag_line(name, one)}")
    reports = [verify_source(config, name) for name in config.source_databases]
    _summary(console, folder, reports, final, ledger)


def _fresh(folder: Path) -> None:
    marker = folder / ".tailrace-demo"
    if folder.exists():
        if not marker.exists() and any(folder.iterdir()):
            raise Refusal(Code.USAGE, f"{folder} is not a demo folder", hint="choose another with --folder")
        discard(folder / ".tailrace" / "postgres")
        end_orphan(folder / ".tailrace" / "kafka")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    marker.touch()


def _configure(folder: Path, paths: Sequence[Path], bootstrap: str) -> Config:
    config_path = folder / "tailrace.toml"
    text = sample({path.stem: path.name for path in paths}, target_url="", bootstrap_servers=bootstrap)
    if bootstrap:
        # A broker that ran before may hold the topics of an earlier demo.
        text = text.replace("[transport]\n", f'[transport]\nprefix = "tailrace-demo-{os.getpid()}"\n')
    config_path.write_text(text, encoding="utf-8")
    return load(config_path)


def _short(path: Path) -> str:
    return os.path.relpath(path)


def _title(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}. {text}[/bold cyan]")


def _say_plan(config: Config) -> None:
    document = plan_document(config, list(config.source_databases))
    for source, part in document["sources"].items():
        verdicts: dict[str, int] = {}
        for one in part["objects"]:
            verdicts[one["verdict"]] = verdicts.get(one["verdict"], 0) + 1
        words = ", ".join(f"{count} objects {verdict}" for verdict, count in sorted(verdicts.items()))
        click.echo(
            f"  {source}: {len(part['tables'])} tables, {sum(t['rows'] for t in part['tables']):,} rows; {words}"
        )
        for table in part["tables"]:
            for column in table["columns"]:
                if column["codec"] in ("jsonb", "boolean") or column["codec"].startswith("affinity"):
                    click.echo(f"    {table['table']}.{column['column']} -> {column['type']}: {column['why']}")


def _watch(console: Console, supervisor: Supervisor, looker: Looker, *, plain: bool) -> None:
    """The live view until everything follows, and a little longer to see the lag stay small."""
    live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal and not plain else None
    deadline = time.monotonic() + CAUGHT_UP_S
    follows_s: float | None = None
    document: dict[str, Any] | None = None
    said_s = 0.0
    if live is not None:
        live.start()
    try:
        while follows_s is None or time.monotonic() - follows_s < WATCH_S:
            for line in supervisor.look():
                console.print(line)
            if supervisor.refused is not None:
                raise Failed(Code.INTERNAL, f"{supervisor.refused.name} refused to go on", hint="see error.log")
            before, document = document, looker.look()
            if live is not None:
                live.update(status_panel(document, title="tailrace demo"))
            elif time.monotonic() - said_s > 1:
                said_s = time.monotonic()
                for name, one in document["sources"].items():
                    click.echo(f"  {lag_line(name, one)}")
            if follows_s is None and settled(document, before):
                follows_s = time.monotonic()
            if follows_s is None and time.monotonic() > deadline:
                raise Failed(Code.LAG_UNKNOWN, "not caught up in time", hint="see migration.log in the demo folder")
            time.sleep(0.2)
    finally:
        if live is not None:
            live.stop()


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


def _drain(supervisor: Supervisor, looker: Looker) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        supervisor.look()
        document = looker.look()
        if all(one["lag_changes"] == 0 and one["consistent"] for one in document["sources"].values()):
            return document
        if time.monotonic() > deadline:
            return document
        time.sleep(0.1)


def _end(writers: list[subprocess.Popen[bytes]]) -> None:
    for writer in writers:
        if writer.poll() is None:
            writer.terminate()
    for writer in writers:
        writer.wait()


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
    click.echo(f"  everything is in {_short(folder)}/; remove it when you are done")
    if not clean or wrong or any(one["lag_changes"] != 0 for one in final["sources"].values()):
        sys.exit(4)
