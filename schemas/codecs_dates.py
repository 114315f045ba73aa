"""Decide: dates and timestamps that are TEXT in SQLite, each column with one strict ISO form that is remembered.

Invariant: a text is accepted only if formatting what was parsed gives that very text back, so the form is a bijection and
PostgreSQL's own date parser never sees a text ('now' and 'infinity' are traps there).
Codec names: `date`; `timestamp:<separator><precision><zone>` with separator `_` (a blank) or `T`, precision m (minutes),
0, 3 or 6 digits of a second, u (6 digits, left out when zero, as Python writes it), zone none, `Z` or `+00:00`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime
from functools import cache

from schemas.codecs import Codec

_FORM = re.compile(r"timestamp:([_T])([m036u])(Z|\+00:00|)")
_TIMESPEC = {"m": "minutes", "0": "seconds", "3": "milliseconds", "6": "microseconds", "u": "auto"}
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
    write = _writer(" " if separator == "_" else separator, _TIMESPEC[precision], zone)

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


def _writer(separator: str, timespec: str, zone: str) -> Callable[[datetime], str]:
    """Moment -> text of one form."""
    # An offset where the form has none, or none where it has one: the empty text is never equal to what was read.
    if not zone:
        return lambda moment: "" if moment.tzinfo else moment.isoformat(separator, timespec)

    def write(moment: datetime) -> str:
        if moment.tzinfo is None:
            return ""
        return moment.astimezone(UTC).replace(tzinfo=None).isoformat(separator, timespec) + zone

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
    tail = {"m": "", "0": ":SS", "3": ":SS.MS", "6": ":SS.US", "u": ":SS"}[precision]
    text = f"to_char({moment}, 'YYYY-MM-DD{middle}HH24:MI{tail}')"
    if precision == "u":
        text += f" || CASE WHEN to_char({moment}, 'US') = '000000' THEN '' ELSE to_char({moment}, '.US') END"
    return f"({text} || '{zone}')"
