"""The model of the whole path over a real broker, through each driver: the same histories, crashes and duplicates.

`TAILRACE_KAFKA_MODEL_RUNS` sets the number of seeded runs for each driver."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from ops.retry import with_retries
from schemas.ports import TRANSPORT_CALLS
from tests.fix_kafka import fresh_topics
from tests.model.test_pipeline import model_url, one_run

RUNS = int(os.environ.get("TAILRACE_KAFKA_MODEL_RUNS", "3"))
FIRST = 500_000
"""Other seeds than over the stream in memory."""


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("driver", ["kafka-python", "confluent"])
def test_target_equals_source_over_a_broker(tmp_path: Path, model_url: str, kafka_address: str, driver: str) -> None:
    checked = 0
    stream = with_retries(fresh_topics(kafka_address, driver=driver), TRANSPORT_CALLS, for_s=20.0)
    try:
        for seed in range(FIRST, FIRST + RUNS):
            begun_s = time.monotonic()
            checked += one_run(tmp_path, model_url, seed, stream=stream)
            print(f"seed {seed}: {time.monotonic() - begun_s:.1f} s, {checked} comparisons")
    finally:
        stream.close()
    assert checked >= RUNS


__all__ = ["model_url"]
