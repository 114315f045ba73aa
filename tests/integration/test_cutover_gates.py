"""The gates read from real files and a real target, and `cutover` that refuses with every reason (exit 3)."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

from adapters.locallog import LocalLog
from capture.sqlite_source import SqliteSource
from cli.cutover_gates import all_gates, backup_of
from cli.main import tailrace
from cutover.final import Marks
from cutover.gates import Gate, Verdict
from cutover.routing import REPORTS_FOLDER
from ops.config import load
from ops.telemetry import Telemetry
from schemas.errors import TailraceError
from tests.cutover_rig import Rig, configure
from verify.verification import Verification

DDL = (
    "CREATE TABLE t(id INTEGER PRIMARY KEY, v TEXT, u TEXT UNIQUE)",
    "CREATE TABLE audit(id INTEGER PRIMARY KEY, what TEXT)",
    "CREATE TRIGGER noted AFTER INSERT ON t BEGIN INSERT INTO audit(what) VALUES (new.v); END",
)


class Migration:
    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        path = configure(rig.folder, rig.url, "[limits]\nmin_free_bytes = 1000\n")
        self.path, self.config = path, load(path)

    def backup(self) -> None:
        from cli.backup import backup_source

        for name in self.rig.sides:
            backup_source(self.config, name, Telemetry("test", terminal=False))

    def verify(self) -> None:
        for name, side in self.rig.sides.items():
            source = SqliteSource(side.app, name)
            Verification(source, source, self.rig.target, self.rig.clock, expected=["t", "audit"]).run()
            marks = Marks(self.rig.target, self.rig.transport, prefix="p")
            marks.store(name, marks.now(name))
        # The rig's clock is its own; the age is judged by the target's.
        self.rig.target.run("UPDATE tailrace.verdicts SET at_ms = extract(epoch FROM clock_timestamp()) * 1000")

    def gates(self) -> dict[str, Gate]:
        self.rig.target.run("UPDATE tailrace.progress SET applied_at_ms = extract(epoch FROM clock_timestamp()) * 1000")
        found = all_gates(self.config, self.rig.target, self.rig.row.read(), proven=True)
        return {one.name: one for one in found}

    def closed(self) -> set[str]:
        """Without the role: the rig's own sessions are of it."""
        return {name for name, one in self.gates().items() if not one.open} - {"target role"}

    def cutover(self, *arguments: str, alive: bool = True) -> tuple[int, str]:
        age_ms = 0 if alive else 60_000
        self.gates()
        self.rig.target.run("UPDATE tailrace.progress SET applied_at_ms = applied_at_ms - %s", (age_ms,))
        result = CliRunner().invoke(tailrace, ["--config", str(self.path), "cutover", *arguments])
        error = result.exception
        code = error.exit_code if isinstance(error, TailraceError) else result.exit_code
        return code, f"{result.output}{error}"


@pytest.fixture
def migration(tmp_path: Path, database_url: str) -> Iterator[Migration]:
    rig = Rig(tmp_path, database_url, *DDL, stream=LocalLog(tmp_path / "tailrace-stream.db"))
    for side in rig.sides.values():
        side.app.run("INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b')")
    rig.settle()
    rig.install_back()
    yield Migration(rig)
    rig.close()


OBJECTS = {"object:auth.noted", "object:cases.noted"}


