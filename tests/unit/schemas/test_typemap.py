"""Which codec a column gets, and that no two keys meet on the target unless SQLite itself calls them equal."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator

import pytest

from adapters.postgres import Postgres
from schemas.codecs import fits
from schemas.model import Affinity, BadText, Column, Value
from schemas.policy import ColumnPolicy
from schemas.profile import ColumnProfile
from schemas.typemap import choose, codec, join, widen

INT, REAL, TEXT, BLOB = ColumnProfile(ints=3), ColumnProfile(reals=3), ColumnProfile(texts=3), ColumnProfile(blobs=3)
EMPTY, BITS = ColumnProfile(), ColumnProfile(ints=3, small_ints=True)
NUMBERS = ColumnProfile(ints=3, reals=3)


def col(declared: str, affinity: Affinity) -> Column:
    return Column("c", declared, affinity)


CHOICES = [
    (col("INTEGER", Affinity.INTEGER), INT, "long"),
    (col("INTEGER", Affinity.INTEGER), BITS, "long"),
    (col("BOOLEAN", Affinity.NUMERIC), BITS, "boolean"),
    (col("BOOLEAN", Affinity.NUMERIC), INT, "long"),
    (col("REAL", Affinity.REAL), REAL, "double"),
    (col("DECIMAL(10,2)", Affinity.NUMERIC), NUMBERS, "numeric"),
    (col("DECIMAL(10,2)", Affinity.NUMERIC), INT, "numeric"),
    (col("NUMERIC", Affinity.NUMERIC), REAL, "numeric"),
    (col("NUMERIC", Affinity.NUMERIC), ColumnProfile(reals=3, infinite=True), "double"),
    (col("NUMERIC", Affinity.NUMERIC), ColumnProfile(ints=1, reals=3, infinite=True), "affinity-text:NUMERIC"),
    (col("INTEGER", Affinity.INTEGER), NUMBERS, "numeric"),
    (col("", Affinity.BLOB), NUMBERS, "jsonb"),
    (col("TEXT", Affinity.TEXT), TEXT, "text"),
    (col("TEXT", Affinity.TEXT), ColumnProfile(texts=3, awkward_text=1), "text-bytes"),
    (col("JSON", Affinity.NUMERIC), ColumnProfile(texts=3, form="json"), "json"),
    (col("DATE", Affinity.NUMERIC), ColumnProfile(texts=3, form="date"), "date"),
    (col("DATETIME", Affinity.NUMERIC), ColumnProfile(texts=3, form="timestamp:T0Z"), "timestamp:T0Z"),
    (col("DATETIME", Affinity.NUMERIC), TEXT, "text"),
    (col("BLOB", Affinity.BLOB), BLOB, "blob"),
    (col("INTEGER", Affinity.INTEGER), ColumnProfile(ints=1, texts=1), "affinity-text:INTEGER"),
    (col("INTEGER", Affinity.INTEGER), ColumnProfile(ints=1, texts=2, awkward_text=1), "jsonb"),
    (col("TEXT", Affinity.TEXT), ColumnProfile(texts=1, blobs=1), "jsonb"),
    (col("TEXT", Affinity.TEXT), ColumnProfile(texts=1, blobs=1, awkward_text=1), "jsonb"),
    (col("", Affinity.BLOB), ColumnProfile(ints=1, texts=1), "jsonb"),
    (col("DECIMAL", Affinity.NUMERIC), EMPTY, "numeric"),
    (col("DATETIME", Affinity.NUMERIC), EMPTY, "text"),
    (col("JSON", Affinity.NUMERIC), EMPTY, "json"),
    (col("BOOLEAN", Affinity.NUMERIC), EMPTY, "boolean"),
    (col("VARCHAR(9)", Affinity.TEXT), ColumnProfile(nulls=4), "text"),
]


@pytest.mark.parametrize(("column", "profile", "name"), CHOICES)
def test_choose(column: Column, profile: ColumnProfile, name: str) -> None:
    chosen, why = choose(column, profile, in_key=False)
    assert name == chosen.name
    assert why


def test_keys_never_become_boolean_or_json() -> None:
    boolean, document = col("BOOLEAN", Affinity.NUMERIC), col("JSON", Affinity.NUMERIC)
    assert "long" == choose(boolean, BITS, in_key=True)[0].name
    assert "text" == choose(document, ColumnProfile(texts=1, form="json"), in_key=True)[0].name
    assert "text" == choose(document, ColumnProfile(texts=1, form="json"), in_key=False, indexed=True)[0].name
    assert "long" == choose(col("DECIMAL", Affinity.NUMERIC), INT, in_key=True)[0].name


def test_storage_types_keep_text_as_text_and_bits_as_bigint() -> None:
    def name(declared: str, profile: ColumnProfile) -> str:
        return choose(col(declared, Affinity.NUMERIC), profile, in_key=False, policy=ColumnPolicy(types="storage"))[
            0
        ].name

    assert "long" == name("BOOLEAN", BITS)
    assert "text" == name("DATE", ColumnProfile(texts=1, form="date"))
    assert "text" == name("JSON", ColumnProfile(texts=1, form="json"))
    assert "double" == name("DECIMAL", REAL)


@pytest.mark.parametrize(
    ("name", "values", "affinity", "expected"),
    [
        ("boolean", [2], Affinity.NUMERIC, "long"),
        ("boolean", [0.5], Affinity.NUMERIC, "numeric"),
        ("long", [0.5], Affinity.INTEGER, "numeric"),
        ("long", [0.5], Affinity.BLOB, "jsonb"),
        ("long", ["x"], Affinity.INTEGER, "affinity-text:INTEGER"),
        ("numeric", [math.inf], Affinity.NUMERIC, "affinity-text:NUMERIC"),
        ("numeric", ["n/a"], Affinity.NUMERIC, "affinity-text:NUMERIC"),
        ("numeric", [b"x"], Affinity.NUMERIC, "jsonb"),
        ("double", ["n/a"], Affinity.REAL, "affinity-text:REAL"),
        ("date", ["2024-02-29 12:00:00"], Affinity.NUMERIC, "text"),
        ("date", [20240229], Affinity.NUMERIC, "affinity-text:NUMERIC"),
        ("timestamp:_0", ["2024-02-29 12:00:00.000001"], Affinity.TEXT, "timestamp:_u"),
        ("timestamp:_3", ["2024-02-29 12:00:00.000001"], Affinity.TEXT, "timestamp:_x"),
        ("timestamp:_m", ["2024-02-29 12:00:01"], Affinity.TEXT, "timestamp:_n"),
        ("timestamp:_6", ["2024-02-29 12:00:00"], Affinity.TEXT, "text"),
        ("json", ["no json"], Affinity.NUMERIC, "text"),
        ("text", ["a\x00"], Affinity.TEXT, "text-bytes"),
        ("text", [b"a"], Affinity.TEXT, "jsonb"),
        ("text-bytes", [b"a"], Affinity.TEXT, "jsonb"),
        ("jsonb", [1, b"a"], Affinity.BLOB, "jsonb"),
    ],
)
def test_widen(name: str, values: list[Value], affinity: Affinity, expected: str) -> None:
    assert expected == widen(name, values, affinity)


def test_six_digits_do_not_become_the_form_that_leaves_zeros_out() -> None:
    """'.000000' already stored under six digits would come back without them."""
    assert "text" == join("timestamp:_6", "timestamp:_u")
    assert "timestamp:_u" == join("timestamp:_0", "timestamp:_u")


KEYS: tuple[Value, ...] = (
    *(0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), 0.0, 1.0, 0.5, 2.0**53, 1e20, 2.0**63, math.inf, 5e-324),
    *("", "0", "1", "1.0", "0.5", "a", "A", "a ", "\u00e9", "e\u0301", "a\x00", "null", "9e999"),
    *('{"blob": ""}', "2024-02-29", "2024-02-28", "inf"),
    *(b"", b"0", b"1", b"a", b"a\x00", b"\xff", BadText(b"\xff"), BadText(b"a\xff")),
    *("2024-02-29 12:00:00", "2024-02-29 12:00:00.000001", "2024-02-29 12:00:01"),
)
KEY_CODECS = (
    *("long", "double", "text", "blob", "text-bytes", "numeric", "jsonb", "date", "timestamp:_0", "timestamp:_u"),
    *("affinity-text:INTEGER", "affinity-text:NUMERIC", "affinity-text:REAL"),
)


@pytest.fixture(scope="module")
def target(postgres_url: str) -> Iterator[Postgres]:
    one = Postgres(postgres_url, application_name="tests")
    yield one
    one.close()


def equal_in_sqlite(one: Value, other: Value) -> bool:
    """SQLite: INTEGER and REAL compare by number, every other class is equal only to its own bytes."""
    if isinstance(one, int | float) and isinstance(other, int | float):
        return one == other
    return type(one) is type(other) and one == other


def can_hold(name: str, value: Value) -> bool:
    """INTEGER and NUMERIC affinity store an integral real as an integer: 1 and 1.0 never meet in such a column."""
    integral = isinstance(value, float) and value.is_integer() and abs(value) < 2.0**63
    return not (integral and name in ("affinity-text:INTEGER", "affinity-text:NUMERIC"))


@pytest.mark.parametrize("name", KEY_CODECS)
def test_keys_are_equal_on_the_target_only_where_sqlite_says_so(target: Postgres, name: str) -> None:
    one = codec(name)
    values = [value for value in KEYS if fits(one, value) and can_hold(name, value)]
    assert 2 <= len(values)
    collate = ' COLLATE "C"' if one.pg_type == "text" else ""
    target.run("DROP TABLE IF EXISTS pg_temp.keys")
    target.run(f"CREATE TEMPORARY TABLE keys(at bigint, k {one.pg_type}{collate})")
    rows = []
    for at, value in enumerate(values):
        way: object = value
        for function in (one.encode, one.to_pg):
            way = function(way) if function is not None else way
        rows.append((at, way))
    target.copy_in("COPY pg_temp.keys FROM STDIN (FORMAT BINARY)", ("bigint", one.pg_type), rows)
    met = target.rows("SELECT a.at, b.at FROM keys a JOIN keys b ON a.at < b.at AND a.k = b.k", prepare=False)
    expected = {
        (a, b)
        for (a, one_value), (b, other) in itertools.combinations(enumerate(values), 2)
        if equal_in_sqlite(one_value, other)
    }
    assert expected == set(met)
