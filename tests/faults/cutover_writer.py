"""Do: writers that know both sides and nothing of Tailrace, and a prober that tries both sides without a pause.

A writer's transaction puts a new row in and raises its own counter: a row that took effect twice, or half, shows in the
counter. It tries the side that took its last write, and the other one when that refuses. Each line of `writer-N.log` in
NOTES is written after the COMMIT returned: `a` acknowledged, `u` unknown (the reply was lost).

Run: python -m tests.faults.cutover_writer write|probe FOLDER NUMBER URL NOTES
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any, TextIO

import psycopg

SOURCES = ("auth", "cases")
PAUSE_S = 0.03


class Sides:
    """Connections to all sides, made anew when one is lost."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url = url
        self._files: dict[str, sqlite3.Connection] = {}
        self._server: Any = None

    def sqlite(self, source: str) -> sqlite3.Connection:
        if source not in self._files:
            path = self._folder / f"{source}.db"
            self._files[source] = sqlite3.connect(path, isolation_level=None, timeout=0.5)
        return self._files[source]

    def postgres(self) -> Any:
        if self._server is None or self._server.closed or self._server.broken:
            self._server = psycopg.connect(self._url, autocommit=True, connect_timeout=2)
            self._server.execute("SET statement_timeout = 3000")
        return self._server

    def write(self, source: str, key: str, number: int, *, at_target: bool) -> str:
        """'a', 'u', or why it was refused for certain."""
        return self._to_postgres(source, key, number) if at_target else self._to_sqlite(source, key, number)

    def _to_sqlite(self, source: str, key: str, number: int) -> str:
        connection = self.sqlite(source)
        try:
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO w(id, writer) VALUES (?, ?)", (key, number))
            connection.execute("UPDATE c SET n = n + 1 WHERE id = ?", (number,))
            connection.execute("COMMIT")
        except sqlite3.Error as error:
            with contextlib.suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
            return str(error)
        return "a"

    def _to_postgres(self, source: str, key: str, number: int) -> str:
        asked = False
        try:
            with self.postgres().transaction():
                self._server.execute(f"INSERT INTO {source}.w(id, writer) VALUES (%s, %s)", (key, number))
                self._server.execute(f"UPDATE {source}.c SET n = n + 1 WHERE id = %s", (number,))
                asked = True
        except psycopg.Error as error:
            lost = self._server is None or self._server.closed or self._server.broken
            return "u" if asked and lost else f"{error.sqlstate}: {error}"
        return "a"


def write(folder: Path, number: int, url: str, notes: Path) -> None:
    sides, at_target, serial = Sides(folder, url), False, 0
    with (notes / f"writer-{number}.log").open("w", buffering=1) as log:
        while _wanted(notes):
            serial += 1
            source, key = SOURCES[serial % 2], f"{number}-{serial}"
            while _wanted(notes):
                result = sides.write(source, key, number, at_target=at_target)
                if result in ("a", "u"):
                    log.write(f"{result} {source} {key}\n")
                    break
                if "locked" not in result:
                    at_target = not at_target
                time.sleep(0.004)
            time.sleep(PAUSE_S)


def probe(folder: Path, number: int, url: str, notes: Path) -> None:
    """`probe.log`: when a write of both sides was asked for, when it was accepted, and where."""
    sides = Sides(folder, url)
    with (notes / "probe.log").open("w", buffering=1) as log:
        while _wanted(notes):
            for at_target in (False, True):
                _probe(sides, log, number, at_target=at_target)
            time.sleep(0.01)


def _probe(sides: Sides, log: TextIO, number: int, *, at_target: bool) -> None:
    source = SOURCES[int(time.time() * 1000) % 2]
    begun = time.time()
    with contextlib.suppress(sqlite3.Error, psycopg.Error):
        if at_target:
            sides.postgres().execute(f"UPDATE {source}.c SET n = n + 1 WHERE id = %s", (number,))
        else:
            sides.sqlite(source).execute("UPDATE c SET n = n + 1 WHERE id = ?", (number,))
        log.write(f"{begun:.6f} {time.time():.6f} {'target' if at_target else 'source'}\n")


def _wanted(notes: Path) -> bool:
    """Until the test says stop, or is gone."""
    return not (notes / "stop").exists() and notes.exists() and os.getppid() != 1


if __name__ == "__main__":
    {"write": write, "probe": probe}[sys.argv[1]](Path(sys.argv[2]), int(sys.argv[3]), sys.argv[4], Path(sys.argv[5]))
