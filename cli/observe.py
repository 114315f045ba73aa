"""Do: the verbs status, lag and trace."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from cli.look import Looker
from cli.options import SECONDS, as_json, chosen_sources, config_of, emit
from cli.render import lag_line, number, status_lines
from cli.stream_lag import StreamLag, whole
from cli.trace import trace_row
from schemas.errors import Code, Refusal

WAITING_S = 2.0
"""Between two lines of --wait."""


@click.command("status")
@as_json
@click.pass_context
def status_command(ctx: click.Context, json_output: bool) -> None:
    """One screen: phase, lag, tables, what blocks a cutover, what to do next."""
    config = config_of(ctx)
    looker = Looker(config, chosen_sources(config, ()))
    try:
        document = looker.look()
    finally:
        looker.close()
    emit(document, status_lines(document), json_output=json_output)


@click.command("lag")
@as_json
@click.option("--watch", is_flag=True, help="Print a line a second until interrupted.")
@click.option(
    "--wait", is_flag=True, help="Return once the target is consistent and the lag at or below --below, for --for."
)
@click.option("--below", type=int, default=0, show_default=True, help="Changes.")
@click.option(
    "--for", "for_s", type=SECONDS, default="0s", show_default=True, help="How long it must stay so, e.g. 60s."
)
@click.option("--timeout", "timeout_s", type=SECONDS, default=None, help="Seconds until --wait gives up with exit 3.")
@click.pass_context
def lag_command(
    ctx: click.Context, json_output: bool, watch: bool, wait: bool, below: int, for_s: float, timeout_s: float | None
) -> None:
    """How far the target is behind, in changes and in seconds; unknown is never zero."""
    config = config_of(ctx)
    looker = Looker(config, chosen_sources(config, ()))
    stream = StreamLag(config) if json_output or config.transport.kind == "kafka" else None
    started = time.monotonic()
    below_since: float | None = None
    said_s = 0.0
    try:
        while True:
            document = looker.look()
            now = time.monotonic()
            if not wait or now - said_s >= WAITING_S:
                said_s = now
                _print(document, stream, json_output=json_output)
            if not watch and not wait:
                return
            lags = [one["lag_changes"] for one in document["sources"].values()]
            # While a table is copied nothing may be left to apply and most rows still be missing.
            consistent = all(one["consistent"] for one in document["sources"].values())
            good = consistent and all(lag is not None and lag <= below for lag in lags)
            below_since = (below_since or now) if good else None
            if wait and below_since is not None and now - below_since >= for_s:
                if said_s != now:
                    _print(document, stream, json_output=json_output)
                return
            if wait and timeout_s is not None and now - started > timeout_s:
                raise Refusal(
                    Code.LAG_UNKNOWN if None in lags else Code.USAGE,
                    f"the target did not stay consistent and at most {below} changes behind for {for_s:g} s",
                    hint="tailrace status",
                )
            time.sleep(1.0 if watch else 0.2)
    finally:
        looker.close()
        if stream is not None:
            stream.close()


def _print(document: dict[str, Any], stream: StreamLag | None, *, json_output: bool) -> None:
    """With `stream`: what the tools of the stream say of the sink, too."""
    sources = document["sources"]
    topics = {name: stream.look(name) if stream is not None else None for name in sources}
    if json_output:
        keys = ("lag_changes", "lag_seconds", "head_seq", "applied_seq", "consistent")
        found = {name: {key: one[key] for key in keys} for name, one in sources.items()}
        click.echo(json.dumps({name: {**one, "stream_lag_records": topics[name]} for name, one in found.items()}))
        return
    for name, one in sources.items():
        waiting = f", {number(whole(topics[name]))} records wait in the stream" if stream is not None else ""
        click.echo(lag_line(name, one) + waiting)


@click.command("trace", context_settings={"ignore_unknown_options": True})  # a key may be -5
@click.argument("table")
@click.argument("key", nargs=-1, required=True)
@click.option("--source", default=None, help="Needed when several sources have a table of this name.")
@as_json
@click.pass_context
def trace_command(ctx: click.Context, table: str, key: tuple[str, ...], source: str | None, json_output: bool) -> None:
    """Follow one row: change log, stream, progress, target, last verdict."""
    config = config_of(ctx)
    document = trace_row(config, table, key, source=source)
    emit(document, [f"{name}: {value}" for name, value in document.items()], json_output=json_output)
