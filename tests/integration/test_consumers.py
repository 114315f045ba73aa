"""Topics are read by programs that share nothing with Tailrace: the same rows as the source, tombstones included."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.sql import SQL, Identifier

from schemas.names import topic_of
from tests.fix_connect import JdbcSink
from tests.fix_registry import CALLS, ask
from tests.fix_topics import CODECS, SOURCES, Captured, Row, row_of, source_rows, table_of

ROOT = Path(__file__).resolve().parent.parent.parent


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


@pytest.mark.soak  # three servers and a worker: about a minute on a busy machine
def test_the_debezium_jdbc_sink_writes_the_same_rows(
    tmp_path: Path, kafka_address: str, registry_url: str, database_url: str
) -> None:
    """Kafka Connect with Apicurio's Avro converter; capture registers its schemas there. The sink fails with a
    NullPointerException where the first record of a topic is a tombstone and its table is not there, so the tables are made
    before; and a column that changes its type on the way is more than it can follow, so that table stays out."""
    captured = Captured(tmp_path / "run", kafka_address, "sunk", registry=registry_url)
    sink = JdbcSink(
        tmp_path / "connect",
        kafka=kafka_address,
        registry=registry_url.removesuffix(CALLS),
        target=database_url,
        topics=r"sunk\\..*\\.t-(?!grows).*",
    )
    try:
        captured.capture()
        expected = source_rows(captured.folder)
        del expected["kinds", "grows"]
        with psycopg.connect(database_url) as target:
            fields = {place: _make(target, registry_url, topic_of("sunk", *place)) for place in expected}
        sink.start()
        for place, rows in expected.items():
            topic = topic_of("sunk", *place)
            sink.until(lambda t=topic, p=place, r=rows: r == _sunk(database_url, t, fields[p]))
    finally:
        sink.stop()
        captured.close()


def _make(target: psycopg.Connection[Any], registry_url: str, topic: str) -> dict[str, str]:
    """A table of the plainest types for a topic; returns field -> codec."""
    key, value = (
        json.loads(ask(f"{registry_url}/subjects/{topic}-{part}/versions/latest")["schema"])["fields"]
        for part in ("key", "value")
    )
    types = {"long": "bigint", "double": "double precision", "string": "text", "bytes": "bytea", "boolean": "boolean"}
    columns = [SQL("{} {}").format(Identifier(one["name"]), SQL(types[one["type"][1]])) for one in value]
    names = SQL(", ").join(Identifier(one["name"]) for one in key)
    table = Identifier(topic.replace(".", "_"))
    target.execute(SQL("CREATE TABLE {} ({}, PRIMARY KEY ({}))").format(table, SQL(", ").join(columns), names))
    return {one["name"]: one["tailrace.codec"] for one in value}


def _sunk(database_url: str, topic: str, codecs: dict[str, str]) -> Counter[Row]:
    """What the sink has written of one topic."""
    with psycopg.connect(database_url) as target:
        cursor = target.execute(SQL("SELECT * FROM {}").format(Identifier(topic.replace(".", "_"))))
        names = [column.name for column in cursor.description or ()]
        return Counter(row_of((n, codecs[n], v) for n, v in zip(names, row, strict=True)) for row in cursor)
