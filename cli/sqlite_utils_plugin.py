"""Do: `sqlite-utils tailrace plan|check DATABASE`: the dry run from the tool that SQLite people already have."""

from __future__ import annotations

from pathlib import Path

import click
from sqlite_utils import hookimpl

from ops.config import Config


def _config(database: Path) -> Config:
    return Config(source_databases={database.stem: str(database.resolve())}, folder=str(Path.cwd()))


@hookimpl
def register_commands(cli: click.Group) -> None:
    """Called by sqlite-utils when it starts."""

    @cli.group()
    def tailrace() -> None:
        """What moving this database to PostgreSQL would mean."""

    @tailrace.command()
    @click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def plan(database: Path) -> None:
        """Tables, types and why; objects carried, translated or reported."""
        from cli.plan_text import plan_lines
        from cli.planning import plan_document

        config = _config(database)
        for line in plan_lines(plan_document(config, list(config.source_databases))):
            click.echo(line)

    @tailrace.command()
    @click.argument("database", type=click.Path(exists=True, dir_okay=False, path_type=Path))
    def check(database: Path) -> None:
        """What would go wrong later, on the SQLite side."""
        from cli.checks import source_checks

        config = _config(database)
        for result in source_checks(config, deep=True):
            click.echo(f"{result.verdict:<7} {result.name}: {result.text}")
