"""Do: what verbs share: the configuration from the context, JSON or text output, names of sources."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from ops.config import Config, load

F = TypeVar("F", bound=Callable[..., Any])


class _Seconds(click.ParamType[float]):
    """Seconds, from 30, 30s, 5m or 2h."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        found = re.fullmatch(r"(\d+(?:\.\d+)?)([smh]?)", str(value))
        if found is None:
            self.fail(f"{value!r} is no duration: 30s, 5m, 2h", param, ctx)
        return float(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]]


SECONDS = _Seconds()


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
