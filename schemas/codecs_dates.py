"""Decide: dates and timestamps that are TEXT in SQLite, each column with one strict ISO form that is remembered.

Invariant: a text is accepted only if formatting what was parsed gives that very text back, so the form is a bijection and
PostgreSQL's own date parser never sees a text ('now' and 'infinity' are traps there).
Codec names: `date`; `timestamp:<separator><precision><zone>` with separator `_` (a blank) or `T`, precision m (minutes),
0, 3 or 6 digits of a second, u (6 digits, left out when zero, as Python writes it), x (3 digits, 6 where 3 do not do), n
(what is zero is left out: minutes, seconds or 6 digits), zone none, `Z` or `+00:00`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache

from schemas.codecs import Codec

_FORM = re.compile(r"timestamp:([_T])([m036unx])(Z|\+00:00|)")
_TIMESPEC = {"m": "minutes", "0": "seconds", "3": "milliseconds", "6": "microseconds", "u": "auto"}
_LOOSE = {"m": "n", "0": "u", "3": "x"}
"""Forms that leave something out -> the form that writes it where it is there, and is the same text where it is not."""
_TEXT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}([ T])[0-9]{2}:[0-9]{2}(:[0-9]{2}(?:\.([0-9]{3}|[0-9]{6}))?)?(Z|\+00:00|)", re.ASCII
)


def _is_date(text: str) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


DATE = Codec(
    "date", "date", "string", frozenset({str}), check=_is_date, to_pg=date.fromisoformat, from_pg=date.isoformat
)


@cache
def timestamp(name: str) -> Codec:
    """The codec of one form. Raises KeyError for a name that is none."""
    match = _FORM.fullmatch(name)
    if match is None:
        raise KeyError(name)
    separator, precision, zone = match.groups()
    write = _writer(" " if separator == "_" else separator, precision, zone)

    def check(text: str) -> bool:
        try:
            return write(datetime.fromisoformat(text)) == text
        except ValueError:
            return False

    return Codec(
        name,
        "timestamptz" if zone else "timestamp",
        "string",
        frozenset({str}),
        check=check,
        to_pg=datetime.fromisoformat,
        from_pg=write,
    )


def _writer(separator: str, precision: str, zone: str) -> Callable[[datetime], str]:
    """Moment -> text of one form."""
    fixed = _TIMESPEC.get(precision, "")

    def text(moment: datetime) -> str:
        if fixed:
            return moment.isoformat(separator, fixed)
        if precision == "x":
            return moment.isoformat(separator, "microseconds" if moment.microsecond % 1000 else "milliseconds")
        return moment.isoformat(separator, "auto" if moment.second or moment.microsecond else "minutes")

    # An offset where the form has none, or none where it has one: the empty text is never equal to what was read.
    if not zone:
        return lambda moment: "" if moment.tzinfo else text(moment)

    def write(moment: datetime) -> str:
        if moment.tzinfo is None:
            return ""
        return text(moment.astimezone(UTC).replace(tzinfo=None)) + zone

    return write


def form_of(text: str) -> str | None:
    """Codec name of the form that this text has, None if it has none."""
    if _is_date(text):
        return DATE.name
    match = _TEXT.fullmatch(text)
    if match is None:
        return None
    separator, seconds, fraction, zone = match.groups()
    precision = str(len(fraction)) if fraction else "0" if seconds else "m"
    name = f"timestamp:{'_' if separator == ' ' else separator}{precision}{zone}"
    check = timestamp(name).check
    return name if check is not None and check(text) else None


def python_form(name: str) -> str:
    """The form with 6 digits that are left out when zero, beside a form of whole seconds or of 6 digits."""
    return f"{name[:11]}u{name[12:]}"


def loosened(name: str) -> str:
    """The form that also writes what this one would leave out; the same name where it leaves nothing out."""
    return f"{name[:11]}{_LOOSE.get(name[11], name[11])}{name[12:]}" if name.startswith("timestamp:") else name


def sql_text(name: str, column: str) -> str:
    """PostgreSQL expression of the text that the codec `name` stands for; the value is never handed to a parser."""
    if name == DATE.name:
        return f"to_char({column}, 'YYYY-MM-DD')"
    match = _FORM.fullmatch(name)
    if match is None:
        raise KeyError(name)
    separator, precision, zone = match.groups()
    moment = f"({column} AT TIME ZONE 'UTC')" if zone else column
    middle = " " if separator == "_" else '"T"'
    tail = {"m": "", "0": ":SS", "3": ":SS.MS", "6": ":SS.US", "u": ":SS", "x": ":SS.MS", "n": ""}[precision]
    text = f"to_char({moment}, 'YYYY-MM-DD{middle}HH24:MI{tail}')"
    if precision == "n":
        text += f" || CASE WHEN to_char({moment}, 'SSUS') = '00000000' THEN '' ELSE to_char({moment}, ':SS') END"
    if precision in "un":
        text += f" || CASE WHEN to_char({moment}, 'US') = '000000' THEN '' ELSE to_char({moment}, '.US') END"
    if precision == "x":
        text += f" || CASE WHEN to_char({moment}, 'US') LIKE '%000' THEN '' ELSE right(to_char({moment}, 'US'), 3) END"
    return f"({text} || '{zone}')"
