"""Do: read one SQLite database as a source: entries and current rows in one view, and ordered ranges for the copy.

Invariant: entries, rows, head and schema version of one view belong to one read transaction.
Rows are read by SQLite's own equality and given under the key they really have, so that asking for the integer 1 finds a
row whose untyped key is now 1.0: PostgreSQL compares jsonb numbers by value, and a lone tombstone would delete that row
(test_key_that_became_its_equal).
"""

from __future__ import annotations

import json
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager

from capture.limits import ENTRY_BYTES
from capture.meta import as_logged, exists
from capture.meta import read as read_meta
from capture.sqlite_triggers import key_expressions
from schemas.change import Entry, Position
from schemas.introspect import introspect
from schemas.model import LOG, META, BadText, Database, Key, KeyKind, Row, Table, Value
from schemas.names import quote
from schemas.ports import Sqlite

_PARAMETERS = 900
"""Bound parameters of one statement: below the 999 of SQLite before 3.32."""


def row_expressions(table: Table, prefix: str = "") -> list[str]:
    own = [f"{prefix}{quote(column.name)}" for column in table.columns]
    return [f"{prefix}{table.key.rowid_name}", *own] if table.key.kind is KeyKind.ROWID else own


def key_places(table: Table) -> tuple[int, ...]:
    """Indexes of the key columns within a row."""
    names = table.row_columns
    return tuple(names.index(name) for name in table.key_columns)


SAMPLED_ENTRIES = 100
MAX_SEQ = 2**63 - 1


