"""Do: the last state of every key of a cut that is too large for memory, in a temporary SQLite file.

Invariant: of two records of one key the one with the higher seq stays, whatever order they come in; the file has no name
that outlives the process, and nothing in it is needed after a crash (the cut is read again).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

_ADD = (
    "INSERT INTO last VALUES (?, ?, ?, ?, ?) ON CONFLICT (tab, identity) DO UPDATE SET seq = excluded.seq, "
    "key = excluded.key, value = excluded.value WHERE excluded.seq >= last.seq"
)


class Spill:
    """Rows are (table, identity of the key, seq, framed key, framed value or None)."""

    def __init__(self) -> None:
        # An empty name is SQLite's own temporary database: deleted when closed, spilled to disk beyond the cache.
        self._db = sqlite3.connect("", isolation_level=None)
        self._db.execute("PRAGMA journal_mode=OFF")
        self._db.execute("PRAGMA synchronous=OFF")
        self._db.execute(
            "CREATE TABLE last(tab TEXT, identity TEXT, seq INTEGER, key BLOB, value BLOB, PRIMARY KEY(tab, identity)) "
            "WITHOUT ROWID"
        )

    def add(self, rows: Iterable[tuple[str, str, int, bytes, bytes | None]]) -> None:
        self._db.execute("BEGIN")
        self._db.executemany(_ADD, rows)
        self._db.execute("COMMIT")

    def tables(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT DISTINCT tab FROM last ORDER BY tab")]

    def keys(self, table: str, *, tombstones_only: bool, slice_rows: int) -> Iterator[list[bytes]]:
        """Framed keys in slices, in key order."""
        only = " AND value IS NULL" if tombstones_only else ""
        for part in self._slices(table, only, slice_rows):
            yield [key for _, key, _ in part]

    def upserts(self, table: str, *, slice_rows: int) -> Iterator[list[tuple[bytes, bytes]]]:
        """(framed key, framed value) in slices, in key order."""
        for part in self._slices(table, " AND value IS NOT NULL", slice_rows):
            yield [(key, value) for _, key, value in part]

    def _slices(self, table: str, only: str, slice_rows: int) -> Iterator[list[tuple[str, bytes, bytes]]]:
        after = ""
        sql = f"SELECT identity, key, value FROM last WHERE tab = ? AND identity > ?{only} ORDER BY identity LIMIT ?"
        while part := self._db.execute(sql, (table, after, slice_rows)).fetchall():
            yield part
            after = part[-1][0]

    def close(self) -> None:
        self._db.close()
