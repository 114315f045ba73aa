"""Topics are read by programs that share nothing with Tailrace: the same rows as the source, tombstones included."""

from __future__ import annotations

import base64
import json
import re
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import touch
from cli.up import _install
from cli.wiring import open_transport
from ops.config import load
from schemas.introspect import introspect
from schemas.model import KeyKind
from schemas.names import watermark_topic
from schemas.streaming import read_tail
from schemas.wire import watermark_of
from tests.fix_pipeline import Pipeline
from tests.fix_registry import ask

ROOT = Path(__file__).resolve().parent.parent.parent
SOURCES = ("cases", "auth", "kinds")
NUMBER = re.compile(r"[+-]?[0-9.]+(e[+-]?[0-9]+)?")

KINDS = """
CREATE TABLE "All Kinds"(
    id INTEGER PRIMARY KEY, "whole number" INTEGER, fraction REAL, words TEXT, raw BLOB, flag BOOLEAN, amount DECIMAL(12,2),
    day DATE, moment DATETIME, zoned TIMESTAMP, paper JSON, loose NUMERIC, nul TEXT, anything);
CREATE TABLE grows(id INTEGER PRIMARY KEY, v);
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
        self.transport = open_transport(self.pipeline.config)

    def capture(self) -> None:
        """Install, let the application write, and touch every key, so that the rows from before are in the topics too."""
        for name in SOURCES:
            _install(self.pipeline.config, name, wal=True)
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


@pytest.fixture(scope="module")
def captured(tmp_path_factory: pytest.TempPathFactory, kafka_address: str) -> Iterator[Captured]:
    made = Captured(tmp_path_factory.mktemp("consumers") / "run", kafka_address, "others")
    try:
        made.capture()
        yield made
    finally:
        made.close()


def test_fastavro_alone_reads_a_consistent_state(captured: Captured) -> None:
    """By the very example of docs/topics.md."""
    (example,) = re.findall(r"```python\n(import json.*?)```", (ROOT / "docs" / "topics.md").read_text(), re.S)
    names: dict[str, Any] = {}
    exec(example, names)
    codecs, read = set(), {}
    for source in SOURCES:
        seq, topics = names["state"](captured.address, captured.prefix, source)
        assert captured.head(source) == seq
        for topic, rows in topics.items():
            if ".t-" in topic:
                read[table_of(topic)] = Counter(row_of((n, *pair) for n, pair in row.items()) for row in rows.values())
                codecs |= {codec.partition(":")[0] for row in rows.values() for codec, _ in row.values()}
    assert CODECS == codecs
    assert source_rows(captured.folder) == read


def test_confluents_own_deserializer_reads_through_serve(captured: Captured) -> None:
    from confluent_kafka import Consumer
    from confluent_kafka.schema_registry import SchemaRegistryClient
    from confluent_kafka.schema_registry.avro import AvroDeserializer
    from confluent_kafka.serialization import MessageField, SerializationContext

    with serving(captured) as url, SchemaRegistryClient({"url": url}) as client:
        deserialize = AvroDeserializer(client)
        consumer = Consumer(
            {
                "bootstrap.servers": captured.address,
                "group.id": "others",
                "enable.auto.commit": False,
                "enable.partition.eof": True,
            }
        )
        newest: dict[tuple[Any, ...], tuple[int, Row | None]] = {}
        tombstones = 0
        for message in whole(consumer, "others."):
            topic = message.topic()
            key = deserialize(message.key(), SerializationContext(topic, MessageField.KEY))
            value = deserialize(message.value(), SerializationContext(topic, MessageField.VALUE))
            tombstones += value is None
            row = None
            if value is not None:
                schema = client.get_schema(int.from_bytes(message.value()[1:5], "big"))
                fields = json.loads(schema.schema_str)["fields"]
                row = row_of((one["name"], one["tailrace.codec"], value[one["name"]]) for one in fields)
            seq, place = int(dict(message.headers())["seq"]), (topic, *key.values())
            if seq >= newest.get(place, (0, None))[0]:
                newest[place] = seq, row
        read: dict[tuple[str, str], Counter[Row]] = {}
        for (topic, *_), (_, row) in newest.items():
            read.setdefault(table_of(topic), Counter()).update([] if row is None else [row])
        consumer.close()
        assert tombstones > 3
        assert source_rows(captured.folder) == read
        subject = "others.kinds.t-grows-value"
        assert [1, 2] == client.get_versions(subject)[-2:]
        latest = client.get_latest_version(subject)
        assert latest.schema_id == client.lookup_schema(subject, latest.schema).schema_id
        assert "NONE" == client.get_compatibility()
        assert "ok" == ask(f"{url}/health")["status"]


@contextmanager
def serving(captured: Captured) -> Iterator[str]:
    """`tailrace serve` as a process; yields its address."""
    command = [sys.executable, "-m", "cli.main", "-c", str(captured.pipeline.config_path)]
    process = subprocess.Popen(
        [*command, "serve", "--port", "0", "--quiet", "--json"],
        stdout=subprocess.PIPE,
        text=True,
        env=captured.pipeline.environment,
    )
    assert process.stdout is not None
    try:
        yield json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"]
    finally:
        process.terminate()
        process.stdout.close()
        assert 0 == process.wait(timeout=30)


def whole(consumer: Any, prefix: str) -> Iterator[Any]:
    """Every message of the topics of all tables."""
    from confluent_kafka import OFFSET_BEGINNING, KafkaError, TopicPartition

    topics = {name: one for name, one in consumer.list_topics(timeout=10).topics.items() if name.startswith(prefix)}
    left = {(name, part) for name, one in topics.items() if ".t-" in name for part in one.partitions}
    consumer.assign([TopicPartition(*place, OFFSET_BEGINNING) for place in left])
    while left:
        message = consumer.poll(30)
        assert message is not None
        if message.error() is None:
            yield message
        else:
            assert KafkaError._PARTITION_EOF == message.error().code()
            left.discard((message.topic(), message.partition()))