class SqliteView:
    """Implements ports.SourceView; valid inside the block that made it."""

    def __init__(self, db: Sqlite) -> None:
        self._db = db

    def head(self) -> int:
        found = self._db.rows(f"SELECT max(seq) FROM {LOG}")[0][0]
        return int(found) if found is not None else self.pruned_to()

    def pruned_to(self) -> int:
        return int(self._db.rows(f"SELECT value FROM {META} WHERE key = 'pruned_to'")[0][0])

    def log_bytes(self) -> int:
        """Bytes of the log, from the number of entries and the length of the newest keys."""
        newest = self._db.rows(f"SELECT * FROM {LOG} ORDER BY seq DESC LIMIT {SAMPLED_ENTRIES}")
        long = sum(len(value) for row in newest for value in row[4:] if isinstance(value, str | bytes))
        return (self.head() - self.pruned_to()) * (ENTRY_BYTES + long // max(1, len(newest)))

    def mark(self) -> tuple[int, int]:
        generation = self._db.rows(f"SELECT value FROM {META} WHERE key = 'plan_generation'")[0][0]
        return self._db.schema_version(), int(generation)

    def cutoff(self) -> int | None:
        """Head of the log when the source was fenced; None while writes belong here."""
        found = self._db.rows(f"SELECT value FROM {META} WHERE key = 'fence' AND value <> ''")
        return int(json.loads(found[0][0])["head"]) if found else None

    def entries(self, after: Position, *, limit_rows: int, upto: int = MAX_SEQ) -> Sequence[Entry]:
        found = self._db.rows(
            f"SELECT * FROM {LOG} WHERE seq > ? AND seq <= ? ORDER BY seq LIMIT ?", (after.seq, upto, limit_rows)
        )
        return [Entry(row[0], row[1], row[2], row[3], row[4:]) for row in found]

    def entry(self, seq: int) -> Entry | None:
        found = self._db.rows(f"SELECT * FROM {LOG} WHERE seq = ?", (seq,))
        return Entry(found[0][0], found[0][1], found[0][2], found[0][3], found[0][4:]) if found else None

    def unbroken(self, after: int) -> bool:
        """Is every entry above this seq still there?"""
        count, head = self._db.rows(f"SELECT count(*), max(seq) FROM {LOG} WHERE seq > ?", (after,))[0]
        return int(count) == (head or after) - after

    def holds_null_key(self, table: Table) -> bool:
        """Does any row now have a NULL in a column of its declared key?"""
        test = " OR ".join(f"{quote(name)} IS NULL" for name in table.key.columns)
        return bool(self._db.rows(f"SELECT 1 FROM {quote(table.name)} WHERE {test} LIMIT 1"))

    def rows(self, table: Table, keys: Sequence[Key]) -> Mapping[Key, Row]:
        width = len(table.key_columns)
        step = max(1, _PARAMETERS // width)
        places = key_places(table)
        found: dict[Key, Row] = {}
        for start in range(0, len(keys), step):
            part = keys[start : start + step]
            for row in self._db.rows(rows_sql(table, part), [value for key in part for value in key]):
                found[tuple([row[at] for at in places])] = row
        return found


def rows_sql(table: Table, keys: Sequence[Key]) -> str:
    """SELECT of the rows of these keys; uses the key's index (test_rows_are_found_by_the_index)."""
    columns = ", ".join(row_expressions(table, "t."))
    if table.key.kind in (KeyKind.ROWID, KeyKind.ROWID_ALIAS):
        marks = ", ".join("?" * len(keys))
        return f"SELECT {columns} FROM {quote(table.name)} AS t WHERE t.{_rowid(table)} IN ({marks})"
    names = [f"k{at}" for at in range(len(table.key_columns))]
    if any(BadText in map(type, key) for key in keys):
        tuples = ", ".join(f"({', '.join(map(bound, key))})" for key in keys)
    else:
        tuples = ", ".join([f"({', '.join('?' * len(names))})"] * len(keys))
    equal = " AND ".join(f"{own} = k.{name}" for own, name in zip(key_expressions(table, "t."), names, strict=True))
    return (
        f"WITH _tailrace_keys({', '.join(names)}) AS (VALUES {tuples}) "
        f"SELECT {columns} FROM _tailrace_keys AS k CROSS JOIN {quote(table.name)} AS t ON {equal}"
    )


def bound(value: Value) -> str:
    """The parameter of one key value. The driver binds the bytes of a TEXT that is not UTF-8 as a BLOB, which no TEXT
    equals and every TEXT sorts below: its row would be taken for deleted and the copy would end at it."""
    return "CAST(? AS TEXT)" if type(value) is BadText else "?"


def _rowid(table: Table) -> str:
    return table.key.rowid_name if table.key.kind is KeyKind.ROWID else quote(table.key.columns[0])  # type: ignore[return-value]


class SqliteSource:
    """Implements ports.Source and ports.SourceReader on one connection."""

    def __init__(self, db: Sqlite, name: str) -> None:
        self._db = db
        self._name = name
        self._seen: int | None = None

    @property
    def name(self) -> str:
        return self._name

    @property
    def db(self) -> Sqlite:
        return self._db

    def reopen(self) -> None:
        self._db.reopen()
        self._seen = None

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def view(self) -> Iterator[SqliteView]:
        with self._db.read_view():
            yield SqliteView(self._db)

    def make_durable(self) -> None:
        self._db.sync_wal()

    def backlog_bytes(self, *, above_bytes: int) -> int | None:
        return self._db.wal_backlog_bytes(above_bytes=above_bytes)

    def changed(self) -> bool:
        version = self._db.data_version()
        moved = version != self._seen
        self._seen = version
        return moved

    def database(self) -> Database:
        with self._db.read_view():
            found = introspect(self._db)
            return as_logged(read_meta(self._db), found) if exists(self._db) else found

    def range(self, table: Table, after: Key | None, *, limit_rows: int, upto: Key | None = None) -> Sequence[Row]:
        """In the caller's view if one is open, else each call sees its own."""
        return self._db.rows(*self._range_sql(table, after, limit_rows=limit_rows, upto=upto))

    def batches(self, table: Table, after: Key | None, *, limit_rows: int) -> Generator[list[Row], None, None]:
        return self._db.batches(*self._range_sql(table, after, limit_rows=limit_rows, upto=None))

    def _range_sql(
        self, table: Table, after: Key | None, *, limit_rows: int, upto: Key | None
    ) -> tuple[str, list[Value]]:
        keys = [_rowid(table)] if table.key.kind is KeyKind.ROWID_ALIAS else key_expressions(table)
        conditions: list[str] = []
        params: list[Value] = []
        for edge, sign in ((after, ">"), (upto, "<=")):
            if edge is not None:
                marks = ", ".join(map(bound, edge))
                left = keys[0] if len(keys) == 1 else f"({', '.join(keys)})"
                conditions.append(f"{left} {sign} {marks if len(keys) == 1 else f'({marks})'}")
                params += list(edge)
        where = f" WHERE {' AND '.join(conditions)}" if conditions else ""
        sql = (
            f"SELECT {', '.join(row_expressions(table))} FROM {quote(table.name)}{where} "
            f"ORDER BY {', '.join(keys)} LIMIT {int(limit_rows)}"
        )
        return sql, params

    def key_of(self, table: Table, row: Row) -> Key:
        return tuple(row[at] for at in key_places(table))

    def count(self, table: Table) -> int:
        return int(self._db.rows(f"SELECT count(*) FROM {quote(table.name)}")[0][0])
