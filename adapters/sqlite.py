"""Do: one connection to one SQLite file, with the driver's errors translated; the only importer of sqlite3 beside the
local log.

Invariant: a read view is open from the first line of its block on, and a write holds the write lock from its first line
on (BEGIN IMMEDIATE), so that no statement of ours ever upgrades a lock in the middle.
Trap: TEXT that is not UTF-8 makes the default text factory raise in the middle of a fetch; the statement is then read
again with a factory that keeps the bytes (test_text_that_is_not_utf8).
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from schemas.errors import Code, Failed, TailraceError, Transient
from schemas.model import BadText, Value
from schemas.names import quote

_BUSY = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_CORRUPT = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})


class SqliteDatabase:
    """Implements ports.Sqlite on the standard library's driver, in autocommit mode with explicit transactions.

    Args:
        path: database file; it must exist unless `create`.
        read_only: open with mode=ro (a WAL file may still be created by SQLite where it must).
        timeout_s: busy time-out of every statement.
    """

    def __init__(
        self, path: str | Path, *, read_only: bool = False, create: bool = False, timeout_s: float = 5.0
    ) -> None:
        self._path = os.path.realpath(path)
        if not create and not Path(self._path).is_file():
            raise Failed(
                Code.SOURCE_MISSING,
                f"{path} is not a file",
                source=str(path),
                hint="correct the path in [source_databases]",
            )
        mode = "ro" if read_only else "rwc" if create else "rw"
        self._uri = Path(self._path).as_uri() + f"?mode={mode}"
        self._timeout_s = timeout_s
        self._attached: list[str] = []
        self._connection = self._connect()

    def _connect(self) -> sqlite3.Connection:
        with self._translated():
            return sqlite3.connect(
                self._uri, uri=True, timeout=self._timeout_s, isolation_level=None, check_same_thread=False
            )

    def reopen(self) -> None:
        """Forget the open files: a connection that outlived a restore reads a `-wal` that is no longer there."""
        self._connection.close()
        self._connection = self._connect()

    @property
    def path(self) -> str:
        return self._path

    @property
    def version(self) -> str:
        return sqlite3.sqlite_version

    def attach(self, path: str | Path, schema: str) -> None:
        """Another file under this name in the same connection: one BEGIN IMMEDIATE then locks both."""
        self.run(f"ATTACH DATABASE ? AS {quote(schema)}", (Path(os.path.realpath(path)).as_uri() + "?mode=rw",))
        self._attached.append(os.path.realpath(path))

    def rows(self, sql: str, params: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        with self._translated():
            try:
                return self._connection.execute(sql, params).fetchall()
            except sqlite3.OperationalError as error:
                if "decode to UTF-8" not in str(error):
                    raise
                self._connection.text_factory = _text
                try:
                    return self._connection.execute(sql, params).fetchall()
                finally:
                    self._connection.text_factory = str

    def batches(
        self, sql: str, params: Sequence[Value] = (), *, batch_rows: int = 1000
    ) -> Generator[list[tuple[Any, ...]], None, None]:
        given = 0
        with self._translated():
            cursor = self._connection.execute(sql, params)
            try:
                while True:
                    try:
                        rows = cursor.fetchmany(batch_rows)
                    except sqlite3.OperationalError as error:
                        if "decode to UTF-8" not in str(error) or self._connection.text_factory is _text:
                            raise
                        # Same view, same order: what was given already is passed over.
                        self._connection.text_factory = _text
                        cursor = self._connection.execute(sql, params)
                        for _ in range(given):
                            cursor.fetchone()
                        continue
                    if not rows:
                        return
                    given += len(rows)
                    yield rows
            finally:
                # A cursor left open would hold the view.
                cursor.close()
                self._connection.text_factory = str

    def run(self, sql: str, params: Sequence[Value] = ()) -> int:
        with self._translated():
            return self._connection.execute(sql, params).rowcount

    def run_many(self, sql: str, params: Sequence[Sequence[Value]]) -> int:
        with self._translated():
            return self._connection.executemany(sql, params).rowcount

    @contextmanager
    def read_view(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN DEFERRED")
            try:
                # BEGIN alone takes no snapshot: the first read does.
                self._connection.execute("SELECT 1 FROM sqlite_master LIMIT 1").fetchall()
                yield
            finally:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")

    @contextmanager
    def write(self) -> Iterator[None]:
        with self._translated():
            self._connection.execute("BEGIN IMMEDIATE")
        try:
            yield
            with self._translated():
                self._connection.execute("COMMIT")
        finally:
            if self._connection.in_transaction:
                self._connection.execute("ROLLBACK")

    def data_version(self) -> int:
        with self._translated():
            return int(self._connection.execute("PRAGMA data_version").fetchone()[0])

    def schema_version(self) -> int:
        with self._translated():
            return int(self._connection.execute("PRAGMA schema_version").fetchone()[0])

    def sync_wal(self) -> None:
        # Never the database itself: closing any descriptor of a file drops all POSIX locks that this process (SQLite
        # included) holds on it. In rollback-journal mode a commit syncs the database by itself; what ends it is that the
        # journal goes, and a power loss that brings the journal back takes the commit back (test_power_loss_cutover.py).
        for path in (self._path, *self._attached):
            if not self._sync(path + "-wal"):
                self._sync(path + "-journal")
                self._sync(str(Path(path).parent))

    def make_commits_durable(self) -> None:
        """From here on a commit of this connection is on the disk when it returns, whatever this library was built with.
        EXTRA: without a WAL it syncs the folder, too, once the journal is gone."""
        for _, schema, _ in self.rows("PRAGMA database_list"):
            self.run(f"PRAGMA {quote(schema)}.synchronous = EXTRA")

    def _sync(self, path: str) -> bool:
        """False: there is no such file."""
        try:
            descriptor = os.open(path, os.O_RDONLY)
        except FileNotFoundError:
            return False
        try:
            getattr(os, "fdatasync", os.fsync)(descriptor)
        except OSError as error:
            raise Failed(Code.SOURCE_IO, f"cannot sync {path}: {error.strerror}", hint="check the disk") from error
        finally:
            os.close(descriptor)
        return True

    def wal_backlog_bytes(self, *, above_bytes: int) -> int | None:
        wal = Path(self._path + "-wal")
        if not wal.exists() or wal.stat().st_size <= above_bytes:
            return 0
        # PASSIVE waits for nobody and makes nobody wait; the file keeps its length, so that its size alone says nothing.
        _, frames, written = self.rows("PRAGMA wal_checkpoint(PASSIVE)")[0]
        if frames < 0:
            return None  # another connection holds the checkpoint lock at this moment: nothing was looked at
        page_bytes: int = self.rows("PRAGMA page_size")[0][0]
        return max(0, int(frames) - int(written)) * page_bytes

    def damage(self, *, deep: bool = False, at_most: int = 3) -> list[str]:
        """What SQLite's own check finds wrong with the file; empty where it is whole.

        quick_check of 3.40 calls values NULL in a WITHOUT ROWID table whose key is out of column order
        (test_a_whole_file_is_not_called_damaged): what it finds, integrity_check must find too.
        """
        for pragma in ("integrity_check",) if deep else ("quick_check", "integrity_check"):
            found = self._checked(pragma, at_most)
            if not found:
                return []
        return found

    def _checked(self, pragma: str, at_most: int) -> list[str]:
        """Where a collation or a function that only the application has stops the check of the file, what can be
        checked without it is checked table by table."""
        try:
            return [str(line) for (line,) in self.rows(f"PRAGMA {pragma}({at_most})") if line != "ok"]
        except Failed as error:
            if error.code is not Code.SOURCE_IO:
                raise
        found: list[str] = []
        for (name,) in self.rows("SELECT name FROM sqlite_master WHERE type = 'table'"):
            try:
                found += [str(line) for (line,) in self.rows(f"PRAGMA {pragma}({quote(name)})") if line != "ok"]
            except Failed as error:
                if error.code is not Code.SOURCE_IO:
                    raise
        return found[:at_most]

    def free_bytes(self) -> int:
        """Free space on the disk that holds the file."""
        return shutil.disk_usage(Path(self._path).parent).free

    def attach_kept(self, path: str | Path, schema: str) -> None:
        """Another file to read beside this one."""
        self.run(f"ATTACH DATABASE ? AS {quote(schema)}", (Path(os.path.realpath(path)).as_uri() + "?mode=ro",))

    def backup(self, destination: str | Path) -> None:
        """Copy the whole database through SQLite's backup API, in one step.

        In several steps every commit of another connection would begin the copy anew: under a steady writer it never
        ends (test_backup_ends_under_a_steady_writer). In WAL mode nobody waits for it; in rollback-journal mode writers
        wait while the file is read.
        """
        with self._translated():
            target = sqlite3.connect(destination)
            try:
                self._connection.backup(target, pages=-1)
            finally:
                target.close()

    def become(self, copy: str | Path, *, wait_s: float) -> None:
        """Every page of this database is replaced by those of another file, in one transaction of this one: whoever has it
        open goes on, and sees the old pages or the new ones. Raises Transient(SOURCE_BUSY) when others held their locks for
        so long; nothing has changed then. Not inside a transaction. The schema version moves on, so that prepared statements
        of others are prepared again.
        """
        deadline_s = time.monotonic() + wait_s

        def waited(status: int, *_: int) -> None:
            # The driver itself would wait for ever.
            if status in _BUSY and time.monotonic() >= deadline_s:
                raise Transient(
                    Code.SOURCE_BUSY, f"{self._path}: others hold its locks", hint="end their long transactions; again"
                )

        with self._translated():
            source = sqlite3.connect(f"{Path(copy).absolute().as_uri()}?mode=ro", uri=True)
            try:
                source.backup(self._connection, pages=-1, progress=waited, sleep=0.02)
            finally:
                source.close()

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise translate(error, self._path) from error


def _text(raw: bytes) -> str | BadText:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BadText(raw)


def translate(error: sqlite3.Error, path: str) -> TailraceError:
    """The driver's error as ours; the primary result code decides, not the text."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    message = f"{path}: {name}: {error}"
    if code in _BUSY:
        return Transient(Code.SOURCE_BUSY, message, hint="another connection holds the lock; it is tried again")
    if code in _CORRUPT:
        return Failed(Code.SOURCE_CORRUPT, message, hint=f"sqlite3 {path} 'PRAGMA integrity_check'")
    if code == sqlite3.SQLITE_FULL:
        return Transient(Code.SOURCE_DISK_FULL, message, hint="free space on this disk; it is tried again")
    if code in (sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
        return Failed(Code.SOURCE_IO, message, hint="check the disk, the path and the permissions")
    return Failed(Code.SOURCE_IO, message, hint="tailrace check")
