"""Do: the steps at the beginning of a migration, in the order of `up`, which `install` and the demos take as well.

Order, and why: check before anything changes; the target's bookkeeping before the sources; triggers before any daemon runs.
"""

from __future__ import annotations

import sys
import uuid
from pathlib import Path

import click

from adapters.bookkeeping import bring_up_to_date
from capture.install import install
from cli.checks import run_checks
from cli.wiring import TARGET_URL_FILE, open_source, open_target
from embedded.postgres import EmbeddedPostgres
from ops.config import Config
from ops.retry import call_with_retries
from ops.supervise import Child
from schemas.errors import Code, Refusal
from schemas.introspect import introspect
from schemas.model import KeyKind

INSTALL_S = 30.0


def start_embedded(config: Config) -> EmbeddedPostgres:
    """A throw-away server in the run folder, where every verb finds its address while it runs. Raises Refusal(USAGE)."""
    if config.target_database_url:
        raise Refusal(Code.USAGE, "--embedded and target_database_url exclude each other", hint="leave one of them out")
    folder = config.path(config.run_folder)
    server = EmbeddedPostgres(folder / "postgres")
    url = server.start()
    path = folder / TARGET_URL_FILE
    path.touch(mode=0o600)
    path.write_text(url)
    return server


def refuse_bad(config: Config) -> None:
    """Says what is worth a warning. Raises Refusal(CHECK_REFUSED)."""
    results = run_checks(config)
    refused = [one for one in results if one.verdict == "refused"]
    for one in results:
        if one.verdict != "ok":
            click.echo(f"{one.verdict}: {one.name}: {one.text}", err=True)
    if refused:
        raise Refusal(
            Code.CHECK_REFUSED, f"{refused[0].name}: {refused[0].text}", hint=refused[0].hint or "tailrace check"
        )


def prepare_target(config: Config) -> None:
    target = open_target(config, "prepare")
    try:
        bring_up_to_date(target)
    finally:
        target.close()


def install_source(config: Config, name: str, *, wal: bool) -> str:
    """Returns the line that says what was done."""
    db = open_source(config, name)
    try:
        with db.read_view():
            tables = introspect(db).tables
        wanted = [t.name for t in tables.values() if config.wants(t.name) and t.key.kind is not KeyKind.WHOLE_ROW]
        for table in tables.values():
            if config.wants(table.name) and table.key.kind is KeyKind.WHOLE_ROW:
                click.echo(f"refused: {name}.{table.name}: {table.key.reason}", err=True)
        identity = str(uuid.uuid4())
        # SQLite does not wait for a lock when the journal mode changes, however long the busy time-out is.
        result = call_with_retries(lambda: install(db, identity, wanted=wanted, wal=wal), for_s=INSTALL_S)
        done = "installed" if result.changed else "already there"
        return f"triggers in {name}: {done}, {len(result.meta.tables)} tables"
    finally:
        db.close()


def children(config_path: Path) -> list[Child]:
    command = [sys.executable, "-m", "cli.main", "-c", str(config_path.resolve())]
    return [Child(name, [*command, name, "--quiet"]) for name in ("capture", "sink", "snapshot")]
