"""Do: the verbs init, check and plan, which change nothing but the file they write."""

from __future__ import annotations

from pathlib import Path

import click

from cli.checks import run_checks
from cli.options import as_json, chosen_sources, config_of, dry_run, emit
from cli.plan_html import plan_page
from cli.plan_text import plan_lines
from cli.planning import grants_sql, plan_document, plan_sql, refusals
from cli.profiling import profile_bar
from cli.speed import measured
from ops.config import sample
from schemas.errors import Code, ConfigError, Failed, Refusal


def _source_name(path: Path, taken: dict[str, str]) -> str:
    stem = "".join(c if c.isalnum() else "_" for c in path.stem.lower()).strip("_") or "source"
    name, at = stem, 2
    while name in taken:
        name, at = f"{stem}_{at}", at + 1
    return name


@click.command("init")
@click.argument("databases", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("-o", "--output", type=click.Path(path_type=Path), default=None, help="Default: the -c file.")
@click.option("--target", default="", help="PostgreSQL URL without a password.")
@click.option("--kafka", default="", help="host:port of a broker: the stream is in its topics, not in a local file.")
@click.option("--force", is_flag=True, help="Overwrite an existing file.")
@as_json
@dry_run
@click.pass_context
def init_command(
    ctx: click.Context,
    databases: tuple[Path, ...],
    output: Path | None,
    target: str,
    kafka: str,
    force: bool,
    json_output: bool,
    dry_run: bool,
) -> None:
    """Write a commented tailrace.toml for these SQLite files."""
    path: Path = output or ctx.obj
    if path.exists() and not force:
        raise Refusal(Code.CONFIG_INVALID, f"{path} is already there", hint="--force overwrites it")
    sources: dict[str, str] = {}
    for database in databases:
        if not database.is_file():
            raise ConfigError(Code.SOURCE_MISSING, f"{database} is not a file", hint="name existing SQLite files")
        with database.open("rb") as file:
            if file.read(16) not in (b"SQLite format 3\x00", b""):
                raise Failed(Code.SOURCE_CORRUPT, f"{database} is not a SQLite database", hint="is it encrypted?")
        sources[_source_name(database, sources)] = str(database.resolve())
    if not dry_run:
        path.write_text(sample(sources, target_url=target, bootstrap_servers=kafka), encoding="utf-8")
    lines = [
        f"{'would write' if dry_run else 'wrote'} {path}: {', '.join(f'{n} = {file}' for n, file in sources.items())}",
        "next: tailrace check" if target else "next: set target_database_url, then tailrace check",
    ]
    emit({"config": str(path), "sources": sources, "written": not dry_run}, lines, json_output=json_output)


@click.command("check")
@as_json
@click.option("--deep", is_flag=True, help="Also run SQLite's integrity and foreign key checks.")
@click.option("--speed", is_flag=True, help="Also measure reads here, the network, and writes there.")
@click.pass_context
def check_command(ctx: click.Context, json_output: bool, deep: bool, speed: bool) -> None:
    """Connections, versions, permissions, disk space, and what would go wrong later."""
    config = config_of(ctx)
    results = run_checks(config, deep=deep)
    if speed and not any(result.verdict == "refused" for result in results):
        results += measured(config)
    emit(
        [result.as_json() for result in results],
        [f"{result.verdict:<7} {result.name}: {result.text}" for result in results],
        json_output=json_output,
    )
    refused = [result for result in results if result.verdict == "refused"]
    if refused:
        raise Refusal(
            Code.CHECK_REFUSED,
            f"{len(refused)} checks refuse: {', '.join(result.name for result in refused)}",
            hint=refused[0].hint or "mend it and check again",
        )


@click.command("plan")
@as_json
@click.option("--sql", "show_sql", is_flag=True, help="Print the DDL of the target and the triggers of the source.")
@click.option("--html", type=click.Path(path_type=Path), default=None, help="Write one self-contained page.")
@click.option("--grants", "show_grants", is_flag=True, help="Print SQL for the roles, none a superuser.")
@click.pass_context
def plan_command(ctx: click.Context, json_output: bool, show_sql: bool, html: Path | None, show_grants: bool) -> None:
    """The dry run: tables, types and why, objects carried, translated or reported."""
    config = config_of(ctx)
    if show_grants:
        statements = grants_sql(config)
        emit(statements, [f"{statement};" for statement in statements], json_output=json_output)
        return
    names = chosen_sources(config, ())
    if show_sql:
        texts = plan_sql(config, names)
        emit(texts, [f"{text};" for text in texts], json_output=json_output)
        return
    with profile_bar() as show:
        document = plan_document(config, names, show=show)
    if html is not None:
        html.write_text(plan_page(document), encoding="utf-8")
    emit(document, plan_lines(document), json_output=json_output)
    if refused := refusals(document):
        raise Refusal(
            Code.POLICY_REFUSED,
            f"{len(refused)} of it cannot be moved so: {'; '.join(refused[:3])}",
            hint="choose another policy, or leave it out with exclude_tables",
        )
