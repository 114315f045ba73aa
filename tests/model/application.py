"""Do: the application of the model as a process of its own, on the newest SQLite: it knows nothing of us, and its library
is not the one that captures."""

from __future__ import annotations

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

import apsw


class ApplicationError(Exception):
    """SQLite refused a statement of the application."""


class Answer:
    """Rows of one statement."""

    def __init__(self, rows: list[tuple[Any, ...]]) -> None:
        self._rows = rows

    def fetchall(self) -> list[tuple[Any, ...]]:
        return self._rows

    def fetchone(self) -> tuple[Any, ...] | None:
        return self._rows[0] if self._rows else None

    def __iter__(self) -> Any:
        return iter(self._rows)


class RemoteConnection:
    """One connection inside the application's process; as much of sqlite3.Connection as the model needs."""

    def __init__(self, process: ApplicationProcess, number: int) -> None:
        self._process, self._number = process, number

    def execute(self, sql: str) -> Answer:
        return Answer(self._process.ask("execute", self._number, sql))

    @property
    def in_transaction(self) -> bool:
        return bool(self._process.ask("in_transaction", self._number))

    def close(self) -> None:
        self._process.ask("close", self._number)


class ApplicationProcess:
    """Holds connections to any number of files."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=serve, args=(theirs,), daemon=True)
        self._process.start()
        theirs.close()
        self._count = 0

    def open(self, path: str) -> RemoteConnection:
        self._count += 1
        self.ask("open", self._count, path)
        return RemoteConnection(self, self._count)

    def ask(self, *request: Any) -> Any:
        self._pipe.send(request)
        answer, error = self._pipe.recv()
        if error is not None:
            raise ApplicationError(error)
        return answer

    def close(self) -> None:
        self._pipe.send(("end", 0))
        self._process.join(timeout=10)
        self._pipe.close()


def serve(pipe: Connection) -> None:
    """Answer requests until told to end."""
    connections: dict[int, apsw.Connection] = {}
    while True:
        verb, number, *rest = pipe.recv()
        if verb == "end":
            return
        try:
            answer: Any = None
            if verb == "open":
                connections[number] = apsw.Connection(rest[0])
                connections[number].set_busy_timeout(5000)
            elif verb == "execute":
                answer = connections[number].execute(rest[0]).fetchall()
            elif verb == "in_transaction":
                answer = connections[number].in_transaction
            else:
                connections.pop(number).close()
            pipe.send((answer, None))
        except apsw.Error as error:
            pipe.send((None, f"{type(error).__name__}: {error}"))
