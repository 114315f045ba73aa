"""Canonical lines: one a second, whatever the number of units."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ops import telemetry
from ops.telemetry import NewErrors, Telemetry
from ops.units import Unit, Units


def _lines(folder: Path) -> list[str]:
    path = folder / "migration.log"
    return path.read_text().splitlines() if path.exists() else []


def test_units_of_one_second_become_one_line(tmp_path: Path) -> None:
    units = Units(Telemetry("capture", folder=tmp_path, terminal=False))
    for seq in (10, 12):
        units.done(Unit("capture.cut", "cases", {"rows": 2, "bytes": 100, "ms": 1.26}, seq=seq))
    units.done(Unit("snapshot.chunk", "cases", {"rows": 5}, table="Order Details"))
    assert [] == _lines(tmp_path)
    units.flush()
    units.flush()
    first, second = _lines(tmp_path)
    assert re.fullmatch(r"\S+Z INFO capture capture\.cut: source=cases seq=12 n=2 rows=4 bytes=200 ms=2\.5", first), (
        first
    )
    assert second.endswith('snapshot.chunk: source=cases table="Order Details" n=1 rows=5')


def test_a_line_of_a_failure_keeps_its_words_and_gets_its_context(tmp_path: Path) -> None:
    events = Telemetry("sink", folder=tmp_path, terminal=False)
    events.event("loop.failed", "cases: gone\nnext: look", level="error", source="cases")
    (line,) = _lines(tmp_path)
    assert line.endswith("ERROR sink loop.failed: cases: gone | next: look source=cases")
    assert [line] == (tmp_path / "error.log").read_text().splitlines()


def test_a_password_in_a_url_is_masked_in_text_and_context(tmp_path: Path) -> None:
    url = "postgresql://u:geheim@host/db"
    Telemetry("sink", folder=tmp_path, terminal=False).event("x", url, where=url)
    assert 2 == _lines(tmp_path)[0].count("postgresql://u:***@host/db")


def test_a_log_that_has_grown_steps_aside_and_old_ones_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(telemetry, "MAX_LOG_BYTES", 1000)
    events = Telemetry("sink", folder=tmp_path, terminal=False)
    errors = NewErrors(tmp_path)
    said = []
    for number in range(100):
        events.event("x", f"line {number}", level="error")
        said += errors.look()
    assert 100 == len(said)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [f"{kind}.log{end}" for kind in ("error", "migration") for end in ("", ".1", ".2", ".3")] == names
    assert all(path.stat().st_size < 1100 for path in tmp_path.iterdir())
    kept = [
        line for end in (".3", ".2", ".1", "") for line in (tmp_path / f"migration.log{end}").read_text().splitlines()
    ]
    assert [f"line {number}" for number in range(100 - len(kept), 100)] == [line.partition(": ")[2] for line in kept]


def test_what_a_stepper_says_carries_its_source(tmp_path: Path) -> None:
    Telemetry("snapshot", folder=tmp_path, terminal=False).bound(source="cases")("snapshot.begin", "ledger")
    assert _lines(tmp_path)[0].endswith("INFO snapshot snapshot.begin: ledger source=cases")
