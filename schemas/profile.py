"""Decide: what one scan of a table says of the values in each column: storage classes and the forms that matter.

Invariant: the profile is complete (every row is looked at); a codec that relies on it may still meet a later value that
does not fit, and widens then.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from schemas.codecs_dates import form_of, loosened, python_form
from schemas.model import ROWID_COLUMN, Column, KeyKind, Table
from schemas.names import quote
from schemas.ports import Sqlite


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts of storage classes; `awkward_text`: TEXT with a NUL; `small_ints`: all integers are 0 or 1 (asked only of
    what is declared or ordered boolean); `infinite`: a real is; `form`: the codec whose form all texts have, of a column
    declared or ordered as a date or as JSON ("" otherwise)."""

    ints: int = 0
    reals: int = 0
    texts: int = 0
    blobs: int = 0
    nulls: int = 0
    awkward_text: int = 0
    small_ints: bool = False
    infinite: bool = False
    form: str = ""
    max_bytes: int = 0
    """Longest TEXT or BLOB; only of columns that are in an index."""

    @property
    def classes(self) -> frozenset[str]:
        named = {"int": self.ints, "real": self.reals, "text": self.texts, "blob": self.blobs}
        return frozenset(name for name, count in named.items() if count)


@dataclass(frozen=True, slots=True)
class TableProfile:
    rows: int
    columns: Mapping[str, ColumnProfile]


_PER_COLUMN = 7
_GROUP_COLUMNS = 200
"""SQLite allows 2000 result columns, and an expression a depth of 1000."""
_SAMPLE_ROWS = 200
_PIECES = 64
_PIECE_SPAN = 20_000
"""Below this span of rowids a table is read in one piece."""
Said = Callable[[int, int], None]


