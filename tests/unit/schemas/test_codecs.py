"""Each codec by itself: what it accepts, what it refuses, and that its way back is exact."""

from __future__ import annotations

import math

import pytest

from schemas.codecs import fits
from schemas.codecs_dates import form_of
from schemas.codecs_json import is_json
from schemas.codecs_numbers import restore, same_value
from schemas.model import Affinity, BadText, Value
from schemas.typemap import codec

REFUSED: tuple[tuple[str, Value], ...] = (
    *(("long", value) for value in (True, 1.0, "1", b"1")),
    *(("boolean", value) for value in (2, -1, 1.0, "1", True)),
    *(("double", value) for value in (1, "1.0")),
    *(("text", value) for value in ("a\x00", b"a", BadText(b"a"), 1)),
    *(("blob", value) for value in ("a", BadText(b"a"))),
    *(("text-bytes", value) for value in (b"a", 1)),
    # numeric would bring these back as an INTEGER, without their sign, or not at all
    *(("numeric", value) for value in (5.0, 0.0, -0.0, -(2.0**63), math.inf, -math.inf, "5")),
    *(("affinity-text:NUMERIC", value) for value in ("5", " 5\n", "5.", ".5e1", "1e400", "a\x00", b"a")),
    *(("affinity-text:REAL", value) for value in (5, "5")),
    *(("date", value) for value in ("2024-02-30", "0000-01-01", "20240229", "2024-W01-1", "now", "", "infinity", 20240229)),
    *(("timestamp:_0", value) for value in ("2024-02-29 12:00", "2024-02-29T12:00:00", "2024-02-29 24:00:00")),
    *(("timestamp:_0", value) for value in ("2024-02-29 12:00:00Z", "2024-02-29 12:00:00+00:00", "2024-02-29 12:00:60")),
    ("timestamp:_6", "2024-02-29 12:00:00"),
    ("timestamp:_u", "2024-02-29 12:00:00.000000"),
    *(("timestamp:_x", value) for value in ("2024-02-29 12:00:00", "2024-02-29 12:00:00.123000")),
    *(("timestamp:_n", value) for value in ("2024-02-29 12:00:00", "2024-02-29 12:00:01.000000", "2024-02-29 12:00:00.123")),
    *(("timestamp:T0Z", value) for value in ("2024-02-29T12:00:00", "2024-02-29T12:00:00+00:00", "2024-02-29T12:00:00z")),
    ("timestamp:T0+00:00", "2024-02-29T12:00:00+01:00"),
    *(("json", value) for value in ("", "{", "NaN", '{"a": -Infinity}', "[1,]", "'a'", "\ufeff{}", "[" * 100_000, "1\x00")),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=lambda one: repr(one)[:40])
def test_a_value_that_would_not_come_back_is_refused(name: str, value: Value) -> None:
    assert not fits(codec(name), value)


ACCEPTED: tuple[tuple[str, Value], ...] = (
    *(("boolean", value) for value in (0, 1)),
    *(("numeric", value) for value in (5, -(2**63), 2**63 - 1, 0.1, 1e20, 2.0**63, 5e-324, 1.7976931348623157e308)),
    *(("affinity-text:NUMERIC", value) for value in (5, 1e20, "abc", "0x5", "5_0", "\x1c5", "nan", "", "5 apples")),
    *(("affinity-text:REAL", value) for value in (5.0, -0.0, math.inf, "five")),
    *(("text-bytes", value) for value in ("a\x00", BadText(b"\xff"), "")),
    *(("date", value) for value in ("0001-01-01", "2024-02-29", "9999-12-31")),
    *(("timestamp:_u", value) for value in ("2024-02-29 12:00:00", "2024-02-29 12:00:00.000001")),
    *(("timestamp:_x", value) for value in ("2024-02-29 12:00:00.123", "2024-02-29 12:00:00.000", "2024-02-29 12:00:00.123456")),
    *(("timestamp:_n", value) for value in ("2024-02-29 12:00", "2024-02-29 12:00:01", "2024-02-29 12:00:00.000001")),
    *(("timestamp:Tm", value) for value in ("2024-02-29T12:00",)),
    *(("timestamp:T3+00:00", value) for value in ("0001-01-01T00:00:00.000+00:00",)),
    *(("json", value) for value in ('{"b": 1,  "a": 1, "a": 2}', '"\\u0000"', " 1 ", "1" * 5000)),
    *(("jsonb", value) for value in (1, 1.0, -0.0, math.inf, "1", "a\x00", b"\x00", BadText(b"\xff"), 5e-324)),
)  # fmt: skip


@pytest.mark.parametrize(("name", "value"), ACCEPTED, ids=lambda one: repr(one)[:40])
def test_an_accepted_value_comes_back_exactly(name: str, value: Value) -> None:
    one = codec(name)
    assert fits(one, value)
    way: object = value
    for function in (one.encode, one.to_pg, one.from_pg, one.decode):
        way = function(way) if function is not None else way
    assert (type(value), repr(value)) == (type(way), repr(way))


def test_types_are_exact() -> None:
    assert not fits(codec("long"), True)
    assert not same_value(1, 1.0)
    assert not same_value(0.0, -0.0)


def test_look_alikes_stay_apart() -> None:
    """A text that looks like one of our tagged objects is a JSON string, never an object."""
    one = codec("jsonb")
    assert one.encode is not None
    values: tuple[Value, ...] = (
        *('{"blob": "AA=="}', '{"text": "AA=="}', '{"real": "inf"}', "1", "1.0", "null", ""),
        *(b"\x00", "\x00", BadText(b"\xff"), b"\xff", math.inf, -math.inf, -0.0, 1, b"", 1.0),
    )
    assert len(values) == len({one.encode(value) for value in values})


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("2024-02-29", "date"),
        ("2024-02-29 12:00", "timestamp:_m"),
        ("2024-02-29 12:00:00", "timestamp:_0"),
        ("2024-02-29T12:00:00.123", "timestamp:T3"),
        ("2024-02-29 12:00:00.123456", "timestamp:_6"),
        ("2024-02-29T12:00:00Z", "timestamp:T0Z"),
        ("2024-02-29 12:00:00.123456+00:00", "timestamp:_6+00:00"),
        ("2024-02-30", None),
        ("2024-02-29 25:00:00", None),
        ("2024-02-29 12:00:00.12", None),
        ("2024-02-29 12:00:00+01:00", None),
        ("29.02.2024", None),
        ("now", None),
        ("", None),
    ],
)
def test_form_of(text: str, form: str | None) -> None:
    assert form == form_of(text)


def test_an_unknown_codec_is_a_key_error() -> None:
    for name in ("timestamp:_9", "timestamp:", "nosuch"):
        with pytest.raises(KeyError):
            codec(name)


def test_restore_keeps_an_integral_real_of_an_integer_column() -> None:
    assert repr(1e20) == repr(restore(Affinity.INTEGER, "1e+20"))
    assert repr(5.0) == repr(restore(Affinity.REAL, "5"))
    assert repr(5) == repr(restore(Affinity.NUMERIC, " 5 "))


def test_json_without_a_limit_on_digits() -> None:
    assert is_json("1" * 10_000)
