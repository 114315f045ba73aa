"""Decide: what one scan of a table says of the values in each column: storage classes and the forms that matter.

Invariant: the profile is complete (every row is looked at); a codec that relies on it may still meet a later value that
does not fit, and widens then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from schemas.model import ROWID_COLUMN, KeyKind, Table
from schemas.names import quote
from schemas.ports import Sqlite


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts of storage classes; `awkward_text`: TEXT with a NUL or bytes that are not UTF-8; `max_bytes`: longest TEXT
    or BLOB; `small_ints`: all integers are 0 or 1."""

    ints: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    nulls: int = 0
    awkward_text: int = 0
    max_bytes: int = 0
    small_ints: bool = False

    @property
    def classes(self) -> frozenset[str]:
        named = {"int": self.ints, "real": self.reals, "text": self.texts, "blob": self.blobs}
        return frozenset(name for name, count in named.items() if count)


@dataclass(frozen=True, slots=True)
class TableProfile:
    rows: int
    columns: Mapping[str, ColumnProfile]


_PER_COLUMN = 7


def profile_sql(table: Table) -> str:
    """One SELECT that scans the table once. NUL is found by comparing length() with the byte length of the prefix
    before it: instr(x, char(0)) works on both."""
    parts = ["count(*)"]
    for column in table.columns:
        c = quote(column.name)
        parts += [
            f"sum(typeof({c}) = 'integer')",
            f"sum(typeof({c}) = 'real')",
            f"sum(typeof({c}) = 'text')",
            f"sum(typeof({c}) = 'blob')",
            f"sum(CASE typeof({c}) WHEN 'text' THEN instr({c}, char(0)) > 0 ELSE 0 END)",
            f"max(CASE WHEN typeof({c}) IN ('text', 'blob') THEN length(CAST({c} AS BLOB)) ELSE 0 END)",
            f"min(CASE typeof({c}) WHEN 'integer' THEN {c} IN (0, 1) ELSE 1 END)",
        ]
    return f"SELECT {', '.join(parts)} FROM {quote(table.name)}"


def profile_table(db: Sqlite, table: Table) -> TableProfile:
    """Scan one table in the caller's view. Columns are asked for in groups, since SQLite allows 2000 result columns."""
    rows = 0
    columns: dict[str, ColumnProfile] = {}
    for start in range(0, len(table.columns), 200):
        part = table.columns[start : start + 200]
        answer = db.rows(_group_sql(table, part_start=start))[0]
        rows = int(answer[0])
        for at, column in enumerate(part):
            figures = [int(value or 0) for value in answer[1 + at * _PER_COLUMN : 1 + (at + 1) * _PER_COLUMN]]
            ints, reals, texts, blobs, awkward, longest, small = figures
            columns[column.name] = ColumnProfile(
                ints,
                reals,
                texts,
                blobs,
                rows - ints - reals - texts - blobs,
                awkward,
                longest,
                bool(small) and ints > 0,
            )
    if table.key.kind is KeyKind.ROWID:
        columns[ROWID_COLUMN] = ColumnProfile(ints=rows)
    return TableProfile(rows, columns)


def _group_sql(table: Table, *, part_start: int) -> str:
    return profile_sql(replace(table, columns=table.columns[part_start : part_start + 200]))
