"""A second reader of the target that shares no code with the product's mapping: what PostgreSQL prints, back to SQLite.

It knows the documented table of codecs (DESIGN.md, Values) by name, reads every value as PostgreSQL's own text, and leaves
the question "number or text" to SQLite itself, by storing the text in a column of the affinity. Nothing of schemas/codecs*,
typemap or rows is used.
"""

from __future__ import annotations

import base64
import json
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

Meaning = tuple[str, Any]
"""(storage class, exact content): integers and text as they are, reals as hexadecimal, TEXT by its bytes."""

_scratch = sqlite3.connect(":memory:", check_same_thread=False)
for _affinity in ("INTEGER", "NUMERIC", "REAL"):
    _scratch.execute(f"CREATE TABLE a_{_affinity}(v {_affinity})")


def of_sqlite(kind: str, value: Any) -> Meaning:
    """`kind`: typeof(); text and blobs as bytes."""
    if kind == "real":
        return kind, float(value).hex()
    return kind, value


def rows_here(db: sqlite3.Connection, table: str, names: list[str]) -> Counter[tuple[Meaning, ...]]:
    """Every row of a source table. `names` as the plan has them; the bare rowid is called _tailrace_rowid there."""
    parts = []
    for name in names:
        c = "rowid" if name == "_tailrace_rowid" else _q(name)
        parts += [f"typeof({c})", c]
    found = db.execute(f"SELECT {', '.join(parts)} FROM {_q(table)}")
    return Counter(tuple(of_sqlite(row[at].decode(), row[at + 1]) for at in range(0, len(row), 2)) for row in found)


def rows_there(target: psycopg.Connection[Any], plan: dict[str, Any]) -> Counter[tuple[Meaning, ...]]:
    """Every row of a target table, as SQLite would store it."""
    columns = ", ".join(f"{_q(column['target'])}::text" for column in plan["columns"])
    with target.cursor() as cursor:
        cursor.execute(f"SELECT {columns} FROM {_q(plan['target_schema'])}.{_q(plan['target_table'])}".encode())
        codecs = [column["codec"] for column in plan["columns"]]
        return Counter(tuple(meaning(*pair) for pair in zip(codecs, row, strict=True)) for row in cursor)


def meaning(codec: str, text: str | None) -> Meaning:
    """One value as PostgreSQL prints it."""
    if text is None:
        return "null", None
    match codec.partition(":"):
        case ("long", _, _):
            return "integer", int(text)
        case ("boolean", _, _):
            return "integer", {"true": 1, "false": 0}[text]
        case ("double", _, _):
            return "real", float(text).hex()
        case ("text" | "json" | "date", _, _):
            return "text", text.encode()
        case ("blob", _, _):
            return "blob", bytes.fromhex(text[2:])
        case ("text-bytes", _, _):
            return "text", bytes.fromhex(text[2:])
        case ("numeric", _, _):
            assert not re.search(r"\.\d*0$", text), f"numeric {text} has zeros that nobody wrote"
            return _stored("NUMERIC", text)
        case ("affinity-text", _, affinity):
            return _stored(affinity, text)
        case ("timestamp", _, form):
            return "text", _moment(form, text).encode()
        case ("jsonb", _, _):
            return _json(text)
    raise AssertionError(f"codec {codec} is not in the documented table")


def _stored(affinity: str, text: str) -> Meaning:
    """What SQLite makes of the text in a column of this affinity."""
    _scratch.execute(f"DELETE FROM a_{affinity}")
    _scratch.execute(f"INSERT INTO a_{affinity} VALUES (?)", (text,))
    ((kind, value),) = _scratch.execute(f"SELECT typeof(v), v FROM a_{affinity}")
    if kind == "real":
        # SQLite 3.40 reads -1.9714859617044912e-295 one bit off; the text says the value.
        return kind, float(text).hex()
    return of_sqlite(kind, value.encode() if kind == "text" else value)


def _moment(form: str, text: str) -> str:
    """`form`: separator, digits of a second, zone; `text`: PostgreSQL's ISO style, a zone as +00."""
    separator, digits, zone = form[0].replace("_", " "), form[1], form[2:]
    at = datetime.fromisoformat(text.removesuffix("+00"))
    day, clock = f"{at.year:04d}-{at:%m-%d}", f"{at:%H:%M}"
    if digits != "m":
        clock += f":{at:%S}"
    if digits in "36" or (digits == "u" and at.microsecond):
        clock += f".{at.microsecond:06d}"[: 4 if digits == "3" else 7]
    return f"{day}{separator}{clock}{zone}"


def _json(text: str) -> Meaning:
    value = json.loads(
        text, parse_float=lambda digits: ("real", float(digits).hex()), parse_int=lambda d: ("integer", int(d))
    )
    if isinstance(value, str):
        return "text", value.encode()
    if isinstance(value, tuple):
        return value
    ((tag, body),) = value.items()
    if tag == "real":
        return "real", float(body).hex()
    return tag, base64.b64decode(body)


def plans(target: psycopg.Connection[Any], source: str) -> dict[str, dict[str, Any]]:
    """What Tailrace itself keeps of each table on the target."""
    with target.cursor() as cursor:
        cursor.execute('SELECT "table", plan::text FROM tailrace.tables WHERE source = %s', (source,))
        return {table: json.loads(plan) for table, plan in cursor}


def differences(path: Path, url: str, source: str) -> Iterator[str]:
    """One line for every table that is not the same on both sides, value for value."""
    with closing(sqlite3.connect(path)) as db, psycopg.connect(url) as target:
        db.text_factory = bytes
        target.execute("SET TimeZone = 'UTC'")
        for table, plan in plans(target, source).items():
            here, there = rows_here(db, table, [c["name"] for c in plan["columns"]]), rows_there(target, plan)
            if here != there:
                yield f"{source}.{table}: only here {list(here - there)[:2]}, only there {list(there - here)[:2]}"


def _q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
