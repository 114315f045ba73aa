"""Do: one connection to one SQLite file on which no trigger fires, for the way back: in a process of its own.

Invariant: this process never loads a second SQLite library. Locks belong to a process, not to a library: what one copy of
SQLite unlocks or closes, the other one loses, and a file that both have open is damaged sooner or later (SQLite:
howtocorrupt.html section 2.2.1; a database was reported malformed within minutes under capture's own connection). The
standard library's driver of 3.11 cannot switch triggers off, so apsw must; it lives in adapters/sqlite_worker.py.
The application's own triggers have fired on the other side already, its cascades too, and the fence does not bind this
connection. The process is started at the first statement and ends with this one; what it had open is rolled back.
Case: test_no_process_loads_two_copies_of_sqlite.
"""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from schemas.errors import Code, Failed, TailraceError, Transient
from schemas.model import Value

STOP_S = 5.0


class QuietSqlite:
    """ports.SqliteStatements; and `run_all`, one question for many statements. Not thread-safe."""

    def __init__(self, path: str | Path, *, timeout_s: float = 5.0) -> None:
        self._path = os.path.realpath(path)
        self._timeout_ms = int(timeout_s * 1000)
        self._process: subprocess.Popen[bytes] | None = None
        self._depth = 0

    @property
    def path(self) -> str:
        return self._path

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        return list(self._ask("rows", sql, tuple(params)))

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        """Returns the number of rows changed."""
        return int(self._ask("run", sql, tuple(params)))

    def schema_version(self) -> int:
        return int(self.rows("PRAGMA schema_version")[0][0])

    def run_all(self, statements: Sequence[tuple[str, Sequence[Value]]]) -> None:
        """In order; the first that fails raises, and what came before it stays in the caller's transaction."""
        if statements:
            self._ask("run_all", "", [(sql, tuple(params)) for sql, params in statements])

    @contextmanager
    def write(self) -> Iterator[None]:
        """One BEGIN IMMEDIATE transaction, or a savepoint inside one."""
        begin, end, back = (
            ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")
            if self._depth
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        self._ask("run", begin, ())
        self._depth += 1
        try:
            yield
            self._ask("run", end, ())
        except BaseException:
            # A full disk may have rolled everything back already, and a worker that died has.
            if self._process is not None and self._ask("in_transaction", "", ()):
                self._ask("run", back, ())
            raise
        finally:
            self._depth -= 1

    def close(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for pipe in (process.stdin, process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, verb: str, sql: str, params: Any) -> Any:
        process = self._process or self._start()
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            pickle.dump((verb, sql, params), process.stdin)
            process.stdin.flush()
            kind, answer = pickle.load(process.stdout)
        except (EOFError, BrokenPipeError, pickle.UnpicklingError) as error:
            self.close()
            raise Transient(
                Code.SOURCE_BUSY,
                f"{self._path}: the process that writes what came back has ended; its transaction was rolled back",
                hint="it is started again",
            ) from error
        if kind != "ok":
            raise translate(kind, f"{self._path}: {answer}", self._path)
        return answer

    def _start(self) -> subprocess.Popen[bytes]:
        """Signals of the terminal go to its parent, which ends it."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "adapters.sqlite_worker", self._path, str(self._timeout_ms)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=_deaf,
        )
        return self._process


def _deaf() -> None:
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


def translate(kind: str, message: str, path: str) -> TailraceError:
    """The worker's word for an error as ours."""
    match kind:
        case "busy":
            return Transient(Code.SOURCE_BUSY, message, hint="another connection holds the lock; it is tried again")
        case "corrupt":
            return Failed(Code.SOURCE_CORRUPT, message, hint=f"sqlite3 {path} 'PRAGMA integrity_check'")
        case "full":
            return Transient(Code.SOURCE_DISK_FULL, message, hint="free space on this disk; it is tried again")
        case "constraint":
            return Failed(Code.SOURCE_CONFLICT, message, hint="tailrace verify")
        case _:
            return Failed(Code.SOURCE_IO, message, hint="check the disk, the path and the permissions")
