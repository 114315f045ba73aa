"""Do: SQLite 3.8.7 as it is inside a JDBC driver of 2014, since the triggers run in the application's own library."""

from __future__ import annotations

import base64
import contextlib
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
JAR = ROOT / ".cache" / "sqlite-jdbc-3.8.7.jar"
RUNNER = Path(__file__).resolve().parent / "tools" / "SqliteRunner.java"


READS = ("SELECT", "PRAGMA JOURNAL_MODE", "PRAGMA INTEGRITY_CHECK")
ANSWERS = ("ok", "error ", "end", "yes", "no", "n", "i:", "r:", "b:", "t:")


class OldSqliteError(Exception):
    """SQLite refused a statement."""


class OldSqliteCrashed(Exception):
    """The library took its process down, which this one does now and then."""


class OldRows:
    """What one statement gave."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows


@cache
def compiled() -> tempfile.TemporaryDirectory[str]:
    """The folder of the runner's class. Once a process: a start from source compiles it each time."""
    folder = tempfile.TemporaryDirectory(prefix="tailrace-runner-")
    command = ["java", "-m", "jdk.compiler/com.sun.tools.javac.Main", "-cp", str(JAR), "-d", folder.name, str(RUNNER)]
    subprocess.run(command, check=True, capture_output=True)
    return folder


class OldSqlite:
    """One Java process; as much of a connection as the models need."""

    def __init__(self) -> None:
        self._process = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        quiet = ["-XX:-CreateCoredumpOnCrash", "-XX:ErrorFile=/dev/null", "-XX:TieredStopAtLevel=1"]
        command = ["java", *quiet, "-cp", f"{compiled().name}:{JAR}", RUNNER.stem]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def restart(self) -> None:
        """A fresh process: what a crash or a spoiled heap left behind is gone."""
        self.close()
        self._process = self._started()

    def open(self, path: str = "") -> None:
        """A database file; empty: a fresh one in memory. Closes what was open before."""
        assert "ok" == self._ask("open", f"jdbc:sqlite:{path}")

    def execute(self, sql: str) -> OldRows:
        if not sql.lstrip().upper().startswith(READS):
            self._ask("run", sql)
            return OldRows([])
        rows = []
        line = self._ask("rows", sql)
        while line != "end":
            rows.append(tuple(_value(part) for part in line.split(" ")))
            line = self._line()
        return OldRows(rows)

    @property
    def in_transaction(self) -> bool:
        return "yes" == self._ask("open-transaction")

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.close()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, verb: str, argument: str | None = None) -> str:
        assert self._process.stdin is not None
        text = "" if argument is None else " " + base64.b64encode(argument.encode()).decode()
        try:
            self._process.stdin.write(f"{verb}{text}\n".encode())
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise OldSqliteCrashed("the Java process ended") from error
        line = self._line()
        if line.startswith("error "):
            raise OldSqliteError(base64.b64decode(line[6:]).decode())
        return line

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode().rstrip("\n")
        if not line.startswith(ANSWERS):  # nothing any more, or what a dying Java writes about itself
            raise OldSqliteCrashed(line or "the Java process ended")
        return line


def _value(text: str) -> Any:
    kind, _, rest = text.partition(":")
    match kind:
        case "n":
            return None
        case "i":
            return int(rest)
        case "r":
            return struct.unpack("<d", struct.pack("<q", int(rest)))[0]
        case "b":
            return base64.b64decode(rest)
        case _:
            return base64.b64decode(rest).decode()


@pytest.fixture(scope="session")
def old_sqlite() -> Iterator[OldSqlite]:
    """Skips by name without Java or the driver."""
    if shutil.which("java") is None or not JAR.exists():
        pytest.skip(f"SQLite 3.8.7: no java, or {JAR.name} is not in .cache (tests/tools/services.sh fetches it)")
    made = OldSqlite()
    try:
        made.open()
        yield made
    finally:
        made.close()
