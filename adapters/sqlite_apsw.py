"""Do: one connection to one SQLite file on which no trigger fires, for the way back; the only importer of apsw.

Invariant: SQLITE_DBCONFIG_ENABLE_TRIGGER is off and foreign keys are off from the first statement on: the application's
own triggers have fired on the other side already, its cascades too, and the fence does not bind this connection. The
standard library's driver has no way to say so.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import apsw

from schemas.errors import Code, Failed, TailraceError, Transient
from schemas.model import BadText, Value


class QuietSqlite:
    """Part of ports.Sqlite: rows, run, write. Not thread-safe."""

    def __init__(self, path: str | Path, *, timeout_s: float = 5.0) -> None:
        self._path = os.path.realpath(path)
        with self._translated():
            self._connection = apsw.Connection(self._path, flags=apsw.SQLITE_OPEN_READWRITE)
            self._connection.set_busy_timeout(int(timeout_s * 1000))
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
            self._connection.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)

    @property
    def path(self) -> str:
        return self._path

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            return list(self._connection.execute(sql, tuple(params)))

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        """Returns the number of rows changed."""
        with self._translated():
            before = self._connection.total_changes()
            self._connection.execute(sql, tuple(params))
            return self._connection.total_changes() - before

    def run_many(self, sql: str, params: Sequence[Sequence[Value]]) -> None:
        with self._translated():
            self._connection.executemany(sql, [tuple(one) for one in params])

    @contextmanager
    def write(self) -> Iterator[None]:
        """One BEGIN IMMEDIATE transaction, or a savepoint inside one."""
        inner = self._connection.in_transaction
        begin, end, back = (
            ("SAVEPOINT part", "RELEASE part", "ROLLBACK TO part; RELEASE part")
            if inner
            else ("BEGIN IMMEDIATE", "COMMIT", "ROLLBACK")
        )
        with self._translated():
            self._connection.execute(begin)
        try:
            yield
            with self._translated():
                self._connection.execute(end)
        except BaseException:
            # A full disk or an I/O error may have rolled everything back already.
            if self._connection.in_transaction:
                with self._translated():
                    self._connection.execute(back)
            raise

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except apsw.Error as error:
            raise translate(error, self._path) from error


def translate(error: apsw.Error, path: str) -> TailraceError:
    """The driver's error as ours; its class says the primary result code."""
    message = f"{path}: {type(error).__name__}: {error}"
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return Transient(Code.SOURCE_BUSY, message, hint="another connection holds the lock; it is tried again")
        case apsw.CorruptError() | apsw.NotADBError():
            return Failed(Code.SOURCE_CORRUPT, message, hint=f"sqlite3 {path} 'PRAGMA integrity_check'")
        case apsw.FullError():
            return Transient(Code.SOURCE_DISK_FULL, message, hint="free space on this disk; it is tried again")
        case apsw.ConstraintError():
            return Failed(Code.SOURCE_CONFLICT, message, hint="tailrace verify")
        case _:
            return Failed(Code.SOURCE_IO, message, hint="check the disk, the path and the permissions")


__all__ = ["BadText", "QuietSqlite", "translate"]
