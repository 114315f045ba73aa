"""A ledger of constant sum, money moving in two processes: no reader of the target in one transaction ever sees another
sum once the source says `consistent`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from examples.legal_cases.build import LEDGER_TOTAL
from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import Pipeline


def test_no_reader_sees_another_sum(pipeline: Pipeline) -> None:
    _read_while_money_moves(pipeline)


@pytest.mark.parametrize("driver", ["kafka-python", pytest.param("confluent", marks=pytest.mark.soak)])
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
    pipeline.write(seconds=12, rate=0)
    pipeline.start()
    pipeline.settle()
    reader = Postgres(os.environ["TAILRACE_TEST_TARGET"], application_name="reader")
    sums: list[int] = []
    not_consistent = 0
    applied = set()
    try:
        while any(writer.poll() is None for writer in pipeline.writers):
            with reader.snapshot():
                seq, consistent = reader.rows(
                    "SELECT applied, consistent FROM tailrace.progress WHERE source = 'cases'"
                )[0]
                total = int(reader.rows("SELECT sum(balance) FROM cases.ledger")[0][0])
            applied.add(seq)
            if consistent:
                sums.append(total)
            else:
                not_consistent += 1
    finally:
        reader.close()
    pipeline.end_writers()
    assert {LEDGER_TOTAL} == set(sums)
    assert len(sums) > 50
    assert len(applied) > 10, "the ledger must have moved under the reader"
