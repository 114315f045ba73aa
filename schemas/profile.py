"""Decide: what one scan of a table says of the values in each column: storage classes and the forms that matter.

Invariant: the profile is complete (every row is looked at); a codec that relies on it may still meet a later value that
does not fit, and widens then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

from schemas.forms import is_formed, matches, proposed, surely
from schemas.model import ROWID_COLUMN, Affinity, Column, KeyKind, Table
from schemas.names import quote
from schemas.ports import Sqlite


@dataclass(frozen=True, slots=True)
class ColumnProfile:
    """Counts of storage classes; `awkward_text`: TEXT with a NUL; `small_ints`: all integers are 0 or 1, asked of what is
    declared or ordered boolean or an amount; `infinite`: a real is, asked of these and of INTEGER and NUMERIC affinity;
    `form`: the codec whose form all texts have, of a column declared or ordered as a date or as JSON ("" otherwise)."""

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


_GROUP_COLUMNS = 200
"""SQLite allows 2000 result columns, and an expression a depth of 1000."""
_SAMPLE_ROWS = 200
_PIECES = 64
_PIECE_SPAN = 20_000
"""Below this span of rowids a table is read in one piece."""
_LONG_BYTES = 40
"""Mean length from which printf(), which finds a NUL by strlen, is cheaper than instr(), which walks characters."""
Said = Callable[[int, int], None]


def profile_table(
    db: Sqlite,
    table: Table,
    *,
    asked: Mapping[str, str] = MappingProxyType({}),
    said: Said = lambda rows, expected: None,  # noqa: ARG005
) -> TableProfile:
    """Scan one table once in the caller's view, in pieces of the rowid where it has one.

    In a piece every column whose values were of one kind so far is tested for that kind, all in one condition: where it
    holds, counts of values that are not NULL say the rest, and clean data costs little more than its typeof
    (bench/plan.py). Columns of a mix are counted class by class beside it. Where the condition fails, so are the others.

    Args:
        asked: column -> type that the operator ordered: its form is looked for, whatever the column is declared.
        said: called with the rows read so far and how many there seem to be.
    """
    rows = 0
    columns: dict[str, ColumnProfile] = {}
    edges = _edges(db, table)
    indexed = {term.column for index in table.indexes for term in index.terms}
    for start in range(0, len(table.columns), _GROUP_COLUMNS):
        group = table.columns[start : start + _GROUP_COLUMNS]
        part = [_Watched(one, asked.get(one.name, ""), table, indexed=one.name in indexed) for one in group]
        _sample(db, table, part)
        total = 0
        for at, where in enumerate(edges, 1):
            for one in part:
                one.propose(db, table)
            total += _piece(db, part, f"{quote(table.name)}{where}")
            said(total, total * len(edges) // at)
        rows = total
        for one in part:
            one.propose(db, table)  # its first text may lie in the last piece
            columns[one.column.name] = replace(one.total, form=_form(db, table, one))
    if table.key.kind is KeyKind.ROWID:
        columns[ROWID_COLUMN] = ColumnProfile(ints=rows)
    return TableProfile(rows, columns)


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


_TYPEOF = {"int": "integer", "real": "real", "text": "text", "blob": "blob"}
_MARKS = frozenset({"null", "large", "infinite", "formless"})
"""Kinds of value beside the classes. `awkward` is none of these: text with and without a NUL is a mix."""


class _Watched:
    """One column in the course of the scan. `seen`: the classes and marks of all values so far."""

    def __init__(self, column: Column, asked: str, table: Table, *, indexed: bool) -> None:
        word = column.declared.upper()
        amount = asked == "numeric" or word.startswith(("DEC", "NUMERIC"))
        self.column = column
        self.c = quote(column.name)
        self.asked = asked
        self.indexed = indexed
        self.total = ColumnProfile()
        self.seen: frozenset[str] = frozenset()
        self.long = False
        self.formed = 0
        """Texts that were found to have the first of `forms`."""
        self.forms: tuple[str, ...] = ()
        self._is_rowid = table.key.kind is KeyKind.ROWID_ALIAS and column.name in table.key.columns
        self._formless = not is_formed(column, asked)
        self._asks_small = amount or "BOOL" in word or asked == "boolean"
        self._asks_finite = amount or asked == "boolean" or column.affinity in (Affinity.INTEGER, Affinity.NUMERIC)

    @property
    def kinds(self) -> frozenset[str]:
        return self.seen - _MARKS

    def propose(self, db: Sqlite, table: Table) -> None:
        if self.kinds == {"text"} and not self._formless:
            self._formless = True  # asked once
            self.forms = proposed(db, table, self.column, self.asked)

    @property
    def form(self) -> str:
        return self.forms[0] if self.forms and "formless" not in self.seen and self.kinds == {"text"} else ""

    @property
    def test(self) -> str | None:
        """Condition of a value like those seen so far; None for a mix."""
        if not self.kinds:
            return f"{self.c} IS NULL"
        if len(self.kinds) > 1 or "awkward" in self.kinds:
            return None
        if self._is_rowid:
            return "1"  # an integer whatever was written
        (kind,) = self.kinds
        test = self._plain(kind)
        return f"({self.c} IS NULL OR {test})" if "null" in self.seen else f"({test})"

    def _plain(self, kind: str) -> str:
        c = self.c
        test = f"typeof({c}) = '{_TYPEOF[kind]}'"
        if kind == "int" and self._asks_small and "large" not in self.seen:
            return f"{test} AND {c} COLLATE BINARY IN (0, 1)"
        if kind == "real" and self._asks_finite and "infinite" not in self.seen:
            return f"{test} AND {c} COLLATE BINARY NOT IN (9e999, -9e999)"
        if kind != "text":
            return test
        sure = surely(self.form, c) if self.form else None
        if sure is not None:
            return sure
        # What printf() wrote is text and ends at a NUL: only a text without one is equal to it, byte for byte.
        test = f"printf('%s', {c}) COLLATE BINARY = +{c}" if self.long else f"{test} AND instr({c}, char(0)) = 0"
        return f"{test} AND {matches(self.form, c)}" if self.form else test

    def counts(self) -> list[str]:
        """What is asked beside the condition."""
        parts = [f"count({self.c})"] if self.kinds and "null" in self.seen else []
        return parts + self._longest(self.c) if self.kinds & {"text", "blob"} else parts

    def _longest(self, value: str) -> list[str]:
        return [f"max(length(CAST({value} AS BLOB)))"] if self.indexed else []

    def expected(self, rows: int, answer: Iterator[Any]) -> None:
        """Take a piece in which the condition held. `answer`: of `counts`."""
        count = (next(answer) if "null" in self.seen else rows) if self.kinds else 0
        ints, reals, texts, blobs = (count if kind in self.kinds else 0 for kind in _TYPEOF)
        longest = int(next(answer) or 0) if self.indexed and self.kinds & {"text", "blob"} else 0
        small = bool(ints) and self._asks_small and "large" not in self.seen
        self.formed += texts if self.form else 0
        self._add(ColumnProfile(ints, reals, texts, blobs, rows - count, small_ints=small, max_bytes=longest))

    def figures(self) -> list[str]:
        """Class by class. NUL is found by instr(x, char(0)), which length() stops at."""
        c = self.c
        text = f"CASE typeof({c}) WHEN 'text' THEN"
        return [
            *(f"sum(typeof({c}) = '{word}')" for word in _TYPEOF.values()),
            f"sum({text} instr({c}, char(0)) > 0 ELSE 0 END)",
            *(
                [f"min(CASE typeof({c}) WHEN 'integer' THEN {c} COLLATE BINARY IN (0, 1) ELSE 1 END)"]
                * self._asks_small
            ),
            *([f"sum(CASE typeof({c}) WHEN 'real' THEN abs({c}) = 9e999 ELSE 0 END)"] * self._asks_finite),
            *([f"sum({text} {matches(self.form, c)} ELSE 0 END)"] if self.form else []),
            *self._longest(f"CASE WHEN typeof({c}) IN ('text', 'blob') THEN {c} END"),
        ]

    def count(self, rows: int, answer: Iterator[Any]) -> None:
        """Take a piece that was counted. `answer`: of `figures`."""
        ints, reals, texts, blobs, awkward = (int(next(answer) or 0) for _ in range(5))
        small = self._asks_small and bool(next(answer)) and ints > 0
        infinite = self._asks_finite and bool(next(answer))
        formed = int(next(answer) or 0) if self.form else texts
        longest = int(next(answer) or 0) if self.indexed else 0
        nulls = rows - ints - reals - texts - blobs
        if self.form:
            self.formed += formed
        marks = {"formless"} if formed != texts else set()
        is_small = bool(small) and ints > 0
        self._add(
            ColumnProfile(ints, reals, texts, blobs, nulls, awkward, is_small, bool(infinite), "", longest), marks
        )

    def look(self, rows: int, answer: Iterator[Any]) -> None:
        """Take a sample: what was seen, nothing that is counted."""
        self.count(rows, answer)
        self.total, self.formed = ColumnProfile(), 0

    def _add(self, one: ColumnProfile, marks: frozenset[str] | set[str] = frozenset()) -> None:
        flags = {
            "null": one.nulls,
            "awkward": one.awkward_text,
            "large": one.ints and not one.small_ints,
            "infinite": one.infinite,
        }
        self.seen |= one.classes | {name for name, there in flags.items() if there} | marks
        # A real that is infinite is tested for until there is one.
        self.total = replace(_together(self.total, one), infinite="infinite" in self.seen)


def _sample(db: Sqlite, table: Table, part: Sequence[_Watched]) -> None:
    """The first rows: what to test for, and how long texts are."""
    names = ", ".join(f"{one.c} COLLATE BINARY AS {one.c}" for one in part)
    source = f"(SELECT {names} FROM {quote(table.name)} LIMIT {_SAMPLE_ROWS})"
    rows, answer = _asked(db, [part_of for one in part for part_of in one.figures()], source)
    lengths = db.rows(f"SELECT {', '.join(f'avg(length({one.c}))' for one in part)} FROM {source}")[0]
    for one, length in zip(part, lengths, strict=True):
        one.look(rows, answer)
        one.long = (length or 0) >= _LONG_BYTES


def _piece(db: Sqlite, part: Sequence[_Watched], source: str) -> int:
    """Read one piece; its number of rows."""
    tests = {one.column.name: one.test for one in part}
    plain = [one for one in part if tests[one.column.name] is not None]
    mixed = [one for one in part if tests[one.column.name] is None]
    # CASE takes the tests one by one and stops at the first that fails; a plain sum would compute all of them.
    good = " AND ".join(test for test in tests.values() if test is not None) or "1"
    questions = [f"sum(CASE WHEN {good} THEN 1 ELSE 0 END)"]
    questions += [question for one in plain for question in one.counts()]
    questions += [question for one in mixed for question in one.figures()]
    rows, answer = _asked(db, questions, source)
    if (next(answer) or 0) == rows:
        for one in plain:
            one.expected(rows, answer)
        for one in mixed:
            one.count(rows, answer)
        return rows
    # Something is new in it, and which column it is, was not asked.
    _, counted = _asked(db, [question for one in plain for question in one.figures()], source)
    for one in plain:
        for _ in one.counts():
            next(answer)
        one.count(rows, counted)
    for one in mixed:
        one.count(rows, answer)
    return rows


def _asked(db: Sqlite, questions: Sequence[str], source: str) -> tuple[int, Iterator[Any]]:
    rows, *answer = db.rows(f"SELECT {', '.join(['count(*)', *questions])} FROM {source}")[0]
    return int(rows), iter(answer)


def _form(db: Sqlite, table: Table, one: _Watched) -> str:
    """The form of a column that is all text. What the scan did not show, one count decides."""
    if one.total.classes != {"text"} or one.total.awkward_text or not one.forms:
        return ""
    if one.formed == one.total.texts:
        return one.forms[0]
    for form in one.forms:
        found = db.rows(f"SELECT count(*) FROM {quote(table.name)} WHERE {matches(form, one.c)}")[0][0]
        if found == one.total.texts:
            return form
    return ""


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
        max_bytes=max(one.max_bytes, other.max_bytes),
    )
