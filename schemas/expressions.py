"""Decide: literals and defaults of SQLite that mean the same on PostgreSQL. Pure.

Invariant: a white list. What is not known to mean the same is None and reported by name, never passed through.
Trap: `'now'::timestamp` in a DEFAULT is frozen when the table is made (test_time_defaults_are_taken_at_each_insert), and
a literal goes through its column's affinity and codec before it is compared (test_a_literal_takes_the_columns_form).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from schemas.codecs import fits
from schemas.codecs_numbers import restore
from schemas.model import Affinity, Column, Value
from schemas.names import text_literal
from schemas.plan import ColumnPlan
from schemas.sqltext import Token, tokens
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
_NOW = {
    "CURRENT_TIMESTAMP": "%Y-%m-%d %H:%M:%S",
    "CURRENT_DATE": "%Y-%m-%d",
    "CURRENT_TIME": "%H:%M:%S",
    "datetime": "%Y-%m-%d %H:%M:%S",
    "date": "%Y-%m-%d",
    "time": "%H:%M:%S",
}


class Untranslatable(Exception):
    """Leaves the parser: the expression is not on the white list."""


def literal_sql(value: Value, column: ColumnPlan) -> str | None:
    """A SQLite literal as PostgreSQL holds it in this column; None if the column's codec could not carry it."""
    stored = with_affinity(value, Affinity(column.affinity))
    if stored is None:
        return "NULL"
    rule = codec(column.codec)
    if not fits(rule, stored):
        return None
    encoded: Any = rule.encode(stored) if rule.encode else stored
    parameter: Any = rule.to_pg(encoded) if rule.to_pg else encoded
    match parameter:
        case bool():
            return "true" if parameter else "false"
        case int():
            return str(parameter)
        case float():
            return f"{text_literal(repr(parameter))}::double precision"
        case bytes():
            return f"'\\x{parameter.hex()}'::bytea"
        case str() | Decimal() | date() | datetime():
            return f"{text_literal(str(parameter))}::{column.pg_type}"
    return None


def default_sql(column: Column, plan: ColumnPlan) -> str | None:
    """The DEFAULT of a column for PostgreSQL; None if there is none or it has no counterpart."""
    parts = tokens(column.default or "")
    while len(parts) > 1 and parts[0].text == "(" and parts[-1].text == ")":
        parts = parts[1:-1]
    if not parts:
        return None
    clock = _clock_format(parts)
    if clock is not None:
        return _clock_sql(clock, plan)
    try:
        value, rest = read_literal(parts, strings=True)
    except Untranslatable:
        return None
    return None if rest else literal_sql(value, plan)


def with_affinity(value: Value, affinity: Affinity) -> Value:
    """SQLite: datatype3.html section 3, what storing (and comparing) in a column of this affinity makes of a literal."""
    if affinity is Affinity.TEXT and type(value) is int:
        return str(value)
    if affinity is Affinity.REAL and type(value) is int:
        return float(value)
    if affinity in (Affinity.INTEGER, Affinity.NUMERIC):
        whole = type(value) is float and value.is_integer() and abs(value) < 2**53
        return int(value) if whole and isinstance(value, float) else _restored(value, affinity)
    return _restored(value, affinity) if affinity is Affinity.REAL else value


def _restored(value: Value, affinity: Affinity) -> Value:
    return restore(affinity, value) if isinstance(value, str) else value


def read_literal(parts: Sequence[Token], *, strings: bool) -> tuple[Value, Sequence[Token]]:
    """One literal and what follows. `strings`: a word in double quotes is a string (a DEFAULT, where no column is)."""
    sign, signed = 1, False
    while parts and parts[0].text in ("-", "+"):
        sign, signed = (-sign if parts[0].text == "-" else sign), True
        parts = parts[1:]
    if not parts:
        raise Untranslatable
    token, rest = parts[0], parts[1:]
    if token.kind == "number":
        return _number(token.text, sign), rest
    if signed:
        raise Untranslatable
    if token.kind == "string" or (strings and token.kind == "quoted" and token.text[0] == '"'):
        return token.name, rest
    if token.kind == "blob":
        return bytes.fromhex(token.text[2:-1]), rest
    word = token.text.upper() if token.kind == "word" else ""
    if word in ("NULL", "TRUE", "FALSE"):
        return {"NULL": None, "TRUE": 1, "FALSE": 0}[word], rest
    raise Untranslatable


def _number(text: str, sign: int) -> Value:
    if "_" in text or text[:2].lower() == "0x":
        raise Untranslatable
    if text.isdigit():
        number = sign * int(text)
        return number if -(2**63) <= number < 2**63 else float(number)
    return sign * float(text)


def _clock_format(parts: Sequence[Token]) -> str | None:
    """The strftime format of a default that tells the time of the insert; None for anything else."""
    words = [token.text for token in parts]
    if len(parts) == 1:
        return _NOW.get(words[0].upper()) if parts[0].kind == "word" else None
    name = words[0].lower()
    if parts[0].kind != "word" or words[1] != "(" or words[-1] != ")":
        return None
    arguments = [token.name if token.kind == "string" else token.text for token in parts[2:-1]]
    if name in _NOW and (not arguments or [str(one).lower() for one in arguments] == ["now"]):
        return _NOW[name]
    if name == "unixepoch" and (not arguments or [str(one).lower() for one in arguments] == ["now"]):
        return "epoch"
    now = len(arguments) == 1 or (len(arguments) == 3 and str(arguments[2]).lower() == "now")
    return arguments[0] if name == "strftime" and parts[2].kind == "string" and now else None


def _clock_sql(form: str, plan: ColumnPlan) -> str | None:
    if form in ("epoch", "%s"):
        # strftime gives text, which only an integer affinity makes a number.
        whole = "floor(extract(epoch FROM statement_timestamp()))::bigint"
        if plan.codec == "long" and (form == "epoch" or plan.affinity in (Affinity.INTEGER, Affinity.NUMERIC)):
            return whole
        return f"({whole})::text" if plan.codec == "text" and plan.affinity == Affinity.TEXT else None
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
