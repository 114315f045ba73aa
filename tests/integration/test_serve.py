"""`serve` as a daemon among the others: a health file, and SIGHUP without an end."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

CONFIG = '[source_databases]\napp = "app.db"\n\n[transport]\npath = "stream.db"\nprefix = "{prefix}"\n'


def test_serve_signs_its_health_and_takes_a_reload(tmp_path: Path) -> None:
    config = tmp_path / "tailrace.toml"
    config.write_text(CONFIG.format(prefix="one"))
    command = [sys.executable, "-m", "cli.main", "-c", str(config)]
    serving = subprocess.Popen(
        [*command, "serve", "--port", "0", "--quiet", "--json"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"TAILRACE_TARGET_URL": ""},
    )
    try:
        assert serving.stdout is not None
        url = json.loads("".join(iter(serving.stdout.readline, "}\n")) + "}")["url"]

        def health() -> dict[str, object]:
            done = subprocess.run([*command, "health", "serve", "--json"], capture_output=True, text=True, check=False)
            (one,) = json.loads(done.stdout)["daemons"]
            return {"code": done.returncode, "state": one["state"], "pid": one["pid"]}

        healthy = {"code": 0, "state": "running", "pid": serving.pid}
        _until(lambda: health() == healthy)
        serving.send_signal(signal.SIGHUP)
        _until(lambda: "daemon.reloaded" in _events(tmp_path))
        config.write_text(CONFIG.format(prefix="two"))
        serving.send_signal(signal.SIGHUP)
        _until(lambda: "daemon.reload_refused" in _events(tmp_path))
        assert "transport.prefix moved" in _events(tmp_path)
        with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:
            assert {"status": "ok", "schemas": 0, "subjects": 0} == json.load(answer)
        _until(lambda: health() == healthy)
    finally:
        serving.terminate()
        assert 0 == serving.wait(timeout=60)
        assert serving.stdout is not None
        serving.stdout.close()
    done = subprocess.run([*command, "health", "serve"], capture_output=True, text=True, check=False)
    assert (1, True) == (done.returncode, "does not run here" in done.stdout)


def _events(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.rglob("*.log*") if path.is_file())


def _until(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 120
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.1)
