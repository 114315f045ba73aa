"""Do: what both flows of the demo share: a fresh folder, its configuration, the live view until everything follows.

Invariant: only a folder that a demo made is ever emptied; what a killed demo left running in it is ended first.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.live import Live

from cli.look import Looker
from cli.planning import plan_document
from cli.render import lag_line, status_panel
from cli.up import Settling
from embedded.kafka import end_orphan
from embedded.postgres import discard
from ops.config import Config, load, sample
from ops.supervise import Supervisor
from schemas.errors import Code, Failed, Refusal

CAUGHT_UP_S = 180.0


def fresh(folder: Path) -> None:
    marker = folder / ".tailrace-demo"
    if folder.exists():
        if not marker.exists() and any(folder.iterdir()):
            raise Refusal(Code.USAGE, f"{folder} is not a demo folder", hint="choose another with --folder")
        discard(folder / ".tailrace" / "postgres")
        end_orphan(folder / ".tailrace" / "kafka")
        shutil.rmtree(folder)
    folder.mkdir(parents=True)
    marker.touch()


def configure(folder: Path, paths: Sequence[Path], bootstrap: str, *, more: str = "") -> Config:
    """`more`: further sections of the configuration."""
    config_path = folder / "tailrace.toml"
    text = sample({path.stem: path.name for path in paths}, target_url="", bootstrap_servers=bootstrap)
    if bootstrap:
        # A broker that ran before may hold the topics of an earlier demo.
        text = text.replace("[transport]\n", f'[transport]\nprefix = "tailrace-demo-{os.getpid()}"\n')
    # The sample's view is carried; it is made when the target opens.
    text = text.replace('# views = "all"', 'views = "all"')
    config_path.write_text(text + more, encoding="utf-8")
    return load(config_path)


def short(path: Path) -> str:
    return os.path.relpath(path)


def title(console: Console, number: int, text: str) -> None:
    console.print(f"\n[bold cyan]{number}. {text}[/bold cyan]")


def say_plan(config: Config) -> None:
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


def watch(console: Console, supervisor: Supervisor, looker: Looker, *, plain: bool, longer_s: float) -> None:
    """The live view until everything follows, and a little longer to see the lag stay small."""
    live = Live(console=console, refresh_per_second=8, transient=False) if console.is_terminal and not plain else None
    deadline = time.monotonic() + CAUGHT_UP_S
    follows_s: float | None = None
    settling = Settling()
    said_s = 0.0
    if live is not None:
        live.start()
    try:
        while follows_s is None or time.monotonic() - follows_s < longer_s:
            for line in supervisor.look():
                console.print(line)
            if supervisor.refused is not None:
                raise Failed(Code.INTERNAL, f"{supervisor.refused.name} refused to go on", hint="see error.log")
            document = looker.look()
            if live is not None:
                live.update(status_panel(document, title="tailrace demo"))
            elif time.monotonic() - said_s > 1:
                said_s = time.monotonic()
                for name, one in document["sources"].items():
                    click.echo(f"  {lag_line(name, one)}")
            if follows_s is None and settling.look(document):
                follows_s = time.monotonic()
            if follows_s is None and time.monotonic() > deadline:
                raise Failed(Code.LAG_UNKNOWN, "not caught up in time", hint="see migration.log in the demo folder")
            time.sleep(0.2)
    finally:
        if live is not None:
            live.stop()


def drain(supervisor: Supervisor, looker: Looker) -> dict[str, Any]:
    deadline = time.monotonic() + 30
    while True:
        supervisor.look()
        document = looker.look()
        if all(one["lag_changes"] == 0 and one["consistent"] for one in document["sources"].values()):
            return document
        if time.monotonic() > deadline:
            return document
        time.sleep(0.1)


def end(writers: list[subprocess.Popen[bytes]]) -> None:
    for writer in writers:
        if writer.poll() is None:
            writer.terminate()
    for writer in writers:
        writer.wait()
