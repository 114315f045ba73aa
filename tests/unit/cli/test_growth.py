"""The price per day in the status document: unknown until readings tell it."""

from __future__ import annotations

import json
import sqlite3
import time
from contextlib import closing
from pathlib import Path

from cli.growth import _path, readings_of, with_growth
from cli.render import status_lines
from cli.status import SourceFigures, TargetFigures, source_status, whole_status
from ops.config import Config, load, sample
from ops.readings import read
from tests.fakes.transport import FakeTransport


def _config(folder: Path) -> Config:
    with closing(sqlite3.connect(folder / "app.db")) as app:
        app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    path = folder / "tailrace.toml"
    # Nobody listens on port 1.
    path.write_text(sample({"app": "app.db"}, target_url="postgresql://nobody@127.0.0.1:1/none"))
    return load(path)


def _document(config: Config) -> dict[str, object]:
    status = source_status("app", SourceFigures(), TargetFigures(), now_ms=0)
    return with_growth(whole_status([status]), config)


def test_growth_is_null_and_unknown_without_readings(tmp_path: Path) -> None:
    document = _document(_config(tmp_path))
    assert {"stream_bytes_per_day": None, "bookkeeping_bytes_per_day": None} == document["growth"]
    text = "\n".join(status_lines(document))
    assert "change log unknown" in text
    assert "price per day: stream unknown, bookkeeping unknown" in text


def test_growth_and_time_to_the_limit_from_readings(tmp_path: Path) -> None:
    config = _config(tmp_path)
    now_ms = time.time_ns() // 1_000_000
    limit = config.limits.max_log_bytes
    path = _path(config, "app")
    path.parent.mkdir(parents=True)
    readings = [
        {"at_ms": now_ms - 30 * 60_000, "log_bytes": 0, "stream_bytes": 7, "bookkeeping_bytes": None},
        {"at_ms": now_ms, "log_bytes": limit // 2, "stream_bytes": 7, "bookkeeping_bytes": None},
    ]
    path.write_text(json.dumps(readings))
    document = _document(config)
    growth = document["sources"]["app"]["growth"]  # type: ignore[index]
    assert limit == growth["log_bytes_per_hour"]
    assert limit * 24 == growth["log_bytes_per_day"]
    assert 30 * 60 == growth["seconds_to_limit"]
    assert {"stream_bytes_per_day": 0.0, "bookkeeping_bytes_per_day": None} == document["growth"]
    text = "\n".join(status_lines(document))
    assert "0.5 h to its limit" in text
    assert "price per day: stream does not grow, bookkeeping unknown" in text


def test_a_reading_of_what_cannot_be_reached_is_unknown_and_ends_nothing(tmp_path: Path) -> None:
    config = _config(tmp_path)
    readings_of(config, "app", FakeTransport()).step()
    (one,) = read(_path(config, "app"))
    assert (None, None, None) == (one["log_bytes"], one["stream_bytes"], one["bookkeeping_bytes"])
