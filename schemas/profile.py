"""Decide: what one scan of a table says of the values in each column: storage classes and the forms that matter.

Invariant: the profile is complete (every row is looked at); a codec that relies on it may still meet a later value that
does not fit, and widens then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from schemas.codecs_dates import form_of, python_form
from schemas.model import ROWID_COLUMN, Column, KeyKind, Table
from schemas.names import quote
from schemas.ports import Sqlite


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts of storage classes; `awkward_text`: TEXT with a NUL or bytes that are not UTF-8; `max_bytes`: longest TEXT
    or BLOB; `small_ints`: all integers are 0 or 1; `infinite`: a real is; `form`: the codec whose form all texts have, of
    a column declared as a date or as JSON ("" otherwise)."""

    ints: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    nulls: int = 0
    awkward_text: int = 0
    max_bytes: int = 0
    small_ints: bool = False
    infinite: bool = False
    form: str = ""

    @property
    def classes(self) -> frozenset[str]:
        named = {"int": self.ints, "real": self.reals, "text": self.texts, "blob": self.blobs}
        return frozenset(name for name, count in named.items() if count)


@dataclass(frozen=True, slots=True)
class TableProfile:
    rows: int
    columns: Mapping[str, ColumnProfile]


_PER_COLUMN = 8


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
            f"min(CASE typeof({c}) WHEN 'integer' THEN {c} COLLATE BINARY IN (0, 1) ELSE 1 END)",
            f"max(CASE typeof({c}) WHEN 'real' THEN {c} COLLATE BINARY IN (9e999, -9e999) ELSE 0 END)",
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
            ints, reals, texts, blobs, awkward, longest, small, infinite = figures
            columns[column.name] = ColumnProfile(
                ints,
                reals,
                texts,
                blobs,
                rows - ints - reals - texts - blobs,
                awkward,
                longest,
                bool(small) and ints > 0,
                bool(infinite),
            )
    for column in table.columns:
        one = columns[column.name]
        if one.classes == {"text"} and not one.awkward_text:
            columns[column.name] = replace(one, form=_form(db, table, column, one.texts))
    if table.key.kind is KeyKind.ROWID:
        columns[ROWID_COLUMN] = ColumnProfile(ints=rows)
    return TableProfile(rows, columns)


def _group_sql(table: Table, *, part_start: int) -> str:
    return profile_sql(replace(table, columns=table.columns[part_start : part_start + 200]))


def _form(db: Sqlite, table: Table, column: Column, texts: int) -> str:
    """The form of a column that is all text. The first value proposes it, one count decides.

    A text that SQLite counts and the codec refuses (the year 0) widens the column later; none is changed.
    """
    declared, name, c = column.declared.upper(), quote(table.name), quote(column.name)
    if "JSON" in declared:
        return "json" if _count(db, f"SELECT count(*) FROM {name} WHERE json_valid({c})") == texts else ""
    if not declared.startswith(("DATE", "TIMESTAMP")):
        return ""
    first = db.rows(f"SELECT {c} FROM {name} WHERE {c} IS NOT NULL LIMIT 1")
    form = form_of(first[0][0]) if first and type(first[0][0]) is str else None
    if form is None:
        return ""
    for candidate in _candidates(form):
        if _count(db, f"SELECT count(*) FROM {name} WHERE {_matches(candidate, c)}") == texts:
            return candidate
    return ""


def _candidates(form: str) -> tuple[str, ...]:
    """Six digits throughout and never zero: `T` is how Python writes it, which leaves zeros out one day."""
    if not form.startswith("timestamp:") or form[11] not in "06":
        return (form,)
    loose = python_form(form)
    return (loose, form) if form[10:12] == "T6" else (form, loose)


def _matches(form: str, c: str) -> str:
    """SQLite condition: `c` has the form, and its day exists (strftime answers another one else)."""
    day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    # Without a modifier SQLite gives '2024-02-30' back as it came.
    exists = f"strftime('%Y-%m-%d', {c}, '+0 days') = substr({c}, 1, 10)"
    if form == "date":
        return f"{c} GLOB '{day}' AND {exists}"
    middle, precision, zone = " " if form[10] == "_" else "T", form[11], form[12:]
    minutes = f"{day}{middle}[0-9][0-9]:[0-9][0-9]"
    seconds = f"{minutes}:[0-9][0-9]"
    globs = {
        "m": [minutes],
        "0": [seconds],
        "3": [f"{seconds}.{'[0-9]' * 3}"],
        "6": [f"{seconds}.{'[0-9]' * 6}"],
        "u": [seconds, f"{seconds}.{'[0-9]' * 6}"],
    }[precision]
    shape = " OR ".join(f"{c} GLOB '{glob}{zone}'" for glob in globs)
    zero = f" AND {c} NOT GLOB '*.000000{zone}'" if precision == "u" else ""
    return f"({shape}){zero} AND {exists}"


def _count(db: Sqlite, sql: str) -> int:
    return int(db.rows(sql)[0][0])
