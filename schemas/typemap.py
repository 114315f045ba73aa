"""Decide: the codec table, the one place that says how a value crosses from SQLite to PostgreSQL and back.

Invariant: `decode(from_pg(to_pg(encode(v))))` has the same storage class and the same bytes as `v`, for every value
that the codec accepts. A codec is chosen only if every profiled value survives that round trip; a later value that does
not fit widens the column (`join`), it is never changed to fit.
Trap: the declared name is not the affinity: STRING, UUID and JSON are NUMERIC, and '007' is stored in them as 7.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from schemas.model import Affinity, BadText, Column, Value
from schemas.profile import ColumnProfile


@dataclass(frozen=True, slots=True)
class Codec:
    """One value rule, both directions. A None function means identity. NULL never reaches a function.

    `accepts`: Python types that may pass; `check`: a further test of one value, or None.
    """

    name: str
    """Stable, travels in the Avro field property `tailrace.codec`; the affinity after a colon where it matters."""
    pg_type: str
    avro_type: str
    """long, double, string, bytes or boolean."""
    accepts: frozenset[type]
    check: Callable[[Any], bool] | None = None
    encode: Callable[[Any], Any] | None = None
    """SQLite value -> Avro value."""
    decode: Callable[[Any], Value] | None = None
    """Avro value -> SQLite value."""
    to_pg: Callable[[Any], Any] | None = None
    """Avro value -> psycopg parameter (binary)."""
    from_pg: Callable[[Any], Any] | None = None
    """psycopg result -> Avro value."""


def _no_nul(text: str) -> bool:
    return "\x00" not in text


def _number_text(value: int | float | str) -> str:
    """Text whose affinity conversion gives the value back: repr is the shortest exact form of a double."""
    if type(value) is float:
        return "9e999" if value == math.inf else "-9e999" if value == -math.inf else repr(value)
    return str(value)


def _restores(affinity: Affinity, value: Any) -> bool:
    """Does `restore` give this very value back? Text that looks like a number cannot be told from the number."""
    if type(value) is str and not _no_nul(value):
        return False
    back = restore(affinity, _number_text(value))
    return type(back) is type(value) and (back == value) and (type(value) is not float or _same_bits(back, value))


def _same_bits(one: Any, other: Any) -> bool:
    return math.copysign(1.0, one) == math.copysign(1.0, other)


def restore(affinity: Affinity, text: str) -> Value:
    """Apply a column's affinity to text as SQLite would (datatype3.html section 3): a well-formed number becomes one."""
    stripped = text.strip(" \t\n\v\f\r")
    if not stripped.isascii() or "_" in stripped:
        return text
    try:
        number = int(stripped)
        if -(2**63) <= number < 2**63:
            return float(number) if affinity is Affinity.REAL else number
    except ValueError:
        pass
    if not stripped or stripped.lower().lstrip("+-")[:1] in ("i", "n"):
        return text
    try:
        return float(stripped)
    except ValueError:
        return text


def _restorer(affinity: Affinity) -> Callable[[Any], Value]:
    return lambda text: restore(affinity, text)


def _json_encode(value: Any) -> str:
    """A real always has a fraction and never an exponent, so that jsonb compares as SQLite does and classes stay apart."""
    if type(value) is int:
        return str(value)
    if type(value) is float:
        if not math.isfinite(value) or (value == 0.0 and math.copysign(1.0, value) < 0):
            return json.dumps({"real": "-0.0" if value == 0.0 else "inf" if value > 0 else "-inf"})
        return _plain_real(value)
    if isinstance(value, BadText):
        return json.dumps({"text": base64.b64encode(bytes(value)).decode()})
    if type(value) is bytes:
        return json.dumps({"blob": base64.b64encode(value).decode()})
    if not _no_nul(value):
        return json.dumps({"text": base64.b64encode(value.encode()).decode()})
    return json.dumps(value, ensure_ascii=False)


def _plain_real(value: float) -> str:
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text if "." in text else f"{text}.0"


def _json_decode(text: str) -> Value:
    value = json.loads(text)
    if not isinstance(value, dict):
        return value  # type: ignore[no-any-return]
    if "real" in value:
        return float(value["real"])
    raw = base64.b64decode(value["blob"] if "blob" in value else value["text"])
    if "blob" in value:
        return raw
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BadText(raw)


def _text_bytes(value: str | BadText) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _bytes_text(raw: bytes) -> Value:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return BadText(raw)


