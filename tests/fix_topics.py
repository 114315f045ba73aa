"""Do: the sample application's changes and every codec, captured into topics, for programs that only read topics; and what
they read as SQLite has it, by the rules of docs/topics.md alone.
"""

from __future__ import annotations

import base64
import json
import re
import signal
import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Any

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import touch
from cli.beginning import install_source
from cli.wiring import open_transport
from ops.config import load
from schemas.introspect import introspect
from schemas.model import KeyKind
from schemas.names import watermark_topic
from schemas.streaming import read_tail
from schemas.wire import watermark_of
from tests.fix_pipeline import Pipeline

SOURCES = ("cases", "auth", "kinds")
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?")

KINDS = """
CREATE TABLE "All Kinds"(
    id INTEGER PRIMARY KEY, "whole number" INTEGER, fraction REAL, words TEXT, raw BLOB, flag BOOLEAN, amount DECIMAL(12,2),
    day DATE, moment DATETIME, zoned TIMESTAMP, paper JSON, loose NUMERIC, nul TEXT, anything);
CREATE TABLE grows(id INTEGER PRIMARY KEY, v);
INSERT INTO grows VALUES (9, 9);
CREATE TABLE pairs(a TEXT NOT NULL, b INTEGER NOT NULL, PRIMARY KEY (a, b)) WITHOUT ROWID;
"""
ROWS = [
    (1, 2**63 - 1, 0.1 + 0.2, "ä\u20ac", b"\x00\xff", 1, 12.5, "2026-02-28", "2026-01-02 03:04:05", "2026-01-02T03:04:05.250Z",
     '{"a": [1,  2.0]}', 7, "a\x00b", 1),
    (2, -(2**63), -1e300, "", b"", 0, 10**15, "1999-12-31", "1999-12-31 23:59:59", "1999-12-31T23:59:59.999Z", "null", "seven",
     "plain", 1.0),
    (3, 0, 9e999, "'; DROP", b"x" * 3000, 1, 0.01, "2000-01-01", "2000-01-01 00:00:00", "2000-01-01T00:00:00.000Z", "[]", 0.5,
     "\x00", "1"),
    (4, None, None, None, None, None, None, None, None, None, None, None, None, b"\x01"),
    (5, 5, 5.0, "five", b"5", 0, 5, "2005-05-05", "2005-05-05 05:05:05", "2005-05-05T05:05:05.555Z", "[5]", "5x", "5", -0.0),
]  # fmt: skip
CODECS = {
    "long",
    "double",
    "text",
    "blob",
    "boolean",
    "numeric",
    "date",
    "timestamp",
    "json",
    "affinity-text",
    "text-bytes",
    "jsonb",
}


class Captured:
    """Databases and what capture made of them, in topics of a prefix of its own."""

    def __init__(self, folder: Path, address: str, prefix: str, *, registry: str = "") -> None:
        self.pipeline = Pipeline(folder, "postgresql://nobody@127.0.0.1:1/none", kafka=address, cases=40)
        self.folder, self.address, self.prefix = folder, address, prefix
        with sqlite3.connect(folder / "kinds.db") as kinds:
            kinds.executescript(KINDS)
            kinds.executemany(f'INSERT INTO "All Kinds" VALUES ({", ".join("?" * 14)})', ROWS)
        kinds.close()
        text = self.pipeline.config_path.read_text()
        text = text.replace("[transport]\n", f'[transport]\nprefix = "{prefix}"\npartitions = 2\n')
        text = text.replace("[source_databases]\n", '[source_databases]\nkinds = "kinds.db"\n')
        self.pipeline.config_path.write_text(text + (f'[registry]\nurl = "{registry}"\n' if registry else ""))
        self.pipeline.config = load(self.pipeline.config_path)
        self.environment = self.pipeline.environment
        self.transport = open_transport(self.pipeline.config)

    def capture(self) -> None:
        """Install, let the application write, and touch every key, so that the rows from before are in the topics too."""
        for name in SOURCES:
            install_source(self.pipeline.config, name, wal=True)
        self.pipeline.start("capture")
        self.pipeline.write(seconds=2)
        for name in SOURCES:
            self._touch_all(name)
        self._change_kinds()
        self.pipeline.end_writers()
        self._until_captured()
        self.pipeline.processes["capture"].send_signal(signal.SIGTERM)
        assert 0 == self.pipeline.processes["capture"].wait(timeout=30)

    def _touch_all(self, name: str) -> None:
        db = SqliteDatabase(self.folder / f"{name}.db")
        with db.read_view():
            meta, tables = metas.read(db), introspect(db).tables
        for number, one in meta.tables.items():
            table = tables[one.name]
            columns = ", ".join("rowid" if table.key.kind is KeyKind.ROWID else f'"{c}"' for c in table.key_columns)
            touch(db, table, number, db.rows(f'SELECT {columns} FROM "{one.name}"'))
        db.close()

    def _change_kinds(self) -> None:
        """Every kind of change, with a pause between, so that each is a record: a tombstone behind a row, a row behind a
        tombstone, a key that moves, a column that widens twice."""
        kinds = sqlite3.connect(self.folder / "kinds.db", isolation_level=None, timeout=10)
        for statements in (
            "INSERT INTO grows VALUES (1, 1), (2, 2); INSERT INTO pairs VALUES ('x', 1), ('y', 2)",
            "UPDATE grows SET v = 'two' WHERE id = 2; DELETE FROM pairs WHERE a = 'x'; DELETE FROM \"All Kinds\" WHERE id = 5",
            "UPDATE grows SET v = x'03' WHERE id = 1; INSERT INTO pairs VALUES ('x', 1); UPDATE pairs SET a = 'z' WHERE a = 'y'",
        ):
            for statement in statements.split("; "):
                kinds.execute(statement)
            self._until_captured("kinds")
        kinds.close()

    def _until_captured(self, *names: str) -> None:
        def done() -> bool:
            return all(self.head(name) <= self.watermark(name) for name in names or SOURCES)

        self.pipeline.until(done, timeout_s=60)

    def head(self, name: str) -> int:
        with closing(sqlite3.connect(self.folder / f"{name}.db", timeout=10)) as db:
            return int(db.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0])

    def watermark(self, name: str) -> int:
        topic = watermark_topic(self.prefix, name)
        if topic not in self.transport.topics(topic):
            return -1
        return max((watermark_of(stored).seq for stored in read_tail(self.transport, topic, last=1)), default=-1)

    def close(self) -> None:
        self.transport.close()
        self.pipeline.close()


