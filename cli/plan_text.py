"""Decide: how a plan reads as plain lines: per table what arrives, per object what becomes of it and when.

Invariant: everything that is not simply carried has its reason on its line; an unknown size is `unknown`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from cli.planning import COPY_ROWS_A_SECOND
from cli.render import size

LOUD = ("refused", "reported", "translated")
"""What people must read comes first."""


def plan_lines(document: Mapping[str, Any]) -> list[str]:
    return [line for source, part in document["sources"].items() for line in _source(source, part)]


def _source(source: str, part: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"source {source}: {len(part['tables'])} tables, {sum(t['rows'] for t in part['tables']):,} rows, "
        f"{part['bytes']:,} bytes; the copy takes some {part['estimate_s']} s at {COPY_ROWS_A_SECOND:,} rows a second"
    )
    for table in part["tables"]:
        yield from _table(table)
    counts = Counter(one["verdict"] for one in part["objects"])
    yield f"  objects: {', '.join(f'{count} {verdict}' for verdict, count in sorted(counts.items()))}"
    for verdict in LOUD:
        for one in part["objects"]:
            if one["verdict"] == verdict:
                reason = f" ({one['reason']})" if one["reason"] else ""
                yield f"    {verdict}: {one['kind']} {_name(one)} on {one['table']}{reason}"
    yield "  what is there when"
    for stage in part["stages"]:
        yield f"    {stage['when']}: {summary(stage['objects'])}"
    yield "    the guard stands from the start until the switch: until then the target refuses everybody but the sink"
    if part["choices"]:
        yield "  choices"
        yield from (f"    {choice}" for choice in part["choices"])


def _table(table: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"  {table['table']} -> {table['target']}: {table['rows']:,} rows, {size(table['bytes'])}, "
        f"key ({', '.join(table['key'])}), {table['key_reason']}"
    )
    for c in table["columns"]:
        yield f"    {c['column']} {c['declared'] or '(no type)'} -> {c['type']}: {c['why']}"
    if table["seen"]:
        yield "    what your code will see"
        yield from (f"      {one['column']}: {one['text']}" for one in table["seen"])


def _name(one: Mapping[str, Any]) -> str:
    return f"{one['name']} -> {one['target']}" if one["target"] not in (None, one["name"]) else str(one["name"])


def summary(objects: list[str], *, most: int = 12) -> str:
    """The names, or the beginning of a long list and how many more."""
    if not objects:
        return "nothing"
    more = f" and {len(objects) - most} more (--json lists them all)" if len(objects) > most else ""
    return ", ".join(objects[:most]) + more