_LONG = Codec("long", "bigint", "long", frozenset({int}))
_DOUBLE = Codec("double", "double precision", "double", frozenset({float}))
_TEXT = Codec("text", "text", "string", frozenset({str}), check=_no_nul)
_BLOB = Codec("blob", "bytea", "bytes", frozenset({bytes}))
_BOOLEAN = Codec(
    "boolean", "boolean", "boolean", frozenset({int}), check=lambda v: v in (0, 1), encode=bool, decode=int
)
_TEXT_BYTES = Codec("text-bytes", "bytea", "bytes", frozenset({str, BadText}), encode=_text_bytes, decode=_bytes_text)
_JSONB = Codec(
    "jsonb",
    "jsonb",
    "string",
    frozenset({int, float, str, bytes, BadText}),
    encode=_json_encode,
    decode=_json_decode,
)


def _affinity_codec(affinity: Affinity) -> Codec:
    return Codec(
        f"affinity-text:{affinity}",
        "text",
        "string",
        frozenset({int, float, str}),
        check=lambda value: _restores(affinity, value),
        encode=_number_text,
        decode=_restorer(affinity),
    )


_CODECS = {one.name: one for one in (_LONG, _DOUBLE, _TEXT, _BLOB, _BOOLEAN, _TEXT_BYTES, _JSONB)}
_CODECS |= {
    one.name: one
    for one in (_affinity_codec(affinity) for affinity in (Affinity.INTEGER, Affinity.NUMERIC, Affinity.REAL))
}


def codec(name: str) -> Codec:
    """Raises KeyError for a codec of a newer format."""
    return _CODECS[name]


def choose(column: Column, profile: ColumnProfile, *, in_key: bool) -> tuple[Codec, str]:
    """The codec of a column and one sentence why. `in_key`: keys never become boolean."""
    classes = profile.classes
    if not classes:
        return _when_empty(column, in_key=in_key)
    if classes == {"int"}:
        if "BOOL" in column.declared.upper() and profile.small_ints and not in_key:
            return _BOOLEAN, "declared BOOLEAN and only 0 and 1"
        return _LONG, "only integers"
    if classes == {"real"}:
        return _DOUBLE, "only reals"
    if classes == {"blob"}:
        return _BLOB, "only blobs"
    if classes == {"text"}:
        if profile.awkward_text:
            return _TEXT_BYTES, "text with NUL or invalid UTF-8: its bytes are kept"
        return _TEXT, "only text"
    restorable = column.affinity in (Affinity.INTEGER, Affinity.NUMERIC, Affinity.REAL) and not profile.awkward_text
    if restorable and "blob" not in classes:
        return codec(
            f"affinity-text:{column.affinity}"
        ), f"{' and '.join(sorted(classes))}: {column.affinity} affinity restores the class"
    return _JSONB, f"a mix of {', '.join(sorted(classes))} in {column.affinity} affinity"


def _when_empty(column: Column, *, in_key: bool) -> tuple[Codec, str]:
    if column.affinity is Affinity.INTEGER:
        return _LONG, "no values yet, declared integer"
    if column.affinity is Affinity.REAL:
        return _DOUBLE, "no values yet, declared real"
    if column.affinity is Affinity.BLOB and "BLOB" in column.declared.upper():
        return _BLOB, "no values yet, declared BLOB"
    if column.affinity is Affinity.NUMERIC and "BOOL" in column.declared.upper() and not in_key:
        return _BOOLEAN, "no values yet, declared BOOLEAN"
    return _TEXT, "no values yet"


def fits(one: Codec, value: Value) -> bool:
    """Would this codec carry this value and bring it back unchanged?"""
    return value is None or (type(value) in one.accepts and (one.check is None or one.check(value)))


def widen(name: str, values: Iterable[Value], affinity: Affinity) -> str:
    """The narrowest codec that carries what `name` carried and these values too."""
    seen = list(values)
    for candidate in _ladder(name, affinity):
        if all(fits(candidate, value) for value in seen):
            return candidate.name
    return _JSONB.name


def _ladder(name: str, affinity: Affinity) -> list[Codec]:
    """Codecs that accept everything `name` accepts, narrowest first."""
    current = codec(name)
    steps = [current]
    if name == "boolean":
        steps.append(_LONG)
    if name in ("boolean", "long", "double", "text") and affinity in (
        Affinity.INTEGER,
        Affinity.NUMERIC,
        Affinity.REAL,
    ):
        steps.append(codec(f"affinity-text:{affinity}"))
    if name == "text":
        steps.append(_TEXT_BYTES)
    return [*steps, _JSONB]


def join(one: str, other: str) -> str:
    """Narrowest codec that carries everything both carry (without values at hand)."""
    if one == other:
        return one
    pair = {one, other}
    for narrow, wide in (("boolean", "long"), ("text", "text-bytes")):
        if pair == {narrow, wide}:
            return wide
    mixed = [name for name in pair if name.startswith("affinity-text:")]
    if len(mixed) == 1 and (pair - set(mixed)) <= {"boolean", "long", "double", "text"}:
        return mixed[0]
    return _JSONB.name
