"""kill -9 of each process at the named points, with live writers, over topics of a broker and with both of its drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.test_kill import POINTS, _clean
from tests.fix_kafka import fresh_topics
from tests.fix_pipeline import ROLES, Pipeline

OFTEN = ("capture.after_send", "sink.after_commit")
"""In every run: where the broker knows what nobody else does, and where the target does. All of them, with both drivers, in
the soak; the other two of capture and sink run over the local log each time (test_kill.py)."""


def _cases() -> list[object]:
    return [
        pytest.param(
            role,
            point,
            driver,
            marks=() if point in OFTEN and driver == "kafka-python" else pytest.mark.soak,
            id=f"{point}-{driver}",
        )
        for role, point in POINTS
        for driver in ("kafka-python", "confluent")
    ]


@pytest.mark.parametrize(("role", "point", "driver"), _cases())
def test_killed_at_a_named_point(
    tmp_path: Path, database_url: str, kafka_address: str, role: str, point: str, driver: str
) -> None:
    fresh_topics(kafka_address).close()
    pipeline = Pipeline(tmp_path / "run", database_url, kafka=kafka_address, driver=driver)
    try:
        pipeline.install()
        pipeline.write(seconds=3)
        pipeline.start(*(other for other in ROLES if other != role))
        pipeline.start(role, at=f"{point}=kill:2")
        pipeline.wait_killed(role)
        pipeline.start(role)
        pipeline.end_writers()
        pipeline.settle(timeout_s=120)
        _clean(pipeline)
    finally:
        pipeline.close()
