"""Daemons from the outside: opened together, stopped, reloaded, looked at, and what they leave in their log."""

from __future__ import annotations

import json
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from cli.wiring import open_target
from ops.config import sample
from tests.fix_pipeline import ROLES, Pipeline

OPEN = """
import sys
from pathlib import Path
from cli.wiring import open_registry, open_transport
from ops.config import load
config = load(Path(sys.argv[1]))
print("ready", flush=True)
sys.stdin.readline()
transport = open_transport(config)
open_registry(config, transport)
transport.close()
"""


def _config(folder: Path) -> Path:
    with closing(sqlite3.connect(folder / "app.db")) as app:
        app.execute("CREATE TABLE t(id INTEGER PRIMARY KEY)")
    path = folder / "tailrace.toml"
    path.write_text(sample({"app": "app.db"}) + "\n", encoding="utf-8")
    return path


def test_a_new_log_opened_by_several_at_once(tmp_path: Path) -> None:
    """SQLite refuses a simultaneous switch to WAL without waiting: each of them must still come up."""
    for number in range(8):
        folder = tmp_path / str(number)
        folder.mkdir()
        command = [sys.executable, "-c", OPEN, str(_config(folder))]
        daemons = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(6)]
        for daemon in daemons:
            assert daemon.stdout is not None
            assert b"ready\n" == daemon.stdout.readline()
        for daemon in daemons:
            assert daemon.stdin is not None
            daemon.stdin.write(b"\n")
            daemon.stdin.flush()
        codes = []
        for daemon in daemons:
            daemon.communicate(timeout=60)
            codes.append(daemon.returncode)
        assert [0] * 6 == codes


def test_a_daemon_that_cannot_open_says_so_in_its_log(tmp_path: Path) -> None:
    config = _config(tmp_path)
    (tmp_path / "tailrace-stream.db").write_bytes(b"not a database at all" * 100)
    for role in ("capture", "sink", "snapshot"):
        command = [sys.executable, "-m", "cli.main", "-c", str(config), role, "--quiet"]
        assert 1 == subprocess.run(command, check=False, stderr=subprocess.DEVNULL, timeout=60).returncode
    logs = list(tmp_path.rglob("error.log"))
    assert 1 == len(logs)
    assert 3 == sum("daemon.refused" in line and "SQLITE_NOTADB" in line for line in logs[0].read_text().splitlines())


def _sessions(pipeline: Pipeline) -> set[int]:
    """Server processes of the sinks."""
    target = open_target(pipeline.config, "test")
    try:
        found = target.rows("SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'tailrace-sink-%'")
    finally:
        target.close()
    return {row[0] for row in found}


def _log(pipeline: Pipeline) -> str:
    return (pipeline.folder / "migration.log").read_text()


def test_sighup_opens_everything_anew(pipeline: Pipeline) -> None:
    """And health, log lines, a clean stop: one life of three daemons."""
    pipeline.install()
    pipeline.write(seconds=6, rate=300)
    pipeline.start()
    pipeline.settle()
    assert 0 == pipeline.run("health", *ROLES).returncode
    before = _sessions(pipeline)
    for role in ROLES:
        pipeline.processes[role].send_signal(signal.SIGHUP)
    pipeline.until(lambda: 3 == _log(pipeline).count("daemon.reloaded"))
    pipeline.until(lambda: 2 == len(fresh := _sessions(pipeline)) and not fresh & before)
    pipeline.end_writers()
    pipeline.settle()
    assert all(report.clean for report in pipeline.verify())
    assert [None] * 3 == [pipeline.processes[role].poll() for role in ROLES]
    assert "" == pipeline.errors()

    document = json.loads(pipeline.run("health", "--json").stdout)
    assert document["healthy"]
    assert {"cases", "auth"} <= set(next(d for d in document["daemons"] if d["process"] == "sink")["steppers"])
    lines = _log(pipeline).splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\dT\S+Z (INFO|WARNING|ERROR) \w+ [\w.]+:", line) for line in lines), lines
    for action, figures in (
        ("capture.cut", r"source=cases seq=\d+ n=\d+ entries=\d+ rows=\d+ bytes=\d+ ms=[\d.]+"),
        ("sink.apply", r"source=cases seq=\d+ n=\d+ records=\d+ notices=\d+ rows=\d+ bytes=\d+ ms=[\d.]+"),
        ("snapshot.chunk", r"source=cases table=ledger seq=\d+ n=1 rows=\d+ bytes=\d+ ms=[\d.]+"),
    ):
        assert any(re.search(f" INFO \\w+ {action}: {figures}$", line) for line in lines), action
    cuts = [line[:19] for line in lines if " capture.cut: source=cases" in line]
    assert len(cuts) < 2 * len(set(cuts)), "about one line a second"

    for role in ROLES:
        pipeline.processes[role].terminate()
    assert [0] * 3 == [pipeline.processes[role].wait(timeout=30) for role in ROLES]
    assert 3 == _log(pipeline).count("daemon.stopped")
    stopped = pipeline.run("health", "sink")
    assert (1, "sink: NOT healthy: does not run here\n") == (stopped.returncode, stopped.stdout)


