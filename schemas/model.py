"""Decide: the shape of one SQLite database, as plain frozen values; nothing here opens a connection.

Invariant: a `Table` says everything that triggers, plan, copy and verify need to know of a source table.
The key of a table is decided once (schemas/introspect.py) and every other module reads `Table.key`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

Value = int | float | str | bytes | None
"""What SQLite stores: INTEGER, REAL, TEXT, BLOB, NULL. Never bool, never Decimal."""

Key = tuple[Value, ...]
Row = tuple[Value, ...]

ROWID_COLUMN = "_tailrace_rowid"
"""Target name of the rowid in tables that no declared key identifies."""

OWN_PREFIX = "_tailrace_"
LOG = f"{OWN_PREFIX}log"
"""The change log of a source."""
META = f"{OWN_PREFIX}meta"
"""What a source says of itself: identity, tables, fence."""


class BadText(bytes):
    """A TEXT value whose bytes are not UTF-8, or that cannot be read as str: class TEXT, these bytes. A plain `bytes`
    is a BLOB; the two are never equal here, as they are not in SQLite."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BadText) and bytes(self) == bytes(other)

    def __hash__(self) -> int:
        return hash(("text", bytes(self)))

    def __repr__(self) -> str:
        return f"BadText({bytes(self)!r})"


class Affinity(StrEnum):
    """SQLite: datatype3.html section 3.1, the five column affinities."""

    INTEGER = "INTEGER"
    REAL = "REAL"
    NUMERIC = "NUMERIC"
    TEXT = "TEXT"
    BLOB = "BLOB"


class KeyKind(StrEnum):
    """How a row is identified.

    ROWID_ALIAS: an INTEGER PRIMARY KEY; DECLARED: any other declared key that identifies rows;
    ROWID: the bare rowid, carried to the target as `_tailrace_rowid`; WHOLE_ROW: nothing else is nameable.
    """

    ROWID_ALIAS = "rowid-alias"
    DECLARED = "declared"
    ROWID = "rowid"
    WHOLE_ROW = "whole-row"


@dataclass(frozen=True, slots=True)
class Column:
    """One column of `PRAGMA table_xinfo`. `hidden`: 0 ordinary, 2 virtual generated, 3 stored generated."""

    name: str
    declared: str
    affinity: Affinity
    not_null: bool = False
    default: str | None = None
    """SQL text of the DEFAULT, as SQLite keeps it."""
    pk_position: int = 0
    """1-based position in the declared primary key, 0 if none."""
    hidden: int = 0
    collation: str = "BINARY"
    generated: str | None = None
    """SQL text of the expression of a generated column."""

    @property
    def is_generated(self) -> bool:
        return self.hidden in (2, 3)


@dataclass(frozen=True, slots=True)
class IndexTerm:
    """One term of an index: a column (`column` set) or an expression (`expression` set)."""

    column: str | None
    expression: str | None = None
    collation: str = "BINARY"
    descending: bool = False


@dataclass(frozen=True, slots=True)
class Index:
    """One index. `origin`: c = CREATE INDEX, u = UNIQUE constraint, pk = PRIMARY KEY. `where`: partial predicate."""

    name: str
    unique: bool
    origin: str
    terms: tuple[IndexTerm, ...]
    where: str | None = None
    sql: str | None = None


@dataclass(frozen=True, slots=True)
class ForeignKey:
    """One foreign key; `parent_columns` is empty where SQLite leaves the parent's primary key implied."""

    columns: tuple[str, ...]
    parent: str
    parent_columns: tuple[str, ...]
    on_update: str = "NO ACTION"
    on_delete: str = "NO ACTION"
    deferred: bool = False


@dataclass(frozen=True, slots=True)
class TableKey:
    """What identifies a row. `columns` are source column names; empty for ROWID (then `rowid_name` is used).

    `rowid_name` is a name under which the rowid can be read (rowid, oid or _rowid_), None if the table has none.
    """

    kind: KeyKind
    columns: tuple[str, ...]
    rowid_name: str | None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Table:
    """One ordinary source table."""

    name: str
    columns: tuple[Column, ...]
    key: TableKey
    indexes: tuple[Index, ...] = ()
    foreign_keys: tuple[ForeignKey, ...] = ()
    checks: tuple[str, ...] = ()
    without_rowid: bool = False
    strict: bool = False
    autoincrement: bool = False
    sql: str = ""

    def column(self, name: str) -> Column:
        for column in self.columns:
            if column.name == name:
                return column
        raise KeyError(f"table {self.name!r} has no column {name!r}")

    @property
    def row_columns(self) -> tuple[str, ...]:
        """Names of a row in the stream, in order: `_tailrace_rowid` first where the rowid is the key."""
        own = tuple(column.name for column in self.columns)
        return (ROWID_COLUMN, *own) if self.key.kind is KeyKind.ROWID else own

    @property
    def key_columns(self) -> tuple[str, ...]:
        """Names of the key within `row_columns`, in key order."""
        if self.key.kind is KeyKind.ROWID:
            return (ROWID_COLUMN,)
        if self.key.kind is KeyKind.WHOLE_ROW:
            return tuple(column.name for column in self.columns)
        return self.key.columns


@dataclass(frozen=True, slots=True)
class SchemaObject:
    """Anything of `sqlite_schema` that is not an ordinary table: view, trigger, virtual or shadow table."""

    kind: str
    name: str
    table: str
    sql: str | None
    note: str = ""


@dataclass(frozen=True, slots=True)
class Database:
    """One source database as introspection saw it in one read view."""

    tables: Mapping[str, Table]
    objects: tuple[SchemaObject, ...]
    fingerprint: str
    """SHA-256 over sqlite_schema without `_tailrace_*` objects."""
    schema_version: int
    page_size: int = 4096
    encoding: str = "UTF-8"
    journal_mode: str = "wal"
    sequences: Mapping[str, int] = field(default_factory=dict)
    """sqlite_sequence, by table name."""
