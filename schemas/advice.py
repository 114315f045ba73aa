"""Decide: what to do about objects that have no counterpart, and what an application sees in each form of column. Pure.

Invariant: advice is one sentence that names the next step; it never pretends that something was carried.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from schemas.model import Column, SchemaObject, Table
from schemas.names import quote
from schemas.opening import columns_of
from schemas.plan import ColumnPlan, TablePlan
from schemas.sqltext import Token, tokens


def of_virtual(one: SchemaObject) -> str:
    """By module: full-text search, ranges, everything else."""
    parts = tokens(one.sql or "")
    using = next((at for at, token in enumerate(parts) if token.is_word("USING")), None)
    module = (parts[using + 1].name or "").upper() if using is not None else ""
    name = quote(one.name.lower())
    if module.startswith("FTS"):
        columns = _arguments(parts[using or 0 :])
        content = _content(parts)
        table = quote(content.lower()) if content else name
        first = "" if content else "its rows live only inside it, so copy them to an ordinary table; "
        text = " || ' ' || ".join(f"coalesce({quote(column.lower())}, '')" for column in columns) or "body"
        return (
            f"a full-text index is not copied; {first}on the target: ALTER TABLE {table} ADD COLUMN search tsvector GENERATED "
            f"ALWAYS AS (to_tsvector('simple', {text})) STORED; CREATE INDEX ON {table} USING gin (search); MATCH becomes @@"
        )
    if module.startswith(("RTREE", "GEOPOLY")):
        return (
            f"an {module.lower()} index is not copied; on the target: a column of type box or int8range in the table it "
            "stands for, and CREATE INDEX .. USING gist"
        )
    return f"a virtual table of module {module.lower() or 'unknown'} is computed by the application's own library: not copied"


def of_virtual_after_return(one: SchemaObject) -> str:
    """What it takes once rows came back from the target: they were written beside the application's triggers, and so past
    whatever those keep up to date (test_a_full_text_index_is_told_to_be_rebuilt_after_a_rollback)."""
    parts = tokens(one.sql or "")
    using = next((at for at, token in enumerate(parts) if token.is_word("USING")), None)
    module = (parts[using + 1].name or "").upper() if using is not None else ""
    name = quote(one.name)
    if module.startswith("FTS") and _content(parts):
        return (
            f"it does not know the rows that were written on PostgreSQL: INSERT INTO {name}({name}) VALUES ('rebuild') "
            "before rows are removed from its table"
        )
    return "it does not know the rows that were written on PostgreSQL: fill it again as the application does"


def _arguments(parts: list[Token]) -> list[str]:
    """Names of the columns of a full-text table; options have an equals sign."""
    start = next((at for at, token in enumerate(parts) if token.text == "("), len(parts))
    found, first, option = [], None, False
    for token in parts[start + 1 :]:
        if token.text in (",", ")"):
            if first is not None and not option:
                found.append(first)
            first, option = None, False
        elif token.text == "=":
            option = True
        elif first is None:
            first = token.name
    return found


def _content(parts: list[Token]) -> str:
    for at, (one, after) in enumerate(pairwise(parts)):
        if one.is_word("CONTENT") and after.text == "=" and at + 2 < len(parts):
            return parts[at + 2].name or ""
    return ""


def of_trigger(one: SchemaObject) -> str:
    """It rests: its effects arrive as rows while the source is the one that is written."""
    words = [token.text.upper() for token in tokens(one.sql or "")]
    event = next((word for word in words if word in ("INSERT", "UPDATE", "DELETE")), "INSERT")
    time = next((word for word in words if word in ("BEFORE", "AFTER", "INSTEAD")), "BEFORE")
    return (
        f"its effects arrive as rows while the source is written; after the switch nothing does its work: write it anew as "
        f"CREATE FUNCTION .. LANGUAGE plpgsql and CREATE TRIGGER {time} {event}, or waive it by name"
    )


_SEEN = {
    "boolean": "true and false: WHERE {c} = 1 fails there, write WHERE {c}; drivers give a bool",
    "date": "a date, drivers give a date object and no text; text functions need to_char({c}, 'YYYY-MM-DD')",
    "json": "json: drivers give the parsed document and no text; {c} ->> 'key' instead of json_extract()",
    "jsonb": 'jsonb, since it holds several classes: numbers and strings arrive parsed, blobs as {{"blob": base64}}',
    "numeric": "numeric, exact: drivers give a Decimal and no float",
    "text-bytes": "bytea: drivers give bytes, the text has characters that PostgreSQL's text cannot hold",
    "blob": "bytea: drivers give bytes or a memoryview",
    "double": "double precision: x / 0 is an error there and NULL here",
}


def seen(table: Table, plan: TablePlan) -> Iterator[tuple[str, str]]:
    """(column, what an application's code sees there) for every column that does not look the same."""
    for column, one in columns_of(table, plan).values():
        text = _seen_as(one)
        if text:
            yield column.name, text
        if _folds(column) and one.pg_type == "text":
            name = quote(one.target)
            yield (
                column.name,
                f'{column.collation} compares by its own rule here only: lower({name} COLLATE "C") = lower(..)',
            )
        if column.name != one.target:
            yield column.name, f"it is called {one.target} there"


def _seen_as(one: ColumnPlan) -> str:
    name = quote(one.target)
    if one.codec.startswith("timestamp:"):
        return f"{one.pg_type}: drivers give a datetime object and no text; compare with timestamps, not with texts"
    if one.codec.startswith("affinity-text"):
        return f"text, since numbers and texts are mixed: {name} = 1 fails there, write {name} = '1'"
    return _SEEN.get(one.codec, "").format(c=name)


def _folds(column: Column) -> bool:
    return column.collation.upper() != "BINARY"
