"""Decide: the codecs that travel as JSON: `jsonb` for any mix of classes, `json` for documents whose bytes are kept.

Invariant: jsonb calls equal what SQLite calls equal (1 and 1.0) and nothing else; every class comes back.
Traps: a real always has a fraction and never an exponent; text with NUL, blobs, infinities and -0.0 are tagged objects,
which no SQLite value can be by itself, since a JSON text stays a JSON string (test_look_alikes_stay_apart).
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from decimal import Decimal
from typing import Any, NoReturn

from schemas.codecs import Codec, no_nul, text_of_bytes
from schemas.model import BadText, Value

_TO_JSON = json.JSONEncoder(ensure_ascii=False).encode


def _jsonb_text(value: Any) -> str:
    if type(value) is int:
        return str(value)
    if type(value) is float:
        return _real(value)
    if isinstance(value, BadText):
        return _tagged("text", value)
    if type(value) is bytes:
        return _tagged("blob", value)
    return _TO_JSON(value) if no_nul(value) else _tagged("text", value.encode())


def _real(value: float) -> str:
    if not math.isfinite(value):
        return f'{{"real": "{value}"}}'
    if value == 0.0 and math.copysign(1.0, value) < 0:
        return '{"real": "-0.0"}'
    text = repr(value)
    if "e" in text:
        text = format(Decimal(text), "f")
    return text if "." in text else f"{text}.0"


def _tagged(tag: str, raw: bytes) -> str:
    return f'{{"{tag}": "{b64encode(raw).decode()}"}}'


def _jsonb_value(text: str) -> Value:
    value = json.loads(text)
    if not isinstance(value, dict):
        return value  # type: ignore[no-any-return]
    if "real" in value:
        return float(value["real"])
    if "blob" in value:
        return b64decode(value["blob"])
    return text_of_bytes(b64decode(value["text"]))


def _refuse(word: str) -> NoReturn:
    raise ValueError(word)


_STRICT = json.JSONDecoder(parse_constant=_refuse, parse_int=len, parse_float=len)


def is_json(text: str) -> bool:
    """Would PostgreSQL's json take it? NaN and Infinity are no JSON, and deep nesting is left to text."""
    if not no_nul(text):
        return False
    try:
        _STRICT.decode(text)
    except (ValueError, RecursionError):
        return False
    return True


JSONB = Codec(
    "jsonb", "jsonb", "string", frozenset({int, float, str, bytes, BadText}), encode=_jsonb_text, decode=_jsonb_value
)
JSON = Codec("json", "json", "string", frozenset({str}), check=is_json)
