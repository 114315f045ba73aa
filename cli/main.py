"""Do: the `tailrace` command: global options, verbs, errors to exit codes.

Exit codes: 0 ok, 1 error, 2 usage, 3 refused by a gate, 4 differences found, 5 rolled back. Verbs live in sibling
modules and are imported when they are called, so that `tailrace --help` stays quick.
"""

from __future__ import annotations

import gc
import importlib
import sys
from pathlib import Path

import click

from schemas.errors import Code, Failed, TailraceError

_VERBS = {
    "init": "cli.prepare",
    "check": "cli.prepare",
    "plan": "cli.prepare",
    "up": "cli.up",
    "install": "cli.install",
    "capture": "cli.daemons",
    "snapshot": "cli.daemons",
    "sink": "cli.daemons",
    "health": "cli.health",
    "serve": "cli.serve",
    "status": "cli.observe",
    "lag": "cli.observe",
    "trace": "cli.observe",
    "verify": "cli.content",
    "repair": "cli.content",
    "quarantine": "cli.quarantine",
    "pause": "cli.operate",
    "resume": "cli.operate",
    "reset": "cli.operate",
    "uninstall": "cli.uninstall",
    "shift": "cli.shift",
    "cutover": "cli.cutover",
    "rollback": "cli.rollback",
    "complete": "cli.complete",
    "checkpoint": "cli.checkpoint",
    "replay": "cli.checkpoint",
    "demo": "cli.demo",
}


class _Verbs(click.Group):
    """Verbs by name, imported late."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - the signature is click's
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        module = _VERBS.get(cmd_name)
        if module is None:
            return None
        # What is imported stays: to walk it again and again for garbage is a tenth of the start of a process.
        gc.disable()
        try:
            command = getattr(importlib.import_module(module), f"{cmd_name}_command")
        finally:
            gc.freeze()
            gc.enable()
        return command if isinstance(command, click.Command) else None


@click.group(cls=_Verbs)
@click.option("-c", "--config", "config_path", type=click.Path(path_type=Path), default=Path("tailrace.toml"))
@click.version_option(package_name="tailrace")
@click.pass_context
def tailrace(ctx: click.Context, config_path: Path) -> None:
    """Move a live SQLite application to PostgreSQL, and back."""
    ctx.obj = config_path


def main() -> None:
    """Entry point of the console script."""
    try:
        # Outside standalone mode click returns the code of ctx.exit() instead of exiting with it.
        code = tailrace.main(standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as done:
        sys.exit(done.exit_code)
    except click.exceptions.Abort:
        click.echo("aborted", err=True)
        sys.exit(1)
    except click.ClickException as usage:
        usage.show()
        sys.exit(2)
    except TailraceError as error:
        click.echo(f"tailrace: {error}", err=True)
        sys.exit(error.exit_code)
    except OSError as error:
        text = f"{error.strerror or error}{f': {error.filename}' if error.filename else ''}"
        failure = Failed(Code.HOST_IO, text, hint="check the disk, the folder and its permissions on this machine")
        click.echo(f"tailrace: {failure}", err=True)
        sys.exit(failure.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