def test_a_killed_or_stuck_daemon_is_not_healthy(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start("capture")
    pipeline.until(lambda: 0 == pipeline.run("health", "capture").returncode)
    pipeline.processes["capture"].send_signal(signal.SIGSTOP)
    pipeline.until(lambda: "no step has ended" in pipeline.run("health", "capture", "--max-age", "1.5s").stdout)
    pipeline.processes["capture"].send_signal(signal.SIGCONT)
    pipeline.until(lambda: 0 == pipeline.run("health", "--max-age", "5s").returncode)
    pipeline.kill("capture")
    said = pipeline.run("health")
    assert 1 == said.returncode
    assert f"process {pipeline.processes['capture'].pid} is gone" in said.stdout


def test_a_reload_keeps_what_takes_a_restart(pipeline: Pipeline) -> None:
    pipeline.install()
    pipeline.start("capture")
    pipeline.until(lambda: 0 == pipeline.run("health", "capture").returncode)
    good = pipeline.config_path.read_text()
    for text, word in (("nonsense = [", "the old configuration stays"), ('prefix = "other"', "transport.prefix moved")):
        pipeline.config_path.write_text(good.replace("[transport]", f"[transport]\n{text}"))
        pipeline.processes["capture"].send_signal(signal.SIGHUP)
        pipeline.until(lambda: word in pipeline.errors())  # noqa: B023
    pipeline.config_path.write_text(good)
    pipeline.until(lambda: 0 == pipeline.run("health", "capture").returncode)
    assert pipeline.processes["capture"].poll() is None


def test_systemd_is_told(pipeline: Pipeline, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(tmp_path / "notify"))
        heard.settimeout(30)
        pipeline.environment |= {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "120000000"}
        pipeline.install()
        pipeline.start("snapshot")
        said = [heard.recv(999).decode()]
        while "WATCHDOG=1" not in said[-1]:
            said.append(heard.recv(999).decode())
        pipeline.processes["snapshot"].send_signal(signal.SIGHUP)
        while "RELOADING=1" not in said[-1]:
            said.append(heard.recv(999).decode())
        pipeline.processes["snapshot"].terminate()
        while "STOPPING=1" not in said[-1]:
            said.append(heard.recv(999).decode())
    assert said[0].startswith(f"READY=1\nMAINPID={pipeline.processes['snapshot'].pid}\nSTATUS=snapshot of cases, auth")
    assert any("WATCHDOG=1\nSTATUS=2 at work" == one for one in said)
    assert 2 == sum(one.startswith("READY=1") for one in said)
    assert 0 == pipeline.processes["snapshot"].wait(timeout=30)


def test_sigterm_while_it_opens_is_a_clean_end(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "cli.main", "-c", str(_config(tmp_path)), "snapshot"]
    daemon = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert daemon.stderr is not None
    assert "daemon.started" in daemon.stderr.readline()
    daemon.terminate()
    _, rest = daemon.communicate(timeout=30)
    assert (0, 1) == (daemon.returncode, rest.count("daemon.stopped"))
