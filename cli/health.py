"""Do: the verb health: do the daemons of this machine run and get on? For container health checks and scripts."""

from __future__ import annotations

import click

from cli.options import SECONDS, as_json, config_of, emit
from ops.health import FOLDER, look


@click.command("health")
@click.argument("daemons", nargs=-1, type=click.Choice(["capture", "snapshot", "sink", "serve"]))
@click.option(
    "--max-age",
    "max_age_s",
    type=SECONDS,
    default=None,
    help="How long a step may take and a failure may last, e.g. 30s. Default: a failure 30s; a step of capture and "
    "serve 1m, of sink 15m, of snapshot 12h.",
)
@as_json
@click.pass_context
def health_command(ctx: click.Context, daemons: tuple[str, ...], max_age_s: float | None, json_output: bool) -> None:
    """Exit 0 when the named daemons run here and get on (without a name: all that do, at least one), else 1."""
    config = config_of(ctx)
    found = look(config.path(config.run_folder) / FOLDER, daemons, max_age_s=max_age_s)
    lines = []
    for one in found:
        verdict = "healthy" if one["healthy"] else "NOT healthy: " + "; ".join(one["reasons"])
        sign = "" if one["age_seconds"] is None else f", last sign {one['age_seconds']:.1f} s ago (pid {one['pid']})"
        lines.append(f"{one['process']}: {verdict}{sign}")
    healthy = all(one["healthy"] for one in found)
    emit({"healthy": healthy, "daemons": found}, lines, json_output=json_output)
    ctx.exit(0 if healthy else 1)
