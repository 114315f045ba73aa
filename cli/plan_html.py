"""Decide: a plan as one HTML page that needs nothing beside itself: no script, no font, no address of anything else.

Invariant: every name and every reason is escaped: a table may be called `<script>`
(test_names_are_escaped_in_the_page).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from cli.plan_text import LOUD
from cli.render import size

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --red: #c0392b; --amber: #b9770e; --green: #1e8449 }
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 75rem; padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { margin-top: 2.5rem; border-bottom: 1px solid var(--line) } h3 { margin: 1.5rem 0 .3rem }
table { border-collapse: collapse; width: 100%; margin: .4rem 0 1rem } th { text-align: left; font-weight: 600 }
td, th { padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; overflow-wrap: anywhere }
td:first-child { overflow-wrap: normal }
code { font: 13px ui-monospace, monospace; background: var(--soft); padding: 0 .25em; border-radius: 3px }
.tag { display: inline-block; padding: 0 .5em; border-radius: 3px; color: #fff; font-size: 13px; white-space: nowrap }
.refused { background: var(--red) } .reported { background: var(--amber) } .translated, .carried { background: var(--green) }
.note { color: #777 } summary { cursor: pointer; font-weight: 600 } li { margin: .2rem 0 }
"""


def plan_page(document: Mapping[str, Any]) -> str:
    body = "".join(_source(name, part) for name, part in document["sources"].items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f"<title>Tailrace plan</title><style>{_STYLE}</style></head><body><h1>Tailrace plan: SQLite to PostgreSQL</h1>"
        f"{body}</body></html>\n"
    )


def _source(name: str, part: Mapping[str, Any]) -> str:
    counts = Counter(one["verdict"] for one in part["objects"])
    tags = " ".join(f'<span class="tag {escape(word)}">{count} {escape(word)}</span>' for word, count in counts.items())
    rows = sum(table["rows"] for table in part["tables"])
    head = (
        f"<h2>{escape(name)}</h2><p>{len(part['tables'])} tables, {rows:,} rows, {size(part['bytes'])}; the copy takes some "
        f"{part['estimate_s']} s. {tags}</p>"
    )
    loud = [one for word in LOUD for one in part["objects"] if one["verdict"] == word]
    objects = _rows(
        ("verdict", "object", "table", "what becomes of it", "there"),
        ([_tag(o["verdict"]), _object(o), _code(o["table"]), escape(o["reason"]), escape(o["when"])] for o in loud),
    )
    carried = [_object(o) + " of " + _code(o["table"]) for o in part["objects"] if o["verdict"] == "carried"]
    stages = _rows(
        ("when", "objects"),
        ([escape(one["when"]), ", ".join(map(_code, one["objects"])) or "nothing"] for one in part["stages"]),
    )
    choices = "".join(f"<li>{escape(one)}</li>" for one in part["choices"])
    return (
        f"{head}<h3>Not simply carried</h3>{objects}"
        f"<details><summary>{len(carried)} carried as they are</summary><p>{', '.join(carried)}</p></details>"
        f"<details><summary>What is there when</summary>{stages}</details>"
        f"{f'<h3>Choices</h3><ul>{choices}</ul>' if choices else ''}<h3>Tables</h3>"
        f"{''.join(map(_table, part['tables']))}"
    )


def _table(table: Mapping[str, Any]) -> str:
    columns = _rows(
        ("column", "declared", "PostgreSQL", "why"),
        (
            [_code(c["column"]), _code(c["declared"] or "-"), _code(c["type"]), escape(c["why"])]
            for c in table["columns"]
        ),
    )
    seen = "".join(f"<li>{_code(one['column'])}: {escape(one['text'])}</li>" for one in table["seen"])
    return (
        f"<details><summary>{escape(table['table'])} &rarr; {escape(table['target'])}: {table['rows']:,} rows, "
        f"{size(table['bytes'])}</summary><p>Key {', '.join(map(_code, table['key']))}: {escape(table['key_reason'])}; topic "
        f"{_code(table['topic'])}</p>{columns}{f'<p>What your code will see</p><ul>{seen}</ul>' if seen else ''}</details>"
    )


def _object(one: Mapping[str, Any]) -> str:
    target = f" &rarr; {_code(one['target'])}" if one["target"] not in (None, one["name"]) else ""
    return f"{escape(one['kind'])} {_code(one['name'])}{target}"


def _tag(word: str) -> str:
    return f'<span class="tag {escape(word)}">{escape(word)}</span>'


def _code(text: str) -> str:
    return f"<code>{escape(str(text))}</code>"


def _rows(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Cells are HTML already."""
    body = "".join(f"<tr>{''.join(f'<td>{cell}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table><tr>{''.join(f'<th>{escape(word)}</th>' for word in head)}</tr>{body}</table>"
