"""Decide: the SQL by which PostgreSQL digests its own rows as verify/canonical.py digests SQLite's; pure.

Invariant: written from the documented table of codecs (DESIGN.md, Values) and from nothing that moves rows. Whatever a
column cannot hold under its codec (a number with zeros that nobody wrote, a part of a second, `infinity`, a JSON array)
digests as `x`, which no value of SQLite does: damage is a difference, never an error that ends the comparison.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.names import quote
from schemas.plan import ColumnPlan

_INT = "'^(0|-?[1-9][0-9]{0,18})$'"
_REAL = "'^-?[0-9]+(\\.[0-9]+)?(e[+-][0-9]{2,3})?$'"
_BASE64 = "'^([A-Za-z0-9+/]{4})*([A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$'"
_WRONG = "'\\x78'::bytea"
_NULL = "'\\x6e'::bytea"


def row_digest(columns: Sequence[ColumnPlan], alias: str) -> str:
    """SQL text of the hexadecimal digest of one row; the columns in the source's order."""
    parts = [_of(column.codec, f"{alias}.{quote(column.target)}") for column in columns]
    return f"md5({' || '.join(parts)})"


def _of(codec: str, c: str) -> str:
    return f"CASE WHEN {c} IS NULL THEN {_NULL} ELSE coalesce({_present(codec, c)}, {_WRONG}) END"


def _present(codec: str, c: str) -> str:
    name, _, form = codec.partition(":")
    match name:
        case "long":
            return _integer(c)
        case "boolean":
            return _integer(f"{c}::int")
        case "double":
            return _real(c)
        case "text" | "loose-text":
            return _text(c)
        case "json":
            return _text(f"{c}::text")
        case "blob":
            return _framed("62", c)
        case "text-bytes":
            return _framed("74", c)
        case "date":
            return f"CASE WHEN {c} >= DATE '0001-01-01' THEN {_text(_day(c))} END"
        case "timestamp":
            return _moment(form, c)
        case "numeric":
            return f"CASE WHEN {c}::text !~ '\\.[0-9]*0$' THEN {_number(f'{c}::text')} END"
        case "affinity-text":
            return f"coalesce({_number(c)}, {_text(c)})"
        case "jsonb":
            return _json(c)
    raise KeyError(codec)


def _integer(c: str) -> str:
    return f"'\\x69'::bytea || int8send(({c})::bigint)"


def _real(c: str) -> str:
    return f"'\\x72'::bytea || float8send(({c})::double precision)"


def _framed(tag: str, raw: str) -> str:
    return f"'\\x{tag}'::bytea || int4send(octet_length({raw})) || {raw}"


def _text(c: str) -> str:
    return _framed("74", f"convert_to({c}, 'UTF8')")


def _number(c: str) -> str:
    """Of a text: an integer, a real, or NULL where it is neither. Ranges are tested before a cast could fail."""
    inside = f"abs({c}::numeric) BETWEEN 2.5e-324 AND 1.7976931348623158e308 OR {c}::numeric = 0"
    return (
        f"CASE WHEN {c} ~ {_INT} THEN CASE WHEN {c}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 "
        f"THEN {_integer(c)} ELSE {_real(c)} END "
        f"WHEN {c} = '9e999' THEN {_real(_literal('Infinity'))} WHEN {c} = '-9e999' THEN {_real(_literal('-Infinity'))} "
        f"WHEN {c} ~ {_REAL} THEN CASE WHEN {inside} THEN {_real(c)} END END"
    )


def _literal(text: str) -> str:
    return f"'{text}'"


def _day(c: str) -> str:
    return f"to_char({c}, 'YYYY-MM-DD')"


def _moment(form: str, c: str) -> str:
    """`form`: separator, digits of a second, zone. What the form leaves out is written where it is there: the source then
    holds it, too (what was written after a switch came back so), or is another one."""
    separator, digits, zone = form[0].replace("_", " "), _WHOLE.get(form[1], form[1]), form[2:]
    at = f"({c} AT TIME ZONE 'UTC')" if zone else c
    text = f"{_day(at)} || '{separator}' || to_char({at}, 'HH24:MI')"
    second = f"to_char({at}, ':SS')"
    text += f" || {_unless('minute', at, second)}" if digits == "n" else f" || {second}"
    if digits == "6":
        text += f" || to_char({at}, '.US')"
    if digits == "x":
        text += f" || to_char({at}, '.MS') || " + _unless("milliseconds", at, f"right(to_char({at}, 'US'), 3)")
    if digits in "un":
        text += f" || {_unless('second', at, f'''to_char({at}, '.US')''')}"
    whole = f"date_trunc('microseconds', {at}) = {at} AND {at} >= TIMESTAMP '0001-01-01'"
    return f"CASE WHEN {whole} THEN {_text(f'({text} || {_literal(zone)})')} END"


_WHOLE = {"m": "n", "0": "u", "3": "x"}


def _unless(unit: str, at: str, text: str) -> str:
    return f"CASE WHEN date_trunc('{unit}', {at}) = {at} THEN '' ELSE {text} END"


def _json(c: str) -> str:
    text, word = f"({c} #>> '{{}}')", f"{c}::text"
    raw = {tag: f"({c} ->> '{tag}')" for tag in ("blob", "text", "real")}
    tagged = " ".join(
        f"WHEN {c} ? '{tag}' THEN CASE WHEN {raw[tag]} ~ {_BASE64} THEN {_framed(code, _decoded(raw[tag]))} END"
        for tag, code in (("blob", "62"), ("text", "74"))
    )
    special = " ".join(
        f"WHEN {raw['real']} = '{said}' THEN {_real(_literal(value))}"
        for said, value in (("inf", "Infinity"), ("-inf", "-Infinity"), ("-0.0", "-0.0"))
    )
    # A real always has a fraction and no zeros behind it but the one that makes it a real.
    plain = f"CASE WHEN {word} ~ '^-?[0-9]+(\\.([0-9]*[1-9]|0))?$' THEN {_json_number(word)} END"
    return (
        f"CASE jsonb_typeof({c}) WHEN 'string' THEN {_text(text)} WHEN 'number' THEN {plain} "
        f"WHEN 'object' THEN CASE {tagged} {special} END END"
    )


def _json_number(word: str) -> str:
    """Without a fraction only an integer: 9223372036854775808.0 is a real, 9223372036854775808 is nothing of SQLite's."""
    return (
        f"CASE WHEN {word} ~ {_INT} AND {word}::numeric NOT BETWEEN -9223372036854775808 AND 9223372036854775807 "
        f"THEN NULL ELSE {_number(word)} END"
    )


def _decoded(text: str) -> str:
    return f"decode({text}, 'base64')"
