"""A broker that goes away, dies, stands still, is slow or is set otherwise, under live writers: each recovers by itself or
refuses with the next command; nothing is lost and nothing is applied twice, and the lag is told truly meanwhile."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import kafka
import pytest

import adapters.confluent
from embedded.kafka import EmbeddedKafka, absent
from examples.legal_cases.build import LEDGER_TOTAL
from schemas.change import Message
from schemas.errors import Code, TailraceError
from schemas.ports import TopicSettings
from tests.applied import AppliedOnce
from tests.fix_kafka import JARS, fresh_topics
from tests.fix_pipeline import Pipeline
from tests.proxy import Proxy

LEDGER = "tailrace.cases.t-ledger"


class Streamed:
    """A pipeline on a broker of its own, reached through a proxy."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tailrace-outage-"))
        self.proxy = Proxy()
        settings = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.proxy.port}"}
        self.broker = EmbeddedKafka(self.folder / "broker", jars=JARS, settings=settings)
        self.broker.start()
        self.proxy.start(self.broker.port)
        self.pipeline = Pipeline(folder / "run", url, kafka=f"127.0.0.1:{self.proxy.port}")
        self.applied = AppliedOnce(self.pipeline.folder, url)

    def follow(self) -> None:
        self.pipeline.install()
        self.pipeline.start()
        self.pipeline.settle(timeout_s=120)
        self.applied.begin()

    def settle_equal(self) -> int:
        """Caught up, every row equal and applied once, and the sample application's own sums right on the source. Returns
        how many rows were counted."""
        self.pipeline.end_writers()
        self.pipeline.settle(timeout_s=180)
        assert {None} == {process.poll() for process in self.pipeline.processes.values()}, self.pipeline.story()
        assert all(report.clean for report in self.pipeline.verify())
        counted = self.applied.check()
        with closing(sqlite3.connect(self.pipeline.folder / "cases.db")) as app:
            assert (LEDGER_TOTAL,) == app.execute("SELECT sum(balance) FROM ledger").fetchone()
            assert (app.execute("SELECT count(*) FROM cases").fetchone()[0],) == app.execute(
                "SELECT value FROM counters WHERE name = 'cases'"
            ).fetchone()
        return counted

    def lag(self) -> int | None:
        document = json.loads(self.pipeline.run("status", "--json").stdout)
        lag = document["sources"]["cases"]["lag_changes"]
        assert lag is None or isinstance(lag, int)
        return lag

    def close(self) -> None:
        self.pipeline.close()
        self.proxy.close()
        self.broker.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


@pytest.fixture
def streamed(tmp_path: Path, database_url: str) -> Iterator[Streamed]:
    if lacking := absent(JARS):
        pytest.skip(f"Kafka: {lacking}")
    made = Streamed(tmp_path, database_url)
    yield made
    made.close()


