"""Do: what verbs share: the configuration from the context, JSON or text output, names of sources."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ops.config import Config, load

F = TypeVar("F", bound=Callable[..., Any])


def as_json(function: F) -> F:
    return click.option("--json", "json_output", is_flag=True, help="Print one JSON document.")(function)


def dry_run(function: F) -> F:
    return click.option("--dry-run", is_flag=True, help="Say what would be done and do nothing.")(function)


def config_of(ctx: click.Context) -> Config:
    path: Path = ctx.obj
    return load(path)


def chosen_sources(config: Config, names: Iterable[str]) -> list[str]:
    """The named sources, or all. Raises ConfigError for an unknown name."""
    chosen = list(names) or list(config.source_databases)
    for name in chosen:
        config.source_path(name)
    return chosen


def emit(document: Any, lines: Iterable[str], *, json_output: bool) -> None:
    if json_output:
        click.echo(json.dumps(document, indent=2, ensure_ascii=False, default=str))
    else:
        for line in lines:
            click.echo(line)
