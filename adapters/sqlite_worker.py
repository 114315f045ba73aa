"""Do: the process that holds one apsw connection on which no trigger fires; adapters/sqlite_apsw.py asks it.

Invariant: SQLITE_DBCONFIG_ENABLE_TRIGGER is off, foreign keys are off and commits are durable from the first statement on.
The process ends with its parent: at the end of its input whatever is open is rolled back. One question, one answer, in
order, pickled.
"""

from __future__ import annotations

import contextlib
import pickle
import sys
from typing import Any, BinaryIO

import apsw


def _serve(path: str, timeout_ms: int, questions: BinaryIO, answers: BinaryIO) -> None:
    connection: apsw.Connection | None = None
    while True:
        try:
            verb, sql, params = pickle.load(questions)
        except EOFError:
            return
        try:
            if connection is None:
                connection = _opened(path, timeout_ms)
            answer: tuple[str, Any] = ("ok", _done(connection, verb, sql, params))
        except apsw.Error as error:
            answer = (_kind(error), f"{type(error).__name__}: {error}")
        pickle.dump(answer, answers)
        answers.flush()


def _opened(path: str, timeout_ms: int) -> apsw.Connection:
    made = apsw.Connection(path, flags=apsw.SQLITE_OPEN_READWRITE)
    made.set_busy_timeout(timeout_ms)
    made.config(apsw.SQLITE_DBCONFIG_ENABLE_TRIGGER, 0)
    made.config(apsw.SQLITE_DBCONFIG_ENABLE_FKEY, 0)
    # What came back is counted as arrived, and writes go on at the source: a power loss must not take it away again.
    made.execute("PRAGMA synchronous = EXTRA")
    return made


def _done(connection: apsw.Connection, verb: str, sql: str, params: Any) -> Any:
    match verb:
        case "rows":
            return list(connection.execute(sql, params))
        case "run":
            before = connection.total_changes()
            connection.execute(sql, params)
            return connection.total_changes() - before
        case "run_all":
            for statement, values in params:
                connection.execute(statement, values)
            return None
        case "in_transaction":
            return connection.in_transaction
        case _:
            raise ValueError(verb)


def _kind(error: apsw.Error) -> str:
    match error:
        case apsw.BusyError() | apsw.LockedError():
            return "busy"
        case apsw.CorruptError() | apsw.NotADBError():
            return "corrupt"
        case apsw.FullError():
            return "full"
        case apsw.ConstraintError():
            return "constraint"
        case _:
            return "other"


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError, KeyboardInterrupt):
        _serve(sys.argv[1], int(sys.argv[2]), sys.stdin.buffer, sys.stdout.buffer)
