"""Decide: the time of a statement, as SQLite's date functions tell it, on PostgreSQL. Pure.

Invariant: the time is taken when a statement runs and in UTC. Trap: `'now'::timestamp` in a DEFAULT is frozen when the
table is made (test_time_defaults_are_taken_at_each_insert).
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.codecs import fits
from schemas.grammar import Untranslatable
from schemas.model import Affinity
from schemas.names import text_literal
from schemas.pieces import Kind, Piece
from schemas.plan import ColumnPlan
from schemas.typemap import codec

_CLOCK = "timezone('UTC', statement_timestamp())"
_FORMATS = {
    "Y": "YYYY",
    "m": "MM",
    "d": "DD",
    "H": "HH24",
    "M": "MI",
    "S": "SS",
    "f": "SS.MS",
    "j": "DDD",
    "F": "YYYY-MM-DD",
    "T": "HH24:MI:SS",
}
"""SQLite: lang_datefunc, strftime; the rest is reported."""
_SAMPLE = {
    "F": "%Y-%m-%d",
    "T": "%H:%M:%S",
    "Y": "2001",
    "m": "02",
    "d": "03",
    "H": "04",
    "M": "05",
    "S": "06",
    "f": "06.789",
}
CURRENT = {
    "CURRENT_TIMESTAMP": "%Y-%m-%d %H:%M:%S",
    "CURRENT_DATE": "%Y-%m-%d",
    "CURRENT_TIME": "%H:%M:%S",
}
_FUNCTIONS = {
    "datetime": "%Y-%m-%d %H:%M:%S",
    "date": "%Y-%m-%d",
    "time": "%H:%M:%S",
}
EPOCH = "epoch"
_SECONDS = "floor(extract(epoch FROM statement_timestamp()))::bigint"


def now(form: str) -> Piece:
    """The time in a strftime format, or `EPOCH`: whole seconds as a number."""
    if form == EPOCH:
        return Piece(_SECONDS, Kind.INT, stable=True, clock=form)
    if form == "%s":
        return Piece(f"({_SECONDS})::text", Kind.TEXT, stable=True, clock=form)
    pattern = _to_char(form)
    if pattern is None:
        raise Untranslatable(f"strftime format {form!r} has no counterpart")
    return Piece(f"to_char({_CLOCK}, {text_literal(pattern)})", Kind.TEXT, stable=True, clock=form)


def function(name: str, arguments: Sequence[Piece]) -> Piece | None:
    """date, time, datetime, strftime, unixepoch of 'now'; None for any other function."""
    form = {**_FUNCTIONS, "unixepoch": EPOCH}.get(name)
    rest = list(arguments)
    if name == "strftime" and rest and rest[0].literal and isinstance(rest[0].value, str):
        form, rest = rest[0].value, rest[1:]
    elif name in ("strftime", "julianday"):
        raise Untranslatable(f"{name}() has no counterpart with these arguments")
    if form is None:
        return None
    if (rest and [str(one.value).lower() for one in rest if one.literal] != ["now"]) or len(rest) > 1:
        raise Untranslatable(f"{name}() of anything but 'now', or with a modifier: SQLite reads many forms of a date")
    return now(form)


def stored(form: str, plan: ColumnPlan) -> str | None:
    """The time as a default of this column."""
    if form in (EPOCH, "%s"):
        # strftime gives text, which only an integer affinity makes a number.
        if plan.codec == "long" and (form == EPOCH or plan.affinity in (Affinity.INTEGER, Affinity.NUMERIC)):
            return _SECONDS
        return f"({_SECONDS})::text" if plan.codec == "text" and plan.affinity == Affinity.TEXT else None
    if plan.pg_type != "text":
        return _clock_typed(form, plan)
    pattern = _to_char(form)
    return None if pattern is None else f"to_char({_CLOCK}, {text_literal(pattern)})"


def _clock_typed(form: str, plan: ColumnPlan) -> str | None:
    """In a date or timestamp column, if its codec takes text of this form: then it gives this very text back."""
    sample = form
    for code, text in _SAMPLE.items():
        sample = sample.replace(f"%{code}", text)
    if "%" in sample or not fits(codec(plan.codec), sample):
        return None
    step = "milliseconds" if "%f" in form else "second"
    return {
        "date": f"({_CLOCK})::date",
        "timestamp": f"date_trunc('{step}', {_CLOCK})",
        "timestamptz": f"date_trunc('{step}', statement_timestamp())",
    }.get(plan.pg_type)


def _to_char(form: str) -> str | None:
    """to_char's pattern; anything that is no letter of strftime is quoted, since to_char reads letters as patterns."""
    out, plain, at = [], "", 0
    while at < len(form):
        if form[at] == "%":
            known = _FORMATS.get(form[at + 1 : at + 2])
            if known is None:
                return None
            out += [f'"{plain}"' if plain else "", known]
            plain, at = "", at + 2
        elif form[at] in '"\\':
            return None
        else:
            plain, at = plain + form[at], at + 1
    return "".join([*out, f'"{plain}"' if plain else ""]) if out else None
