"""The sink's lag as the tools of Kafka show it, beside `tailrace lag`."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

from tests.fix_kafka import JARS, fresh_topics
from tests.fix_pipeline import Pipeline


def _kafka_consumer_groups(address: str, group: str) -> dict[str, int]:
    """topic -> the sum of the tool's LAG column. The class is what bin/kafka-consumer-groups.sh runs."""
    main = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand"
    java = ["java", "-Xmx256m", "-XX:TieredStopAtLevel=1", "-cp", f"{JARS}/*", main]
    command = [*java, "--bootstrap-server", address, "--describe", "--group", group, "--timeout", "60000"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    rows = [line.split() for line in done.stdout.splitlines() if line.strip()]
    titles = next(row for row in rows if "LAG" in row)
    lags: dict[str, int] = {}
    for row in rows[rows.index(titles) + 1 :]:
        topic = row[titles.index("TOPIC")]
        lags[topic] = lags.get(topic, 0) + int(row[titles.index("LAG")])
    return lags


def _tailrace_lag(pipeline: Pipeline) -> tuple[dict[str, int], dict[str, int]]:
    """(changes by source, records by topic)."""
    document = json.loads(pipeline.run("lag", "--json").stdout)
    topics = {topic: lag for one in document.values() for topic, lag in one["stream_lag_records"].items()}
    return {name: one["lag_changes"] for name, one in document.items()}, topics


def test_the_tools_of_the_broker_show_the_same_lag(tmp_path: Path, database_url: str, kafka_address: str) -> None:
    """Both nothing when caught up; both the same number, topic by topic, for a backlog of a known size."""
    fresh_topics(kafka_address).close()
    pipeline = Pipeline(tmp_path / "run", database_url, kafka=kafka_address)
    try:
        pipeline.install()
        pipeline.write(seconds=2)
        pipeline.start()
        pipeline.end_writers()
        pipeline.settle()
        changes, records = _tailrace_lag(pipeline)
        assert ({"cases": 0, "auth": 0}, {0}) == (changes, set(records.values()))
        shown = _kafka_consumer_groups(kafka_address, "tailrace-sink")
        assert {0} == set(shown.values())
        assert len(shown) == len([topic for topic in records if topic in shown]) >= 9

        pipeline.processes["sink"].terminate()
        assert 0 == pipeline.processes["sink"].wait(timeout=30)
        pipeline.write(seconds=2, seed=4)
        pipeline.end_writers()
        pipeline.processes["capture"].terminate()
        assert 0 == pipeline.processes["capture"].wait(timeout=30)
        changes, records = _tailrace_lag(pipeline)
        shown = _kafka_consumer_groups(kafka_address, "tailrace-sink")
        assert {topic: records[topic] for topic in shown} == shown
        assert {topic: lag for topic, lag in records.items() if lag} == {t: lag for t, lag in shown.items() if lag}
        assert sum(shown.values()) > 100
        said = re.findall(r", ([\d,]+) records wait in the stream$", pipeline.run("lag").stdout, re.MULTILINE)
        assert sum(shown.values()) == sum(int(one.replace(",", "")) for one in said)
        assert min(changes.values()) > 0

        pipeline.start("capture", "sink")
        pipeline.settle()
        assert {0} == set(_tailrace_lag(pipeline)[1].values())
        assert {0} == set(_kafka_consumer_groups(kafka_address, "tailrace-sink").values())
    finally:
        pipeline.close()
