"""A whole cutover and its return as an operator types them: checkpoint, final verification and hooks at their places."""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from schemas.authority import Authority
from tests.cutover_rig import Rig, begun, configure
from tests.integration.test_replay_verbs import begin, document, run

KNOWN = ("--waive", "backup", "--waive", "target role")
HOOK = """import json, pathlib, sys
pathlib.Path("hooks.log").open("a").write(json.dumps(json.load(sys.stdin)) + "\\n")
sys.exit(pathlib.Path("fails").exists() and sys.argv[1:] == ["may-fail"])
"""


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    (tmp_path / "hook.py").write_text(HOOK)
    hook = f"{sys.executable} hook.py"
    hooks = "\n".join(
        f"{event} = [{json.dumps(hook + argument)}]"
        for event, argument in {
            "before_fence": "",
            "before_open": " may-fail",
            "after_open": "",
            "failed": "",
            "after_rollback": "",
        }.items()
    )
    configure(
        tmp_path,
        database_url,
        "[limits]\nmin_free_bytes = 1000\n[cutover]\nlease_s = 120.0\nfinal_verify_s = 60.0\ndrain_budget_s = 60.0\n"
        f"[hooks]\ntimeout_s = 60.0\n{hooks}\n",
    )
    with begun(
        Rig(tmp_path, database_url, stream=LocalLog(tmp_path / "tailrace-stream.db"), wall_clock=True),
        "INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b')",
    ) as made:
        made.target.run("ANALYZE")
        yield made


def ran(rig: Rig) -> list[dict[str, object]]:
    log = rig.folder / "hooks.log"
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def test_hooks_checkpoint_and_final_verification_of_a_cutover(rig: Rig) -> None:
    run(rig, "verify")
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'changed since' WHERE id = 2")
    (rig.folder / "fails").touch()
    _, err = run(rig, "cutover", *KNOWN, exits=1)
    assert "hook-failed" in err
    assert "before_open 1 of 1 (a command) ends with 1" in err
    assert Authority.SOURCE is rig.row.read().authority
    assert ["before_fence", "before_open", "failed"] == [one["event"] for one in ran(rig)]
    assert str(ran(rig)[-1]["reason"]).startswith("[hook-failed]")
    (rig.folder / "fails").unlink()
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'and again' WHERE id = 2")
    done = document(rig, "cutover", *KNOWN)
    assert Authority.TARGET is rig.row.read().authority
    assert {"fence", "drain", "verify", "sequences", "hooks", "open"} == set(done["parts_s"])
    assert done["way_back_s"] >= 0
    assert ("target", [], {}) == (done["authority"], done["failed_after_open"], done["tail"]["differing"])
    assert ("after_open", done["token"]) == (ran(rig)[-1]["event"], ran(rig)[-1]["token"])
    kept = document(rig, "checkpoint", "--list")["checkpoints"]
    assert ["before cutover", "before cutover"] == [one["why"] for one in kept]
    assert all(one["name"].startswith("checkpoint_2") and "_before_cutover" in one["name"] for one in kept)
    run(rig, "rollback", "--reason", "a trial")
    assert ("after_rollback", "a trial") == (ran(rig)[-1]["event"], ran(rig)[-1]["reason"])
    made = document(rig, "checkpoint", "--list")["checkpoints"][-1]["name"]
    rig.settle()
    run(rig, "replay", "--from", made)
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)


def test_a_difference_found_before_the_claim_refuses_the_cutover(rig: Rig) -> None:
    run(rig, "verify")
    rig.sides["cases"].app.run("UPDATE t SET v = 'changed' WHERE id = 2")
    rig.settle()
    rig.target.run("UPDATE cases.t SET v = 'damaged' WHERE id = 2")
    token = rig.row.read().token
    _, err = run(rig, "cutover", *KNOWN, exits=4)
    assert "final-differs" in err
    assert (Authority.SOURCE, token) == (rig.row.read().authority, rig.row.read().token)
    assert [] == ran(rig)
    run(rig, "repair")
    rig.settle()
    run(rig, "verify")
    # Nobody applies the way back: said at once, and no reason to stop anything.
    rig.stopped |= {"back_sink"}
    assert None is document(rig, "cutover", *KNOWN)["way_back_s"]
    assert Authority.TARGET is rig.row.read().authority
    assert "the way back has not arrived yet" in (rig.folder / "migration.log").read_text()


def test_gates_are_judged_again_after_a_long_stop(rig: Rig) -> None:
    """Stopped between the gates and the claim, and a row came into quarantine meanwhile."""
    path = rig.folder / "tailrace.toml"
    short = {"lease_s = 120.0": "lease_s = 3.0", "final_verify_s = 60.0": "final_verify_s = 2.0"}
    text = path.read_text()
    for before, after in {**short, "[hooks]\ntimeout_s = 60.0": "[hooks]\ntimeout_s = 2.0"}.items():
        text = text.replace(before, after)
    path.write_text(text)
    run(rig, "verify")
    process = begin(rig, "cutover", *KNOWN, at="cutover.judged=pause")
    deadline = time.monotonic() + 60
    while not _stopped(process.pid):
        assert process.poll() is None
        assert time.monotonic() < deadline
        rig.step()
    token = rig.row.read().token
    rig.target.run(
        'INSERT INTO tailrace.quarantine(source, "table", key, key_text, reason, seq) '
        "SELECT 'cases', 't', ''::bytea, '[]', 'a trial', 1"
    )
    time.sleep(3.5)
    process.send_signal(signal.SIGCONT)
    while process.poll() is None:
        rig.step()
    out, err = process.communicate()
    assert 3 == process.returncode, f"{out}\n{err}"
    assert "quarantine" in err
    assert (Authority.SOURCE, token) == (rig.row.read().authority, rig.row.read().token)
    assert all(one.fence is None for one in rig.fence().carried().values())
    assert "failed" == ran(rig)[-1]["event"]


def _stopped(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
