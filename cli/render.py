"""Decide: how a status document looks on a terminal and as plain lines; one document, two renderings.

Invariant: what is unknown is printed as `unknown`, never as 0 or as a blank that reads like "fine".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from cli.migration import migration_line, shift_line, window_line

_STATE_STYLE = {"following": "green", "caught-up": "cyan", "copied": "cyan", "copying": "yellow", "requested": "yellow"}
MAX_TABLES_SHOWN = 18


def number(value: float | int | None, *, unit: str = "") -> str:
    """A figure for people; None is `unknown`."""
    if value is None:
        return "unknown"
    text = f"{value:,.1f}" if isinstance(value, float) else f"{value:,}"
    return f"{text}{unit}"


def size(value: int | None) -> str:
    if value is None:
        return "unknown"
    amount = float(value)
    for unit in ("B", "kB", "MB", "GB"):
        if amount < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} TB"


def lag_line(name: str, source: Mapping[str, Any]) -> str:
    """One line of `lag`, and of the plain output of `up`."""
    state = {True: "consistent", False: "not consistent", None: "consistency unknown"}[source["consistent"]]
    copied = [table for table in source["tables"].values() if table["state"] in ("following", "caught-up", "copied")]
    return (
        f"{name}: {source['phase']}, {number(source['lag_changes'])} changes behind, "
        f"{number(source['lag_seconds'], unit=' s')} lag, head {number(source['head_seq'])}, "
        f"applied {number(source['applied_seq'])}, {len(copied)}/{len(source['tables'])} tables copied, {state}"
    )


def a_day(value: float | None) -> str:
    """Growth for people: what does not grow is told apart from what is not known."""
    if value is None:
        return "unknown"
    return f"{'-' if value < 0 else '+'}{size(abs(round(value)))}/day" if round(value) else "does not grow"


def growth_line(growth: Mapping[str, Any]) -> str:
    """The change log's growth, and how long until its limit."""
    text = f"change log {a_day(growth['log_bytes_per_day'])}"
    if growth["seconds_to_limit"] is not None:
        text += f", {growth['seconds_to_limit'] / 3600:,.1f} h to its limit of {size(growth['log_limit_bytes'])}"
    return text


def status_lines(document: dict[str, Any]) -> list[str]:
    """`status` without a terminal."""
    lines = [migration_line(document), shift_line(document)]
    if document.get("window"):
        lines.insert(1, window_line(document["window"]))
    for name, source in document["sources"].items():
        lines.append(lag_line(name, source))
        lines.append(
            f"  change log {number(source['log_rows'])} rows, {size(source['log_bytes'])}; WAL {size(source['wal_bytes'])}; "
            f"last apply {number(source['applied_age_seconds'], unit=' s ago')}; quarantined {number(source['quarantined'])}"
        )
        lines.append(f"  {growth_line(source['growth'])}")
        for table, figures in source["tables"].items():
            if figures["state"] != "following" or figures["reason"] or figures["quarantined"]:
                note = f" ({figures['reason']})" if figures["reason"] else ""
                lines.append(
                    f"  {table}: {figures['state']}, {number(figures['rows_copied'])} of "
                    f"{number(figures['rows_expected'])} rows{note}"
                )
    shared = document["growth"]
    lines.append(
        f"price per day: stream {a_day(shared['stream_bytes_per_day'])}, "
        f"bookkeeping {a_day(shared['bookkeeping_bytes_per_day'])}"
    )
    lines.append(f"can cut over: {'yes' if document['can_cutover'] else 'no'}")
    lines += [f"  because {reason}" for reason in document["blocking_reasons"]]
    lines += [f"next: {step}" for step in document["next_steps"]]
    return lines


def status_panel(document: Mapping[str, Any], *, title: str = "tailrace") -> RenderableType:
    """The live view: one panel a source with a bar a table while it is copied, one line when it follows."""
    panels: list[RenderableType] = [_source_panel(name, one) for name, one in document["sources"].items()]
    verdict = Text("ready: nothing blocks a cutover", style="bold green")
    if not document["can_cutover"]:
        verdict = Text("\n".join(f"- {reason}" for reason in document["blocking_reasons"][:6]), style="yellow")
    verdict.append(f"\n{shift_line(dict(document))}", style="dim")
    return Group(*panels, Panel(verdict, title=title, border_style="dim"))


def _source_panel(name: str, source: Mapping[str, Any]) -> Panel:
    head = Table.grid(padding=(0, 2))
    lag = source["lag_changes"]
    head.add_row(
        Text(source["phase"], style="bold"),
        Text(
            f"lag {number(lag)} changes / {number(source['lag_seconds'], unit=' s')}",
            style="green" if lag == 0 else "yellow",
        ),
        f"head {number(source['head_seq'])}",
        f"applied {number(source['applied_seq'])}",
        f"log {size(source['log_bytes'])}, {a_day(source['growth']['log_bytes_per_day'])}",
        Text({True: "consistent", False: "not consistent", None: "unknown"}[source["consistent"]]),
    )
    body = Table.grid(padding=(0, 2))
    moving = {table: row for table, row in source["tables"].items() if row["state"] != "following"}
    for table, row in list(moving.items())[:MAX_TABLES_SHOWN]:
        body.add_row(table, Text(row["state"], style=_STATE_STYLE.get(row["state"], "")), *_bar(row))
    settled = len(source["tables"]) - len(moving)
    if len(moving) > MAX_TABLES_SHOWN:
        body.add_row(f"and {len(moving) - MAX_TABLES_SHOWN} more", "", "", "")
    if settled:
        body.add_row(Text(f"{settled} tables follow", style="green"), "", "", "")
    return Panel(Group(head, body), title=name, border_style="cyan", title_align="left")


def _bar(row: Mapping[str, Any]) -> tuple[RenderableType, str]:
    done, expected = row["rows_copied"] or 0, row["rows_expected"]
    if row["state"] in ("copied", "caught-up"):
        done, expected = max(done, 1), max(done, 1)
    bar = ProgressBar(total=max(expected or 1, 1), completed=min(done, expected or done), width=30)
    return bar, f"{number(row['rows_copied'])} of {number(row['rows_expected'])} rows"
