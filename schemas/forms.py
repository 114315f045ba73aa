"""Decide: which form the texts of a column share that is declared or ordered as a date, a time or JSON, in SQLite's words.

Invariant: a form is one of the codecs of schemas/codecs_dates.py or `json`; the first value proposes it, every text must
have it. `surely` says yes only to a text that `matches`, and to no text with a NUL (test_what_is_sure_matches).
"""

from __future__ import annotations

from schemas.codecs_dates import form_of, loosened, python_form
from schemas.model import Column, Table
from schemas.names import quote
from schemas.ports import Sqlite


def is_formed(column: Column, asked: str) -> bool:
    """Is a form looked for? `asked`: the type that the operator ordered."""
    declared = (asked or column.declared).upper()
    return "JSON" in declared or declared.startswith(("DATE", "TIMESTAMP"))


def proposed(db: Sqlite, table: Table, column: Column, asked: str) -> tuple[str, ...]:
    """The forms that the column's first value has, the best one first; the first one that all texts have is its form.

    A text that SQLite counts and the codec refuses (the year 0) widens the column later; none is changed.
    """
    if "JSON" in (asked or column.declared).upper():
        return ("json",)
    c = quote(column.name)
    first = db.rows(f"SELECT {c} FROM {quote(table.name)} WHERE {c} IS NOT NULL LIMIT 1")
    form = form_of(first[0][0]) if first and type(first[0][0]) is str else None
    return () if form is None else _candidates(form)


def _candidates(form: str) -> tuple[str, ...]:
    """Six digits throughout and never zero: `T` is how Python writes it, which leaves zeros out one day."""
    if not form.startswith("timestamp:"):
        return (form,)
    if form[11] not in "06":
        return (form, loosened(form))
    loose = python_form(form)
    return (loose, form) if form[10:12] == "T6" else (form, loose)


def matches(form: str, c: str) -> str:
    """SQLite condition: the text `c`, which has no NUL, has the form, and its day exists."""
    if form == "json":
        return f"json_valid({c})"
    # Without a modifier SQLite gives '2024-02-30' back as it came; most days need no calendar at all.
    exists = (
        f"(substr({c}, 9, 2) BETWEEN '01' AND '28' AND substr({c}, 6, 2) BETWEEN '01' AND '12' "
        f"OR strftime('%Y-%m-%d', {c}, '+0 days') = substr({c}, 1, 10))"
    )
    return f"{_shaped(form, c, '[0-9][0-9][0-9][0-9]-[0-9][0-9]-[0-9][0-9]')} AND {exists}"


def surely(form: str, c: str) -> str | None:
    """SQLite condition, cheaper than `matches`: true of nothing but texts without a NUL that have the form.

    SQLite's own functions write the moment anew; what is equal to it is a text, byte for byte (the unary + takes the
    column's affinity away). None where there is no such short cut. It may say no to a text that has the form.
    """
    if form == "json":
        return None
    # The 31st of any month comes back as it came, and so does '-0044-03-15': a digit first, and a day that every month
    # has, else the calendar is asked (with a modifier).
    exists = f"({c} GLOB '[0-9]???-??-[012][0-8]*' OR date({c}, '+0 days') = substr({c}, 1, 10))"
    if form in ("date", "timestamp:_0"):
        return f"{'date' if form == 'date' else 'datetime'}({c}) COLLATE BINARY = +{c} AND {exists}"
    # substr() stops at a NUL, so that what is equal has none.
    return f"(date({c}) || substr({c}, 11)) COLLATE BINARY = +{c} AND {_shaped(form, c, '?' * 10)} AND {exists}"


def _shaped(form: str, c: str, day: str) -> str:
    if form == "date":
        return f"{c} GLOB '{day}'"
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
    return f"({shape}){zero}"
