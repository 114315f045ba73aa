"""Do: one connection to PostgreSQL, with the driver's errors translated; the only importer of psycopg.

Invariant: a connection lost during COMMIT is `Unknown`, never `Transient`: whether the transaction is there must be read
from the target before anything is tried again (test_lost_commit_reply).
Session time-outs are set explicitly, so that neither a forgotten lock nor a dead peer holds a step for ever.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from psycopg import errors, sql
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_dumps, set_json_loads

from adapters.postgres_connect import connect_error, connection_parameters
from schemas.errors import Code, Failed, IndexRowTooLarge, OutOfRange, Refusal, TailraceError, Transient, Unknown
from schemas.transit import plain_postgres, refuse_plaintext

STATEMENT_TIMEOUT_MS = 10 * 60 * 1000
LOCK_TIMEOUT_MS = 10_000
IDLE_TIMEOUT_MS = 5 * 60 * 1000

_UNREACHABLE = (errors.AdminShutdown, errors.CrashShutdown, errors.CannotConnectNow, errors.ConnectionException)
_BUSY = (
    errors.LockNotAvailable,
    errors.DeadlockDetected,
    errors.SerializationFailure,
    errors.QueryCanceled,
    errors.TooManyConnections,
    errors.OutOfMemory,
)


def _text(value: str) -> str:
    return value


class Postgres:
    """One session. Connects at first use, and again after the connection was lost.

    Args:
        url: connection URL, or what gives it: asked at every connect, so that a rotated password is found, and not kept.
        role: SET ROLE after connecting, so that what is created belongs to it.
        session_timeout_s: both ends give the session up when the network was silent for so long; its locks go with it.
        allow_plaintext: rows and passwords may go unencrypted to another machine.
    """

    def __init__(
        self,
        url: str | Callable[[], str],
        *,
        application_name: str,
        role: str | None = None,
        session_timeout_s: float | None = None,
        allow_plaintext: bool = False,
    ) -> None:
        self._url = url if callable(url) else lambda: url
        self._application_name = application_name
        self._role = role
        self._session_timeout_s = session_timeout_s
        self._allow_plaintext = allow_plaintext
        self._connection: psycopg.Connection[Any] | None = None

    def connected(self) -> psycopg.Connection[Any]:
        connection = self._connection
        if connection is None or connection.closed or connection.broken:
            connection = self._connection = self._connect()
        return connection

    def _connect(self) -> psycopg.Connection[Any]:
        parameters = connection_parameters(self._url())
        if not self._allow_plaintext:
            refuse_plaintext("PostgreSQL at", plain_postgres(parameters), hint="add sslmode=verify-full to the URL")
        try:
            ours = {"application_name": self._application_name, "connect_timeout": 10, **self._patience()}
            connection = psycopg.connect(make_conninfo(**{**parameters, **ours}), autocommit=True)
        except psycopg.Error as error:
            raise connect_error(error, parameters) from error
        with self._translated():
            # jsonb and json travel as text: their one codec is in schemas/typemap.py.
            set_json_dumps(_text, connection)
            set_json_loads(lambda raw: raw.decode() if isinstance(raw, bytes) else raw, connection)
            for name, value in (
                ("statement_timeout", STATEMENT_TIMEOUT_MS),
                ("lock_timeout", LOCK_TIMEOUT_MS),
                ("idle_in_transaction_session_timeout", IDLE_TIMEOUT_MS),
            ):
                connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
            self._lease(connection)
            connection.execute("SET client_min_messages = warning")
            connection.execute("SET timezone = 'UTC'")
            if self._role:
                connection.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(self._role)))
            return connection

    def _patience(self) -> dict[str, Any]:
        """Ours with the server: libpq's settings."""
        if self._session_timeout_s is None:
            return {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
        third = max(1, int(self._session_timeout_s / 3))
        return {
            "keepalives_idle": third,
            "keepalives_interval": third,
            "keepalives_count": 2,
            "tcp_user_timeout": int(self._session_timeout_s * 1000),
        }

    def _lease(self, connection: psycopg.Connection[Any]) -> None:
        """The server's with us: else it would keep the locks of a host that is cut off for two hours."""
        if self._session_timeout_s is None:
            return
        third = max(1, int(self._session_timeout_s / 3))
        settings = {
            "tcp_keepalives_idle": third,
            "tcp_keepalives_interval": third,
            "tcp_keepalives_count": 2,
            "tcp_user_timeout": int(self._session_timeout_s * 1000),
        }
        for name, value in settings.items():
            connection.execute(sql.SQL("SET {} = {}").format(sql.Identifier(name), sql.Literal(value)))
        if connection.info.server_version >= 140_000:
            # Else a statement goes on to its end after the client was killed, and the locks with it. Servers on other
            # systems than Linux refuse the setting.
            with contextlib.suppress(errors.InvalidParameterValue):
                connection.execute("SET client_connection_check_interval = 1000")

    def rows(
        self, statement: str, params: Sequence[Any] = (), *, binary: bool = True, prepare: bool | None = None
    ) -> list[tuple[Any, ...]]:
        """All rows. `prepare` False: for reads of tables whose columns may be widened meanwhile, since PostgreSQL
        refuses a prepared SELECT whose result types moved."""
        with self._translated():
            cursor = self.connected().execute(statement, params or None, prepare=prepare, binary=binary)
            return cursor.fetchall() if cursor.description else []

    def run(self, statement: str, params: Sequence[Any] = ()) -> int:
        """Run one statement; returns its row count."""
        with self._translated():
            return self.connected().execute(statement, params or None).rowcount

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """One transaction, or a savepoint inside one."""
        with self._translated():
            connection = self.connected()
            outermost = connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
            block = connection.transaction()
            block.__enter__()
        try:
            yield
        except BaseException as error:
            with contextlib.suppress(psycopg.Error):
                block.__exit__(type(error), error, error.__traceback__)
            raise
        try:
            with self._translated():
                block.__exit__(None, None, None)
        except Transient as error:
            if outermost and error.code is Code.TARGET_UNREACHABLE:
                raise Unknown(
                    error.code,
                    "the connection was lost during COMMIT: whether it took effect is not known yet",
                    hint="the progress on the target is read before anything else is written",
                ) from error
            raise

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """REPEATABLE READ, READ ONLY: every statement of the block sees one state."""
        with self._translated():
            self.connected().execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        try:
            yield
        finally:
            with contextlib.suppress(psycopg.Error):
                self.connected().execute("ROLLBACK")

    def copy_in(self, statement: str, types: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """Binary COPY. `statement`: `COPY .. FROM STDIN (FORMAT BINARY)`. Returns the number of rows."""
        with self._translated(), self.connected().cursor() as cursor:
            with cursor.copy(statement) as copy:
                copy.set_types(list(types))
                write = copy.write_row
                for row in rows:
                    write(row)
            return cursor.rowcount

    def try_advisory_lock(self, key: int) -> bool:
        """Held by this session until it ends."""
        return bool(self.rows("SELECT pg_try_advisory_lock(%s)", (key,))[0][0])

    def free_advisory_locks(self) -> None:
        """Now, and not when the server notices that this session ended."""
        if self._connection is not None:
            with contextlib.suppress(psycopg.Error):  # a session that is gone holds none
                self._connection.execute("SELECT pg_advisory_unlock_all()")

    def release_advisory_lock(self, key: int) -> None:
        """However often this session took it."""
        held = "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid() AND objsubid = 1 AND "
        while self.rows(f"{held}((classid::bigint << 32) | objid::bigint) = %s", (key,)):
            self.rows("SELECT pg_advisory_unlock(%s)", (key,))

    @property
    def backend_pid(self) -> int | None:
        """Of the session there is now; None without one. Asks nobody."""
        connection = self._connection
        if connection is None or connection.closed or connection.broken:
            return None
        return connection.info.backend_pid

    def refuse_pooler(self) -> None:
        """The advisory lock and the session's settings need a connection of our own: PgBouncer is refused.

        In transaction pooling two statements may run on two servers, so two of them disagree about the backend.
        """
        pids = {self.rows("SELECT pg_backend_pid()")[0][0] for _ in range(3)}
        with self._translated():
            told = self.connected().info.backend_pid
        if pids != {told}:
            raise Refusal(
                Code.POOLER_REFUSED,
                "the target is reached through a connection pooler",
                hint="point target_database_url at PostgreSQL itself",
            )

    @property
    def server_version(self) -> int:
        return self.connected().info.server_version

    def session_user(self) -> str:
        return str(self.rows("SELECT session_user::text")[0][0])

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except psycopg.Error as error:
            if isinstance(error, errors.ReadOnlySqlTransaction) and self._connection is not None:
                # The next attempt asks all hosts again: this one may have become a standby, or the list led to one.
                self._connection.close()
            raise translate(error) from error


def translate(error: psycopg.Error) -> TailraceError:
    """The driver's error as ours, by SQLSTATE. The message never carries row values: only the server's primary text."""
    diagnosis = error.diag
    table = diagnosis.table_name
    text = diagnosis.message_primary or type(error).__name__
    lost = isinstance(error, psycopg.OperationalError) and (error.sqlstate or "08").startswith("08")
    if isinstance(error, _UNREACHABLE) or lost:
        return Transient(
            Code.TARGET_UNREACHABLE,
            f"PostgreSQL cannot be reached: {_first_line(error)}",
            hint="it is tried again; check that the server runs and target_database_url is right",
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return Transient(
            Code.TARGET_UNREACHABLE,
            "PostgreSQL takes no writes: this server is a standby, or default_transaction_read_only is on",
            hint="it is tried again; with several hosts target_database_url ends in ?target_session_attrs=read-write",
        )
    if isinstance(error, _BUSY):
        return Transient(Code.TARGET_BUSY, f"PostgreSQL is busy: {text}", table=table, hint="it is tried again")
    if isinstance(error, errors.DiskFull):
        return Transient(
            Code.TARGET_DISK_FULL, f"the target's disk is full: {text}", hint="free space there; it is tried again"
        )
    if isinstance(error, psycopg.IntegrityError):
        return Failed(
            Code.TARGET_CONFLICT,
            f"{text.split(' DETAIL')[0]} [{diagnosis.constraint_name}]",
            table=table,
            hint="tailrace verify",
        )
    if isinstance(
        error, errors.InsufficientPrivilege | errors.InvalidPassword | errors.InvalidAuthorizationSpecification
    ):
        return Failed(
            Code.TARGET_PERMISSION, text, table=table, hint="tailrace plan --grants prints what the roles need"
        )
    if isinstance(error, errors.ProgramLimitExceeded) and (index := _INDEX.search(text)):
        return IndexRowTooLarge(f"{text} [{error.sqlstate}]", index=index[1] or "", table=table)
    if isinstance(error, errors.NumericValueOutOfRange):
        return OutOfRange(Code.TARGET_REFUSED, f"{text} [{error.sqlstate}]", table=table, hint="tailrace check")
    hint = "exclude_tables leaves it behind" if isinstance(error, errors.TooManyColumns) else "tailrace check"
    return Failed(Code.TARGET_REFUSED, f"{text} [{error.sqlstate}]", table=table, hint=hint)


_INDEX = re.compile(r'index row (?:.*index "(.+)"$|requires )')
"""Above a third of a page PostgreSQL tells the index, in the text alone; above 8191 bytes not even that. Another language
of messages leaves it untold, and the row goes to quarantine."""


def _first_line(error: psycopg.Error) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
