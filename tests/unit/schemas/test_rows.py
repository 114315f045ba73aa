"""A batch through all conversions of a plan, and the misfits that stop one."""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal

import pytest

from schemas.avro import key_schema
from schemas.errors import Misfit
from schemas.model import BadText, Row
from schemas.plan import ColumnPlan, TablePlan
from schemas.rows import KeyCodec, RowCodec
from schemas.typemap import codec

CODECS = ("long", "double", "text", "blob", "boolean", "text-bytes", "numeric", "date", "timestamp:_0", "json", "jsonb")
ROWS: list[Row] = [
    (1, -0.0, "a", b"\x00", 1, "a\x00", 0.1, "2024-02-29", "2024-02-29 12:00:00", '{ "a":1}', "x"),
    (2, math.inf, "", b"", 0, BadText(b"\xff"), 5, "0001-01-01", "0001-01-01 00:00:00", "[]", b"x"),
    (3, *[None] * 10),
]


def plan(*names: str, key: tuple[str, ...] = ("c0",)) -> TablePlan:
    columns = tuple(
        ColumnPlan(f"c{at}", f"c{at}", "", codec(name).pg_type, name, False, "", "BLOB")
        for at, name in enumerate(names)
    )
    return TablePlan("s", "t", "s", "t", "p.s.t-t", columns, key)


def test_rows_there_and_back() -> None:
    one = RowCodec(plan(*CODECS))
    payloads = one.encode_rows(ROWS)
    assert repr(ROWS) == repr(one.decode_rows(payloads))
    assert one.rows_to_pg(ROWS) == one.payloads_to_pg(payloads)
    assert repr(ROWS) == repr(one.rows_from_pg(one.rows_to_pg(ROWS)))


def test_parameters_have_one_python_type_a_column() -> None:
    """psycopg refuses a list that mixes int and float: numeric gives Decimal always."""
    first, second, _ = RowCodec(plan(*CODECS)).rows_to_pg(ROWS)
    assert [type(value) for value in first] == [type(value) for value in second]
    assert [bool, bytes, Decimal, date, datetime, str, str] == [type(value) for value in first[4:]]


def test_keys_there_and_back() -> None:
    shape = plan("long", "jsonb", "text-bytes", key=("c1", "c2"))
    one = RowCodec(shape)
    keys = [(1, "a"), (1.0, BadText(b"\xff")), (b"\x00", "")]
    payloads = one.encode_keys(keys)
    assert repr(keys) == repr(one.decode_keys(payloads))
    assert repr(keys) == repr(KeyCodec(key_schema(shape)).decode(payloads))
    assert one.sqlite_keys_to_pg(keys) == one.keys_to_pg(payloads)
    assert ("jsonb", "bytea") == one.key_pg_types
    assert 3 == len(set(payloads))


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("long", 1.0, "float"),
        ("long", True, "bool"),
        ("blob", BadText(b"a"), "BadText"),
        ("text", b"a", "bytes"),
        ("text", "a\x00", "a value its check refuses"),
        ("numeric", 5.0, "a value its check refuses"),
        ("date", "now", "a value its check refuses"),
    ],
)
def test_one_misfit_stops_the_batch(name: str, value: object, found: str) -> None:
    one = RowCodec(plan("long", name))
    good = {"long": 1, "blob": b"", "text": "", "numeric": 1, "date": "2024-02-29"}[name]
    rows = [(1, good), (2, None), (3, value), (4, good)]
    for way in (one.encode_rows, one.rows_to_pg):
        with pytest.raises(Misfit) as caught:
            way(rows)  # type: ignore[arg-type]
        assert ("c1", found, name) == (caught.value.column, caught.value.found, caught.value.codec)
        assert "now" not in str(caught.value)


def test_a_key_that_does_not_fit() -> None:
    one = RowCodec(plan("long", "text"))
    for way in (one.encode_keys, one.sqlite_keys_to_pg):
        with pytest.raises(Misfit):
            way([(1,), ("x",)])


def test_an_empty_batch() -> None:
    one = RowCodec(plan(*CODECS))
    for result in (one.encode_rows([]), one.decode_rows([]), one.rows_to_pg([]), one.payloads_to_pg([])):
        assert [] == result
    assert [] == one.rows_from_pg([])


def test_clean_batches_are_not_copied() -> None:
    one = RowCodec(plan("long", "double", "blob"))
    rows: list[Row] = [(1, 1.0, b"")]
    assert rows is one.rows_to_pg(rows)