Row = frozenset[tuple[str, tuple[str, Any]]]
"""(column, (storage class, value)) of every column."""


def source_rows(folder: Path) -> dict[tuple[str, str], Counter[Row]]:
    """(source, table) -> rows as SQLite has them; texts as bytes."""
    result = {}
    for source in SOURCES:
        with closing(sqlite3.connect(folder / f"{source}.db")) as db:
            tables = [
                name
                for (name,) in db.execute(
                    "SELECT name FROM pragma_table_list WHERE type = 'table' AND schema = 'main' "
                    "AND name NOT LIKE 'sqlite%' AND name NOT LIKE '_tailrace%'"
                )
            ]
            db.text_factory = bytes
            for table in tables:
                columns = [row[1].decode() for row in db.execute(f'PRAGMA table_info("{table}")')]
                names = [*columns, *(["_tailrace_rowid"] if table == "audit" else [])]
                asked = [*(f'"{name}"' for name in columns), *(["rowid"] if table == "audit" else [])]
                parts = ", ".join(f"typeof({one}), {one}" for one in asked)
                result[source, table] = Counter(
                    frozenset(
                        zip(names, zip((kind.decode() for kind in row[::2]), row[1::2], strict=True), strict=True)
                    )
                    for row in db.execute(f'SELECT {parts} FROM "{table}"')
                )
    return result


def unescaped(name: str, mark: str) -> str:
    """The name that a topic (`_hh`) or a field (`_xhh`) stands for."""
    return re.sub(rf"(?:{mark}[0-9a-f]{{2}})+", lambda found: bytes.fromhex(found[0].replace(mark, "")).decode(), name)


def table_of(topic: str) -> tuple[str, str]:
    _, source, table = topic.split(".")
    return source, unescaped(table.removeprefix("t-"), "_")


def value_of(codec: str, value: Any) -> tuple[str, Any]:
    """(storage class, value) as docs/topics.md says, without a line of Tailrace's own."""
    kind = codec.partition(":")[0]
    if value is None:
        return "null", None
    if kind in ("long", "boolean"):
        return "integer", int(value)
    if kind in ("blob", "text-bytes"):
        return "blob" if kind == "blob" else "text", value
    if kind == "double":
        return "real", value
    if kind == "jsonb":
        found = json.loads(value)
        if isinstance(found, dict):
            ((tag, inner),) = found.items()
            return (tag, float(inner)) if tag == "real" else (tag, base64.b64decode(inner))
        if isinstance(found, str):
            return "text", found.encode()
        return "real" if isinstance(found, float) else "integer", found
    if kind == "numeric" or (kind == "affinity-text" and NUMBER.fullmatch(value)):
        number = Decimal(value)
        if kind == "numeric" and number == number.to_integral_value() and abs(number) < 2**63:
            return "integer", int(number)
        return ("integer", int(value)) if value.lstrip("+-").isdigit() else ("real", float(value))
    return "text", value.encode()


def row_of(fields: Iterable[tuple[str, str, Any]]) -> Row:
    return frozenset((unescaped(name, "_x"), value_of(codec, value)) for name, codec, value in fields)
