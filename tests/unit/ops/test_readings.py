"""The ring stays small, and growth is told only where it is known."""

from __future__ import annotations

from pathlib import Path

from ops.readings import DAY_MS, EVERY_MS, MOST, Readings, per_day, read, seconds_to
from tests.model.world import SteppingClock

HOUR_MS = DAY_MS // 24


def test_weeks_of_readings_stay_a_small_file_that_reaches_far_back(tmp_path: Path) -> None:
    clock, size = SteppingClock(), [0]
    began_ms = clock.ms
    ring = Readings(tmp_path / "growth" / "a.json", lambda: {"log_bytes": size[0]}, clock)
    largest = 0
    for turn in range(3000):
        clock.ms += EVERY_MS
        size[0] = turn
        ring.step()
        largest = max(largest, (tmp_path / "growth" / "a.json").stat().st_size)
    readings = read(tmp_path / "growth" / "a.json")
    assert MOST // 2 <= len(readings) <= MOST
    assert largest < 64 * MOST
    assert readings[0]["at_ms"] - began_ms < HOUR_MS
    assert [one["at_ms"] for one in readings] == sorted(one["at_ms"] for one in readings)
    grown = per_day(readings, "log_bytes", now_ms=clock.ms)
    assert grown is not None
    assert 1400 < grown < 1441


def _readings(*sizes: int | None, every_ms: int = HOUR_MS // 4) -> list[dict[str, int | None]]:
    return [{"at_ms": number * every_ms, "log_bytes": size} for number, size in enumerate(sizes)]


def test_growth_is_unknown_until_it_can_be_known() -> None:
    assert per_day([], "log_bytes", now_ms=0) is None
    assert per_day(_readings(5), "log_bytes", now_ms=0) is None
    assert per_day(_readings(5, 6, every_ms=60_000), "log_bytes", now_ms=60_000) is None
    assert per_day(_readings(None, None), "log_bytes", now_ms=HOUR_MS // 4) is None
    assert per_day(_readings(5, 6), "stream_bytes", now_ms=HOUR_MS // 4) is None
    stale = _readings(5, 6)
    assert per_day(stale, "log_bytes", now_ms=2 * HOUR_MS) is None


def test_time_to_the_limit_goes_by_the_last_hour() -> None:
    readings = _readings(900, 0, 100, 200, 300, 400)
    now_ms = 5 * HOUR_MS // 4
    assert 400 * 24 == per_day(readings, "log_bytes", now_ms=now_ms)
    assert 1.5 * 3600 == seconds_to(1000, readings, "log_bytes", now_ms=now_ms)
    assert 0 == seconds_to(300, readings, "log_bytes", now_ms=now_ms)
    assert seconds_to(1000, _readings(9, 9), "log_bytes", now_ms=HOUR_MS // 4) is None
    assert 0.0 == per_day(_readings(9, 9), "log_bytes", now_ms=HOUR_MS // 4)
    assert seconds_to(1000, _readings(9, 5), "log_bytes", now_ms=HOUR_MS // 4) is None


def test_a_torn_file_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"at_ms": 1')
    Readings(path, lambda: {"log_bytes": None}, SteppingClock()).step()
    assert [None] == [one["log_bytes"] for one in read(path)]