def test_each_gate_is_read_from_both_sides(migration: Migration) -> None:
    rig = migration.rig
    never = {f"{gate} {name}" for gate in ("verified", "final verify") for name in ("auth", "cases")}
    assert {*never, "backup auth", "backup cases", *OBJECTS} == migration.closed()
    assert "target role" in {name for name, one in migration.gates().items() if one.verdict is Verdict.BLOCK}
    migration.verify()
    migration.backup()
    assert OBJECTS == migration.closed()
    # A trigger of the same name on the target is the counterpart, as long as it is enabled.
    rig.target.run("CREATE FUNCTION public.noted() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
    for name in rig.sides:
        rig.target.run(f"CREATE TRIGGER noted AFTER INSERT ON {name}.t FOR EACH ROW EXECUTE FUNCTION public.noted()")
    assert set() == migration.closed()
    rig.target.run("ALTER TABLE auth.t DISABLE TRIGGER noted")
    assert {"object:auth.noted"} == migration.closed()
    rig.target.run("ALTER TABLE auth.t ENABLE TRIGGER noted")
    side = rig.sides["cases"]
    side.app.run("CREATE VIEW shown AS SELECT id FROM t")
    assert {"object:cases.shown", "schema cases"} == migration.closed()


def test_what_is_stale_busy_or_broken_blocks(migration: Migration) -> None:
    rig = migration.rig
    migration.verify()
    migration.backup()
    rig.target.run("UPDATE tailrace.verdicts SET at_ms = at_ms - 4000000 WHERE source = 'auth' AND \"table\" = 't'")
    assert OBJECTS | {"verified auth"} == migration.closed()
    rig.target.run("UPDATE tailrace.verdicts SET at_ms = at_ms + 4000000, not_compared = 1 WHERE source = 'auth'")
    assert "never" == migration.gates()["verified auth"].value
    migration.verify()
    writer = rig.sqlite(rig.sides["cases"].path)
    writer.run("BEGIN IMMEDIATE")
    assert OBJECTS | {"writers cases"} == migration.closed()
    writer.run("ROLLBACK")
    (newest,) = sorted(migration.config.path(migration.config.backup_folder).glob("auth_*.db"))
    with newest.open("ab") as file:
        file.write(b"x")
    assert "is not what its digest says" in migration.gates()["backup auth"].value
    newest.with_suffix(".sha256").unlink()
    assert "has no digest" in migration.gates()["backup auth"].value
    migration.backup()
    old = time.time() - 100 * 3600
    for path in migration.config.path(migration.config.backup_folder).glob("*.db"):
        os.utime(path, (old, old))
    assert backup_of(migration.config, "cases")[0] == pytest.approx(100 * 3600, abs=60)
    assert OBJECTS | {"backup auth", "backup cases"} == migration.closed()


CASES = [
    "verify",
    "quarantine",
    "column",
    "lag",
    "daemon",
    "reverse",
    "reverse stream",
    "reverse quarantine",
    "heartbeat",
]


@pytest.mark.parametrize("case", CASES)
def test_cutover_refuses_with_reason_and_next_step(migration: Migration, case: str) -> None:
    rig = migration.rig
    migration.verify()
    migration.backup()
    waivers = ["--waive", "target role", "--waive", "object:auth.noted", "--waive", "object:cases.noted"]
    reason, step = _break(migration, case)
    code, said = migration.cutover(*waivers, alive=case != "daemon")
    assert (3, True, True) == (code, reason in said, step in said), said
    assert "source" == rig.row.read().authority
    assert 0 == rig.row.read().token


def _break(migration: Migration, case: str) -> tuple[str, str]:
    rig = migration.rig
    match case:
        case "verify":
            rig.target.run("UPDATE tailrace.verdicts SET at_ms = at_ms - 4000000")
            return "verified auth", "tailrace verify"
        case "quarantine":
            rig.target.run(
                'INSERT INTO tailrace.quarantine(source, "table", key, key_text, reason, seq, waived) '
                "VALUES ('auth', 't', 'x', 'x', 'misfit', 1, 'accepted')"
            )
            return "quarantine auth: 1 rows", "tailrace quarantine list"
        case "column":
            rig.target.run(
                'UPDATE tailrace.tables SET plan = replace(plan::text, \'"codec": "text"\', '
                "'\"codec\": \"loose-text\"')::jsonb WHERE source = 'auth'"
            )
            return "cannot be restored exactly", "tailrace status"
        case "lag":
            rig.target.run("DELETE FROM tailrace.progress WHERE source = 'cases'")
            return "lag cases: unknown", "tailrace lag --watch"
        case "reverse":
            rig.target.run("CREATE FUNCTION public.eat() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'")
            rig.target.run("CREATE TRIGGER eat BEFORE UPDATE ON auth.t FOR EACH ROW EXECUTE FUNCTION public.eat()")
            return "way back: ", "makes the log triggers anew"
        case "daemon":
            # Capture sends a sign of life every few seconds and the sink applies it: these two daemons are the way back.
            return "alive cases: 6", "do capture and sink run?"
        case "reverse stream":
            # Another file: the rig has its own one open, and its -wal would hold what is overwritten here.
            (rig.folder / "broken.db").write_bytes(b"no local log" * 1000)
            text = migration.path.read_text()
            migration.path.write_text(text.replace("[transport]", '[transport]\npath = "broken.db"'))
            return "way back stream: ", "tailrace"
        case "reverse quarantine":
            rig.sides["auth"].app.run("INSERT INTO _tailrace_quarantine VALUES ('t', x'00', '[1]', 'misfit', 1)")
            return "quarantine back auth: 1 rows", "tailrace quarantine list"
    folder = migration.config.path(migration.config.run_folder) / REPORTS_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "web.json"
    path.write_text(json.dumps({"format": 1, "instance": "web", "epoch": 0, "windows": []}))
    os.utime(path, (time.time() - 40, time.time() - 40))
    return "web is silent", "look at this instance"


def test_an_object_is_waived_once_and_everything_else_each_time(migration: Migration) -> None:
    """Waived by name and kept in the journal; a name that is none keeps nothing."""
    migration.verify()
    code, said = migration.cutover("--waive", "object:auth.noted", "--waive", "object:auth.other")
    assert (3, True) == (code, "there is no gate 'object:auth.other'" in said)
    kept = "SELECT detail->'names' FROM tailrace.journal WHERE verb = 'waive'"
    assert [] == migration.rig.target.rows(kept)
    code, said = migration.cutover("--waive", "object:auth.noted", "--waive", "backup")
    assert (3, True, False) == (code, "object:cases.noted" in said, "backup auth: " in said)
    code, said = migration.cutover()
    assert (3, False, True) == (code, "object:auth.noted: trigger" in said, "backup auth: " in said)
    assert [('["object:auth.noted"]',)] == migration.rig.target.rows(kept)


def test_a_virtual_table_blocks_until_it_is_there_or_waived(migration: Migration) -> None:
    """Full-text search of the application would vanish at the switch; its shadow tables are no objects of anybody."""
    rig = migration.rig
    side = rig.sides["cases"]
    side.app.run("CREATE VIRTUAL TABLE found USING fts5(body)")
    rig.settle()
    migration.verify()
    migration.backup()
    assert OBJECTS | {"object:cases.found"} == migration.closed()
    assert "virtual table without a counterpart" in migration.gates()["object:cases.found"].value
    waivers = [f"--waive={name}" for name in ("target role", *OBJECTS)]
    code, said = migration.cutover(*waivers)
    assert (3, True, True) == (code, "object:cases.found" in said, "--waive object:cases.found" in said)
    code, said = migration.cutover("--dry-run", "--waive=target role", "--waive=object:cases.found")
    assert (0, True) == (code, "waived   object:cases.found" in said), said
    rig.target.run("CREATE TABLE cases.found(body text, search tsvector)")
    assert OBJECTS == migration.closed()
