"""Do: what the sample application does with its databases, in SQL that both sides understand.

A store is one thread's connections to one side. Where the dialects differ is in the stores; the transactions are written
once. Every transaction writes its own unique name into the audit table (or is a session with that name): so that anybody can
count later whether it is there exactly once.
"""

from __future__ import annotations

import hashlib
import queue
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlsplit, urlunsplit

import psycopg

BUSY_TIMEOUT_S = 30.0
ROLE = "application"
SQL_FILE = Path(__file__).with_name("postgres.sql")


class Store(Protocol):
    """`database`: cases or auth. `locking`: ends a SELECT whose rows must stay as they are; SQLite has one writer anyway."""

    locking: str

    def rows(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]: ...

    def transaction(self, database: str) -> Any:
        """A context manager: commits, or rolls back and lets the error through."""

    def snapshot(self, database: str) -> Any:
        """A context manager: everything that is read inside it is of one moment."""

    def positions(self, database: str) -> dict[str, int] | None:
        """For the router, inside a transaction after its last change."""

    def close(self) -> None: ...


class SqliteStore:
    locking = ""

    def __init__(self, folder: Path) -> None:
        self._open = {name: self._connect(folder / f"{name}.db") for name in ("cases", "auth")}

    def _connect(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def rows(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        return self._open[database].execute(statement, values).fetchall()

    def transaction(self, database: str) -> AbstractContextManager[None]:
        return self._within(database, "BEGIN IMMEDIATE")

    def snapshot(self, database: str) -> AbstractContextManager[None]:
        return self._within(database, "BEGIN")

    @contextmanager
    def _within(self, database: str, begin: str) -> Iterator[None]:
        connection = self._open[database]
        connection.execute(begin)
        try:
            yield
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def positions(self, database: str) -> dict[str, int] | None:
        try:
            return {database: self.rows(database, "SELECT max(seq) FROM _tailrace_log")[0][0] or 0}
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):
                raise
            return None  # the migration has not begun yet

    def close(self) -> None:
        for connection in self._open.values():
            connection.close()


class PostgresStore:
    """Connects at first use, and again after the connection was lost."""

    locking = " FOR UPDATE"

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: psycopg.Connection[tuple[Any, ...]] | None = None

    def _connected(self) -> psycopg.Connection[tuple[Any, ...]]:
        if self._connection is None or self._connection.closed:
            options = "-c search_path=cases,auth -c timezone=UTC"
            self._connection = psycopg.connect(self._url, autocommit=True, options=options, connect_timeout=10)
        return self._connection

    def rows(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:  # noqa: ARG002
        cursor = self._connected().execute(statement.replace("?", "%s").encode(), values)
        return cursor.fetchall() if cursor.description else []

    @contextmanager
    def transaction(self, database: str) -> Iterator[None]:  # noqa: ARG002
        with self._connected().transaction():
            yield

    @contextmanager
    def snapshot(self, database: str) -> Iterator[None]:
        with self.transaction(database):
            self.rows(database, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield

    def positions(self, database: str) -> dict[str, int] | None:  # noqa: ARG002
        return None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()


class PostgresPool:
    """A few connections for many threads, as application servers have them. A transaction keeps its connection."""

    locking = PostgresStore.locking

    def __init__(self, url: str, *, size: int) -> None:
        self._idle: queue.LifoQueue[PostgresStore] = queue.LifoQueue()
        self._size = size
        self._mine = threading.local()
        for _ in range(size):
            self._idle.put(PostgresStore(url))

    @contextmanager
    def _one(self) -> Iterator[PostgresStore]:
        held: PostgresStore | None = getattr(self._mine, "store", None)
        if held is not None:
            yield held
            return
        store = self._idle.get()
        self._mine.store = store
        try:
            yield store
        finally:
            self._mine.store = None
            self._idle.put(store)

    def rows(self, database: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._one() as store:
            return store.rows(database, statement, *values)

    @contextmanager
    def transaction(self, database: str) -> Iterator[None]:
        with self._one() as store, store.transaction(database):
            yield

    @contextmanager
    def snapshot(self, database: str) -> Iterator[None]:
        with self._one() as store, store.snapshot(database):
            yield

    def positions(self, database: str) -> dict[str, int] | None:  # noqa: ARG002
        return None

    def close(self) -> None:
        """Waits for those that are in use."""
        for _ in range(self._size):
            self._idle.get().close()


def install_triggers(connection: psycopg.Connection[Any], sink_role: str) -> None:
    """postgres.sql, as psql would run it."""
    literal = "'" + sink_role.replace("'", "''") + "'"
    connection.execute(SQL_FILE.read_text(encoding="utf-8").replace(":'sink_role'", literal).encode())


def login_url(url: str, password: str) -> str:
    """The server of `url` as the application sees it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{ROLE}:{quote(password)}@{parts.netloc.rpartition('@')[2]}"))


def prepare_postgres(url: str, password: str) -> None:
    """A login of the application's own, as the guard wants it, and its triggers. `url`: the sink's; its tables are there."""
    with psycopg.connect(url, autocommit=True) as admin:
        found = admin.execute("SELECT session_user, quote_literal(%s)", (password,)).fetchone()
        if found is None:
            raise RuntimeError("a SELECT without FROM gave no row")
        sink_role, literal = found
        admin.execute(f"DO $$ BEGIN CREATE ROLE {ROLE} LOGIN; EXCEPTION WHEN duplicate_object THEN END $$".encode())
        admin.execute(f"ALTER ROLE {ROLE} LOGIN PASSWORD {literal}".encode())
        admin.execute(f"GRANT USAGE ON SCHEMA auth, cases TO {ROLE}".encode())
        admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA auth, cases TO {ROLE}".encode())
        install_triggers(admin, str(sink_role))


def rebuild_search(folder: Path) -> None:
    """After writes came back to SQLite: the rows came, but the triggers that keep the full-text index did not fire."""
    connection = sqlite3.connect(folder / "cases.db", timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.execute("INSERT INTO case_search(case_search) VALUES ('rebuild')")
    finally:
        connection.close()


# Transactions. Each gives the positions that the router wants to know.


def add_case(store: Store, name: str, title: str) -> dict[str, int] | None:
    with store.transaction("cases"):
        statement = "INSERT INTO cases(reference, title) VALUES (?, ?) RETURNING id"
        case = store.rows("cases", statement, name, title)[0][0]
        store.rows(
            "cases", "INSERT INTO parties(case_id, role, name) VALUES (?, 'claimant', ?)", case, f"Party {title}"
        )
        return _named(store, name, case)


def change_case(store: Store, name: str, chance: float) -> dict[str, int] | None:
    with store.transaction("cases"):
        case = _some_case(store, chance)
        status = ("open", "stayed", "closed")[int(chance * 3)]
        store.rows("cases", "UPDATE cases SET status = ?, urgent = NOT urgent WHERE id = ?", status, case)
        return _named(store, name, case)


def remove_case(store: Store, name: str, chance: float) -> dict[str, int] | None:
    with store.transaction("cases"):
        case = _some_case(store, chance)
        store.rows("cases", "DELETE FROM cases WHERE id = ?", case)
        return _named(store, name, case)


def replace_document(store: Store, name: str, chance: float, body: bytes) -> dict[str, int] | None:
    """The case's exhibit of this number is another document from now on."""
    with store.transaction("cases"):
        case, title = _some_case(store, chance), f"Exhibit {int(chance * 1000) % 3}"
        store.rows("cases", "DELETE FROM documents WHERE case_id = ? AND title = ?", case, title)
        store.rows(
            "cases",
            "INSERT INTO documents(id, case_id, title, sha256, body) VALUES (?, ?, ?, ?, ?)",
            name,
            case,
            title,
            hashlib.sha256(body).hexdigest(),
            body,
        )
        return _named(store, name, case)


def move_money(store: Store, name: str, accounts: Sequence[int], amount: int) -> dict[str, int] | None:
    """From the lower account to the higher one or back: always locked in one order."""
    low, high = sorted(accounts)
    with store.transaction("cases"):
        store.rows("cases", "UPDATE ledger SET balance = balance - ? WHERE account = ?", amount, low)
        store.rows("cases", "UPDATE ledger SET balance = balance + ? WHERE account = ?", amount, high)
        return _named(store, name, None)


def log_in(store: Store, name: str, user: int) -> dict[str, int] | None:
    """A session whose token is `name`."""
    with store.transaction("auth"):
        store.rows(
            "auth", "INSERT INTO sessions(token, user_id, expires_at) VALUES (?, ?, ?)", name, user, 1_900_000_000
        )
        store.rows("auth", "UPDATE users SET last_login = ? WHERE id = ?", time.time(), user)
        return store.positions("auth")


def logged_in(store: Store, token: str) -> bool:
    return bool(store.rows("auth", "SELECT 1 FROM sessions WHERE token = ?", token))


def times_done(store: Store, name: str) -> int:
    """How often this transaction is there."""
    return int(store.rows("cases", "SELECT count(*) FROM audit WHERE what = ?", name)[0][0])


def money(store: Store) -> int:
    """The same at every moment, whatever moves."""
    return int(store.rows("cases", "SELECT sum(balance) FROM ledger")[0][0])


def _named(store: Store, name: str, case: int | None) -> dict[str, int] | None:
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
    store.rows("cases", "INSERT INTO audit(at, what, case_id) VALUES (?, ?, ?)", at, name, case)
    return store.positions("cases")


def _some_case(store: Store, chance: float) -> int:
    """Nobody else changes or removes it until this transaction ends."""
    while True:
        low, high = store.rows("cases", "SELECT min(id), max(id) FROM cases")[0]
        wanted = low + int(chance * (high - low))
        statement = f"SELECT id FROM cases WHERE id >= ? ORDER BY id LIMIT 1{store.locking}"
        # None: on PostgreSQL it was removed while its lock was waited for.
        if found := store.rows("cases", statement, wanted):
            return int(found[0][0])