@pytest.mark.slow
@pytest.mark.timeout(500)
@pytest.mark.parametrize("gone_s", [6.0, pytest.param(70.0, marks=pytest.mark.soak)])
def test_broker_killed_and_started_again_on_its_data(streamed: Streamed, gone_s: float) -> None:
    streamed.follow()
    streamed.pipeline.write(seconds=gone_s + 6, rate=60)
    time.sleep(2)
    streamed.broker.kill()
    streamed.proxy.cut()
    back_s = time.monotonic() + gone_s
    time.sleep(min(3.0, gone_s / 2))
    lags = []
    while time.monotonic() < back_s:
        lags.append(streamed.lag())
        time.sleep(1)
    # The writers write on: whoever says 0 here is wrong.
    assert all(lag is None or lag > 0 for lag in lags), lags
    streamed.broker.start()
    assert streamed.settle_equal() > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_leader_that_stands_still_and_goes_on(streamed: Streamed) -> None:
    """SIGSTOP: connections stay open and nothing answers; requests in flight may be done or not when it wakes."""
    streamed.follow()
    streamed.pipeline.write(seconds=12, rate=60)
    for _ in range(2):
        time.sleep(2)
        assert streamed.broker.pid is not None
        os.kill(streamed.broker.pid, signal.SIGSTOP)
        time.sleep(3)
        os.kill(streamed.broker.pid, signal.SIGCONT)
    assert streamed.settle_equal() > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_network_that_is_slow_cut_and_silent(streamed: Streamed) -> None:
    streamed.follow()
    streamed.pipeline.write(seconds=14, rate=60)
    streamed.proxy.delay_s = 0.05
    time.sleep(3)
    streamed.proxy.delay_s = 0.0
    for _ in range(4):
        time.sleep(0.7)
        streamed.proxy.cut()
    streamed.proxy.blackhole = True
    time.sleep(4)
    streamed.proxy.blackhole = False
    assert streamed.settle_equal() > 0


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_what_a_failed_send_left_never_arrives(
    streamed: Streamed, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It came behind what was sent after it, when the broker was back; and the error of closing the client, which no daemon
    takes for an outage, ended capture for good."""
    # The wait for an answer ends before the client gives its messages up, as it does on a busy machine.
    monkeypatch.setattr(adapters.confluent, "DELIVERY_S", 1.5)
    flush = kafka.KafkaProducer.flush
    monkeypatch.setattr(kafka.KafkaProducer, "flush", lambda self, timeout=None: flush(self, min(timeout, 1.5)))
    stream = fresh_topics(f"127.0.0.1:{streamed.proxy.port}", driver=driver)
    stream.create_topics({"t": TopicSettings(partitions=1, compacted=False)})
    stream.send([Message("t", b"k", b"before")])
    streamed.proxy.refuse = True
    streamed.proxy.cut()
    with pytest.raises(TailraceError) as failed:
        stream.send([Message("t", b"k", b"lost")])
    assert Code.STREAM_UNREACHABLE == failed.value.code
    streamed.proxy.heal()
    time.sleep(3)
    assert [(0, 1)] == stream.send([Message("t", b"k", b"after")])
    stream.close()


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_a_row_above_the_limit_is_kept_by_key_and_the_stream_goes_on(streamed: Streamed) -> None:
    pipeline = streamed.pipeline
    text = pipeline.config_path.read_text()
    pipeline.config_path.write_text(text.replace("[limits]", "[limits]\nmax_row_bytes = 100000"))
    streamed.follow()
    with closing(sqlite3.connect(pipeline.folder / "cases.db", timeout=10)) as app:
        app.execute("INSERT INTO documents(id, title, sha256, body) VALUES ('big', 'big', 'x', zeroblob(300000))")
        app.execute("INSERT INTO documents(id, title, sha256, body) VALUES ('small', 'small', 'x', zeroblob(30))")
        app.commit()
    pipeline.until(lambda: "big" in pipeline.run("quarantine", "list").stdout, timeout_s=60)
    document = json.loads(pipeline.run("status", "--json").stdout)
    assert not document["can_cutover"]
    assert any("quarantine" in reason for reason in document["blocking_reasons"])
    pipeline.config_path.write_text(text)
    for role in ("capture", "sink", "snapshot"):
        pipeline.kill(role)
    pipeline.start()
    done = pipeline.run("quarantine", "retry")
    assert 0 == done.returncode, done.stderr
    streamed.settle_equal()
    assert "big" not in pipeline.run("quarantine", "list").stdout


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_settings_that_an_administrator_changes_are_refused_by_name(streamed: Streamed) -> None:
    """More partitions would send a key elsewhere; a finite retention would take records that nobody has read."""
    pipeline = streamed.pipeline
    streamed.follow()
    admin = _admin(streamed.broker.port)
    try:
        _alter(admin, "tailrace.cases.t-ledger", {"cleanup.policy": "delete", "retention.ms": "60000"})
        pipeline.kill("capture")
        pipeline.start("capture")
        assert 3 == pipeline.processes["capture"].wait(timeout=90), pipeline.story()
        said = (pipeline.folder / "capture.stderr").read_text()
        assert "tailrace.cases.t-ledger" in said
        assert "cleanup.policy" in said
        assert 3 == pipeline.run("check").returncode
        _alter(admin, "tailrace.cases.t-ledger", {"cleanup.policy": "compact", "retention.ms": "-1"})
        admin.create_partitions({"tailrace.cases.t-ledger": 3})
        pipeline.start("capture")
        assert 3 == pipeline.processes["capture"].wait(timeout=90), pipeline.story()
        said = (pipeline.folder / "capture.stderr").read_text()
        assert "3 partitions" in said
    finally:
        admin.close()


@pytest.mark.soak
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_settings_that_an_administrator_changes_are_mended_by_the_command_that_is_printed(streamed: Streamed) -> None:
    pipeline = streamed.pipeline
    streamed.follow()
    pipeline.write(seconds=4, rate=60)
    admin = _admin(streamed.broker.port)
    try:
        _alter(admin, LEDGER, {"cleanup.policy": "delete", "retention.ms": "60000"})
        pipeline.kill("capture")
        pipeline.start("capture")
        (pairs,) = re.findall(rf"--alter --topic {LEDGER} --add-config (\S+)", _refused(pipeline, "capture"))
        _alter(admin, LEDGER, dict(pair.split("=") for pair in pairs.split(",")))
        pipeline.start("capture")
        assert streamed.settle_equal() > 0

        admin.create_partitions({LEDGER: 3})
        pipeline.kill("capture")
        pipeline.start("capture")
        assert f"--delete --topic {LEDGER}" in _refused(pipeline, "capture")
        admin.delete_topics([LEDGER])
        pipeline.start("capture")
        for role in ("capture", "sink"):
            assert "tailrace reset cases" in _refused(pipeline, role)
        done = pipeline.run("reset", "cases", "--yes", "cases")
        assert 0 == done.returncode, done.stderr
    finally:
        admin.close()
    pipeline.kill("snapshot")
    pipeline.start()
    pipeline.write(seconds=3, rate=60, seed=8)
    pipeline.end_writers()
    pipeline.settle(timeout_s=180)
    assert all(report.clean for report in pipeline.verify())


def _refused(pipeline: Pipeline, role: str) -> str:
    """What a daemon said last that ended with exit code 3."""
    assert 3 == pipeline.processes[role].wait(timeout=120), pipeline.story()
    return (pipeline.folder / f"{role}.stderr").read_text()


def _admin(port: int) -> Any:
    import kafka

    return kafka.KafkaAdminClient(bootstrap_servers=f"127.0.0.1:{port}")


def _alter(admin: Any, topic: str, settings: dict[str, str]) -> None:
    from kafka.admin import ConfigResource, ConfigResourceType

    admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, configs=settings)])
