"""A ledger of constant sum, money moving in two processes: no reader of the target in one transaction ever sees another
sum once the source says `consistent`."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from examples.legal_cases.build import LEDGER_TOTAL
from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import Pipeline


def test_no_reader_sees_another_sum(pipeline: Pipeline) -> None:
    _read_while_money_moves(pipeline)


@pytest.mark.soak  # in every run: the same over the local log
@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_no_reader_sees_another_sum_through_a_broker(
    tmp_path: Path, database_url: str, kafka_address: str, driver: str
) -> None:
    """Capture, copy and sink are three processes, the stream is topics of a broker."""
    fresh_topics(kafka_address).close()
    pipeline = Pipeline(tmp_path / "run", database_url, kafka=kafka_address, driver=driver)
    try:
        _read_while_money_moves(pipeline)
    finally:
        pipeline.close()


def _read_while_money_moves(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.write(seconds=4, rate=0)
    pipeline.start()
    pipeline.settle(timeout_s=180)
    reader = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="reader")
    sums: list[int] = []
    applied = set()
    deadline, seed = time.monotonic() + 120, 50
    try:
        while len(sums) <= 50 or len(applied) <= 10:
            assert time.monotonic() < deadline, f"the ledger must move under the reader: {len(sums)}, {len(applied)}"
            if all(writer.poll() is not None for writer in pipeline.writers):
                pipeline.end_writers()
                seed += 1
                pipeline.write(seconds=4, rate=0, seed=seed)
            with reader.snapshot():
                seq, consistent = reader.rows(
                    "SELECT applied, consistent FROM tailrace.progress WHERE source = 'cases'"
                )[0]
                total = int(reader.rows("SELECT sum(balance) FROM cases.ledger")[0][0])
            applied.add(seq)
            if consistent:
                sums.append(total)
    finally:
        reader.close()
    pipeline.end_writers()
    assert {LEDGER_TOTAL} == set(sums)
    pipeline.settle(timeout_s=180)
    assert all(report.clean for report in pipeline.verify())
