"""Probes answer of now, or not at all."""

from __future__ import annotations

import http.server
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.alerts import Alert, Alerts
from ops.config import parse
from ops.probes import Probe, command, url
from ops.telemetry import Telemetry
from schemas.errors import Code, ConfigError


class _Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self.send_response(int(self.path.strip("/")))
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()


def test_a_url_answers_well_or_says_how(address: str) -> None:
    assert "" == url(lambda: f"{address}/204", timeout_s=5)()
    assert "answers 503" == url(lambda: f"{address}/503", timeout_s=5)()
    assert "does not answer (ConnectionRefusedError)" == url(lambda: "http://127.0.0.1:9/", timeout_s=5)()


def test_a_url_whose_secret_is_missing_is_not_well() -> None:
    def missing() -> str:
        raise ConfigError(Code.SECRET_MISSING, "environment variable X is not set")

    assert "cannot be asked (secret-missing)" == url(missing, timeout_s=5)()


def test_a_command_ends_well_or_says_how(tmp_path: Path) -> None:
    def run(code: str, timeout_s: float = 30) -> str:
        return command(f'{sys.executable} -c "{code}"', folder=tmp_path, timeout_s=timeout_s)()

    assert "" == run("pass")
    assert "ends with 3" == run("raise SystemExit(3)")
    assert "does not end within 0.3 s" == run("import time; time.sleep(60)", 0.3)
    assert "cannot be run (FileNotFoundError)" == command("./nothing", folder=tmp_path, timeout_s=5)()


def until(found: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_probe_that_hangs_is_no_answer() -> None:
    held = threading.Event()
    asked = 0

    def ask() -> str:
        nonlocal asked
        asked += 1
        if asked > 1:
            held.wait()
        return ""

    probe = Probe(ask, interval_s=0.01, timeout_s=0.1)
    try:
        until(lambda: (probe.answer() or "").startswith("does not answer for"))
    finally:
        held.set()
        probe.close()


def test_before_the_first_answer_nothing_is_known() -> None:
    held = threading.Event()

    def ask() -> str:
        held.wait()
        return ""

    probe = Probe(ask, interval_s=0.01, timeout_s=60)
    assert probe.answer() is None
    held.set()
    until(lambda: probe.answer() == "")
    probe.close()


def test_a_channel_that_fails_is_told_of(tmp_path: Path) -> None:
    heard: list[Alert] = []

    def broken(_: Alert) -> None:
        raise OSError("no route to mail")

    alerts = Alerts(Telemetry("watch", folder=tmp_path, terminal=False), [broken, heard.append])
    alerts("shift.brought_back", "all reads go back", level="error", log="rollback.log")
    alerts("shift.done", "good")
    alerts("performance.window", "p95", log="performance.log")
    assert [Alert("shift.brought_back", "error", "all reads go back")] == heard
    actions = {
        path.name: [line.split(" ")[3].rstrip(":") for line in path.read_text().splitlines()]
        for path in tmp_path.glob("*.log")
    }
    assert {
        "migration.log": ["shift.brought_back", "alert.undelivered", "shift.done"],
        "rollback.log": ["shift.brought_back"],
        "error.log": ["shift.brought_back", "alert.undelivered"],
        "performance.log": ["performance.window"],
    } == actions


@pytest.mark.parametrize(
    ("table", "settings", "said"),
    [
        ("shift", {"increments": [50, 25]}, "shift.increments"),
        ("shift", {"increments": [10, 110]}, "shift.increments"),
        ("shift", {"increments": []}, "shift.increments"),
        ("shift", {"min_samples": 0}, "shift.min_samples"),
        ("shift", {"bake_seconds": -1}, "shift.bake_seconds"),
        ("health", {"data_integrity": 101}, "health.data_integrity"),
        ("health", {"interval_s": 0}, "health.interval_s"),
        ("health", {"eror_rate": 2}, "did you mean health.error_rate?"),
    ],
)
def test_thresholds_that_could_not_be_met_are_refused(
    tmp_path: Path, table: str, settings: dict[str, object], said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        parse({"source_databases": {"a": "a.db"}, table: settings}, folder=tmp_path, name="t.toml")
    assert said in str(caught.value)