def profile_table(
    db: Sqlite,
    table: Table,
    *,
    asked: Mapping[str, str] = MappingProxyType({}),
    said: Said = lambda rows, expected: None,  # noqa: ARG005
) -> TableProfile:
    """Scan one table once in the caller's view, in pieces of the rowid where it has one; then once for each form.

    A piece is first tested against what was seen so far, every column in one condition: where all hold, counts of values
    that are not NULL say the rest, and clean data costs little more than its typeof (bench/plan.py). A piece that holds
    anything new is counted class by class.

    Args:
        asked: column -> type that the operator ordered: its form is looked for, whatever the column is declared.
        said: called with the rows read so far and how many there seem to be.
    """
    rows = 0
    columns: dict[str, ColumnProfile] = {}
    edges = _edges(db, table)
    for start in range(0, len(table.columns), _GROUP_COLUMNS):
        part = table.columns[start : start + _GROUP_COLUMNS]
        names = ", ".join(f"{quote(column.name)} COLLATE BINARY AS {quote(column.name)}" for column in part)
        found = _counted(db, part, f"(SELECT {names} FROM {quote(table.name)} LIMIT {_SAMPLE_ROWS})")[1]
        seen = [_seen(one) for one in found]
        total, sums = 0, [ColumnProfile() for _ in part]
        for at, where in enumerate(edges, 1):
            source = f"{quote(table.name)}{where}"
            piece = _as_expected(db, part, seen, asked, source) or _counted(db, part, source)
            total += piece[0]
            sums = [_together(one, other) for one, other in zip(sums, piece[1], strict=True)]
            seen = [old | _seen(one) for old, one in zip(seen, sums, strict=True)]
            said(total, total * len(edges) // at)
        rows = total
        columns.update(zip([column.name for column in part], sums, strict=True))
    for column in table.columns:
        one = columns[column.name]
        if one.classes == {"text"} and not one.awkward_text:
            columns[column.name] = replace(one, form=_form(db, table, column, one.texts, asked.get(column.name, "")))
    _measure(db, table, columns)
    if table.key.kind is KeyKind.ROWID:
        columns[ROWID_COLUMN] = ColumnProfile(ints=rows)
    return TableProfile(rows, columns)


def _measure(db: Sqlite, table: Table, columns: dict[str, ColumnProfile]) -> None:
    """The longest value of each indexed column of text or blobs: an index row of PostgreSQL has a limit."""
    terms = {term.column for index in table.indexes for term in index.terms}
    names = [c.name for c in table.columns if c.name in terms and (columns[c.name].texts or columns[c.name].blobs)]
    if not names:
        return
    parts = ", ".join(f"max(length(CAST({quote(name)} AS BLOB)))" for name in names)
    for name, longest in zip(names, db.rows(f"SELECT {parts} FROM {quote(table.name)}")[0], strict=True):
        columns[name] = replace(columns[name], max_bytes=int(longest or 0))


def _edges(db: Sqlite, table: Table) -> list[str]:
    """WHERE of each piece; together they are the table."""
    name = table.key.rowid_name
    if table.without_rowid or name is None:
        return [""]
    rowid = name if table.key.kind is not KeyKind.ROWID_ALIAS else quote(table.key.columns[0])
    # Two questions: SQLite answers each from an end of the tree, and both at once by a scan.
    low, high = (db.rows(f"SELECT {word}({rowid}) FROM {quote(table.name)}")[0][0] for word in ("min", "max"))
    if low is None or high - low < _PIECE_SPAN:
        return [""]
    step = (high - low) // _PIECES + 1
    return [f" WHERE {rowid} BETWEEN {at} AND {min(at + step - 1, high)}" for at in range(low, high + 1, step)]


def _as_expected(
    db: Sqlite, part: Sequence[Column], seen: Sequence[Collection[str]], asked: Mapping[str, str], source: str
) -> tuple[int, list[ColumnProfile]] | None:
    """The profile of a piece in which every column holds its one class and nothing that matters besides; else None."""
    tests, counted = [], []
    for column, classes in zip(part, seen, strict=True):
        c = quote(column.name)
        kinds = set(classes) - {"null"}
        if not kinds:
            tests.append(f"{c} IS NULL")
            continue
        (kind,) = kinds if len(kinds) == 1 else ("",)
        if kind not in _TYPEOF or _matters(column, asked.get(column.name, "")):
            return None  # a mix, or a column of which more must be known
        plain = f" AND instr({c}, char(0)) = 0" if kind == "text" else ""
        test = f"typeof({c}) = '{_TYPEOF[kind]}'{plain}"
        if "null" in classes:
            counted.append(column.name)
            test = f"({c} IS NULL OR {test})"
        tests.append(test)
    # CASE takes the tests one by one and stops at the first that fails; a plain sum would compute all of them.
    good = f"sum(CASE WHEN {' AND '.join(tests)} THEN 1 ELSE 0 END)"
    counts = "".join(f", count({quote(name)})" for name in counted)
    fine, rows, *present = db.rows(f"SELECT {good}, count(*){counts} FROM {source}")[0]
    if (fine or 0) != rows:
        return None
    there = dict(zip(counted, present, strict=True))
    profiles = []
    for column, classes in zip(part, seen, strict=True):
        kinds = set(classes) - {"null"}
        count = there.get(column.name, rows) if kinds else 0
        ints, reals, texts, blobs = (count if one in kinds else 0 for one in _TYPEOF)
        profiles.append(ColumnProfile(ints, reals, texts, blobs, rows - count))
    return int(rows), profiles


_TYPEOF = {"int": "integer", "real": "real", "text": "text", "blob": "blob"}


def _seen(one: ColumnProfile) -> frozenset[str]:
    return one.classes | ({"null"} if one.nulls else set()) | ({"awkward"} if one.awkward_text else set())


def _matters(column: Column, asked: str) -> bool:
    """Is it asked whether all integers are 0 and 1, or whether a real is infinite?"""
    word = column.declared.upper()
    return "BOOL" in word or asked in ("boolean", "numeric") or word.startswith(("DEC", "NUMERIC"))


def _counted(db: Sqlite, part: Sequence[Column], source: str) -> tuple[int, list[ColumnProfile]]:
    """Class by class. NUL is found by instr(x, char(0)), which length() stops at."""
    parts = ["count(*)"]
    for column in part:
        c = quote(column.name)
        parts += [
            f"sum(typeof({c}) = 'integer')",
            f"sum(typeof({c}) = 'real')",
            f"sum(typeof({c}) = 'text')",
            f"sum(typeof({c}) = 'blob')",
            f"sum(CASE typeof({c}) WHEN 'text' THEN instr({c}, char(0)) > 0 ELSE 0 END)",
            f"min(CASE typeof({c}) WHEN 'integer' THEN {c} COLLATE BINARY IN (0, 1) ELSE 1 END)",
            f"max(CASE typeof({c}) WHEN 'real' THEN {c} COLLATE BINARY IN (9e999, -9e999) ELSE 0 END)",
        ]
    answer = db.rows(f"SELECT {', '.join(parts)} FROM {source}")[0]
    rows = int(answer[0])
    profiles = []
    for at in range(len(part)):
        figures = [int(value or 0) for value in answer[1 + at * _PER_COLUMN : 1 + (at + 1) * _PER_COLUMN]]
        ints, reals, texts, blobs, awkward, small, infinite = figures
        nulls = rows - ints - reals - texts - blobs
        profiles.append(
            ColumnProfile(ints, reals, texts, blobs, nulls, awkward, bool(small) and ints > 0, bool(infinite))
        )
    return rows, profiles


def _together(one: ColumnProfile, other: ColumnProfile) -> ColumnProfile:
    """Two pieces of one column."""
    return ColumnProfile(
        one.ints + other.ints,
        one.reals + other.reals,
        one.texts + other.texts,
        one.blobs + other.blobs,
        one.nulls + other.nulls,
        one.awkward_text + other.awkward_text,
        (one.small_ints or not one.ints) and (other.small_ints or not other.ints) and one.ints + other.ints > 0,
        one.infinite or other.infinite,
    )


def _form(db: Sqlite, table: Table, column: Column, texts: int, asked: str) -> str:
    """The form of a column that is all text. The first value proposes it, one count decides.

    A text that SQLite counts and the codec refuses (the year 0) widens the column later; none is changed.
    """
    declared, name, c = (asked or column.declared).upper(), quote(table.name), quote(column.name)
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
    if not form.startswith("timestamp:"):
        return (form,)
    if form[11] not in "06":
        return (form, loosened(form))
    loose = python_form(form)
    return (loose, form) if form[10:12] == "T6" else (form, loose)


def _matches(form: str, c: str) -> str:
    """SQLite condition: `c` has the form, and its day exists (strftime answers another one else)."""
    day = "[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]"
    # Without a modifier SQLite gives '2024-02-30' back as it came; most days need no calendar at all.
    exists = (
        f"(substr({c}, 9, 2) BETWEEN '01' AND '28' AND substr({c}, 6, 2) BETWEEN '01' AND '12' "
        f"OR strftime('%Y-%m-%d', {c}, '+0 days') = substr({c}, 1, 10))"
    )
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
        "x": [f"{seconds}.{'[0-9]' * 3}", f"{seconds}.{'[0-9]' * 6}"],
        "n": [minutes, seconds, f"{seconds}.{'[0-9]' * 6}"],
    }[precision]
    shape = " OR ".join(f"{c} GLOB '{glob}{zone}'" for glob in globs)
    left_out = {"u": [".000000"], "x": [".[0-9][0-9][0-9]000"], "n": [".000000", ":[0-9][0-9]:00"]}
    zero = "".join(f" AND {c} NOT GLOB '*{one}{zone}'" for one in left_out.get(precision, ()))
    return f"({shape}){zero} AND {exists}"


def _count(db: Sqlite, sql: str) -> int:
    return int(db.rows(sql)[0][0])
