"""Any value that SQLite can store, in a column of any affinity: to Avro, to PostgreSQL and back with class and bytes."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from schemas.avro import plan_of, value_schema
from schemas.codecs import fits
from schemas.codecs_dates import loosened
from schemas.codecs_numbers import restore
from schemas.errors import Misfit
from schemas.introspect import introspect
from schemas.misfit import widened
from schemas.model import Affinity, BadText, Row, Value
from schemas.plan import TablePlan, build_table_plan
from schemas.profile import profile_table
from schemas.rows import RowCodec
from schemas.typemap import codec, join, widen, wider

DECLARED = (
    *("INTEGER", "BIGINT", "BOOLEAN", "REAL", "DOUBLE", "DECIMAL(10,2)", "NUMERIC", "STRING", "UUID", "JSON", "DATE"),
    *("DATETIME", "TIMESTAMP", "TEXT", "VARCHAR(3)", "BLOB", ""),
)
NAMES = (
    *("boolean", "long", "double", "text", "blob", "text-bytes", "numeric", "date", "json", "jsonb"),
    *("timestamp:_0", "timestamp:_6", "timestamp:_u", "timestamp:T0Z", "timestamp:TuZ", "timestamp:T3+00:00"),
    *("timestamp:_m", "timestamp:Tn", "timestamp:_x", "timestamp:TxZ"),
    *("affinity-text:INTEGER", "affinity-text:NUMERIC", "affinity-text:REAL"),
)

_looks = st.sampled_from(
    (
        *("007", " 5", "5.", ".5e1", "+5", "0x5", "5_0", "\x1c5", "nan", "inf", "-inf", "9e999", "1e400", "-0", "-0.0"),
        *("now", "infinity", "true", "null", "[]", "{}", '{"blob": "AA=="}', '{"a": NaN}', '"\\u0000"', "1 "),
        *("2024-02-29", "2024-02-30", "0000-01-01", "2024-02-29 24:00:00", "2024-02-29 12:00"),
        *("2024-02-29 12:00:00", "2024-02-29T12:00:00.000001", "2024-02-29T12:00:00Z", "2024-02-29 12:00:00+00:00"),
    )
)
_moments = st.datetimes().flatmap(
    lambda moment: st.sampled_from(
        (str(moment), moment.isoformat(), moment.isoformat(" ", "seconds"), f"{moment.isoformat('T', 'milliseconds')}Z")
    )
)
_reals = st.floats(allow_nan=False) | st.integers(-(10**6), 10**6).map(float) | st.sampled_from((-0.0, 2.0**63, 1e20))
_ints = st.integers(-(2**63), 2**63 - 1) | st.sampled_from((0, 1))
_texts = st.text(max_size=8) | _looks | _moments | st.dates().map(str)
_not_utf8 = st.sampled_from((b"\xff", b"ok\xed\xa0\x80", b"\xc0\x80", b"a\x00\xff")).map(BadText)
_one_class = (
    st.lists(_ints | st.none(), max_size=6)
    | st.lists(_reals | st.none(), max_size=6)
    | st.lists(_texts | st.none(), max_size=6)
    | st.lists(_moments, min_size=1, max_size=4)
    | st.lists(st.binary(max_size=4) | st.none(), max_size=6)
)
_any = _ints | _reals | _texts | st.binary(max_size=4) | _not_utf8 | st.none()
values = _one_class | st.lists(_any, max_size=6)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(Path(tmp_path_factory.mktemp("codecs")) / "one.db", create=True)
    one.run("PRAGMA journal_mode = OFF")
    one.run("PRAGMA synchronous = OFF")
    yield one
    one.close()


@pytest.fixture(scope="module")
def target(postgres_url: str) -> Iterator[Postgres]:
    one = Postgres(postgres_url, application_name="tests")
    yield one
    one.close()


def stored(source: SqliteDatabase, declared: str, some: Sequence[Value]) -> tuple[TablePlan, list[Row]]:
    """The plan of a table that holds these values, and its rows as SQLite gives them back."""
    source.run("DROP TABLE IF EXISTS t")
    source.run(f"CREATE TABLE t(id INTEGER PRIMARY KEY, v {declared})")
    return _added(source, some)


def _added(source: SqliteDatabase, some: Sequence[Value]) -> tuple[TablePlan, list[Row]]:
    for value in some:
        marker = "CAST(? AS TEXT)" if isinstance(value, BadText) else "?"
        source.run(f"INSERT INTO t(v) VALUES ({marker})", (bytes(value) if isinstance(value, BadText) else value,))
    table = introspect(source).tables["t"]
    plan = build_table_plan(table, profile_table(source, table), source="s", prefix="p", target_schema="s")
    return plan, source.rows("SELECT id, v FROM t ORDER BY id")


def exact(rows: Sequence[Sequence[Value]]) -> list[str]:
    """Class and bytes of every value; repr tells -0.0 from 0.0, 1 from 1.0, TEXT from BLOB."""
    return [repr([(type(value), value) for value in row]) for row in rows]


def fitted(plan: TablePlan, rows: list[Row]) -> tuple[TablePlan, list[bytes]]:
    """Encode as capture does: a value that does not fit widens its column. At most as often as there are steps."""
    for _ in range(8):
        try:
            return plan, RowCodec(plan).encode_rows(rows)
        except Misfit as misfit:
            plan = widened(plan, misfit.column, [row[1] for row in rows])
    raise AssertionError("widening does not end")


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declared=st.sampled_from(DECLARED), some=values)
@example(declared="", some=[1, 1.0, "1", b"1", BadText(b"\xff"), -0.0, math.inf])
@example(declared="DECIMAL(10,2)", some=[1, 2.5, 1e20])
@example(declared="DATETIME", some=["2024-02-29T12:00:00", "2024-02-29T12:00:00.000001"])
@example(declared="DATETIME", some=["2024-02-29 12:00:00.000000", "2024-02-29 12:00:00.000001"])
@example(declared="TIMESTAMP", some=["2024-02-29T12:00:00+00:00"])
def test_every_stored_value_comes_back_out_of_avro(source: SqliteDatabase, declared: str, some: list[Value]) -> None:
    plan, rows = stored(source, declared, some)
    plan, payloads = fitted(plan, rows)
    reader = RowCodec(plan_of(value_schema(plan)))
    assert exact(rows) == exact(reader.decode_rows(payloads))
    # The way of the copy and the way of the stream give PostgreSQL the same parameters.
    assert repr(reader.rows_to_pg(rows)) == repr(reader.payloads_to_pg(payloads))


@settings(max_examples=600, deadline=None)
@given(
    name=st.sampled_from(
        [f"timestamp:{sep}{digits}{zone}" for sep in "_T" for digits in "m036u" for zone in ("", "Z")]
    ),
    moment=st.datetimes(),
    cut=st.sampled_from((1, 1000, 10**6, 60 * 10**6)),
)
def test_any_moment_that_postgresql_holds_comes_back(name: str, moment: datetime, cut: int) -> None:
    """now() has microseconds whatever form the application's texts had: those of its form keep it, the others are whole,
    and the column that takes both is never another type than a timestamp."""
    moment -= timedelta(microseconds=(moment.second * 10**6 + moment.microsecond) % cut)
    if name[12:]:
        moment = moment.replace(tzinfo=UTC)
    strict, loose = codec(name), codec(loosened(name))
    assert strict.from_pg is not None
    assert loose.from_pg is not None
    assert loose.to_pg is not None
    text = loose.from_pg(moment)
    assert moment == loose.to_pg(text)
    assert fits(loose, text)
    if (
        name[11] not in "6u"
        and fits(strict, strict.from_pg(moment))
        and moment == datetime.fromisoformat(strict.from_pg(moment))
    ):
        assert strict.from_pg(moment) == text
    assert loosened(name) == widen(name, [text], Affinity.NUMERIC) or fits(strict, text)
    assert strict.pg_type == loose.pg_type


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declared=st.sampled_from(DECLARED), some=values)
@example(declared="", some=[1, 1.0, "1", b"1", BadText(b"\xff"), -0.0, math.inf, 5e-324, 1.7976931348623157e308])
@example(declared="JSON", some=['{"b": 1,  "a": 2, "a": 3}', '"\\u0000"'])
@example(declared="DATETIME", some=["0001-01-01 00:00:00", "9999-12-31 23:59:59"])
@example(declared="DATETIME", some=["0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
@example(declared="DATE", some=["0001-01-01", "9999-12-31"])
def test_every_stored_value_comes_back_out_of_postgres(
    source: SqliteDatabase, target: Postgres, declared: str, some: list[Value]
) -> None:
    plan, rows = stored(source, declared, some)
    plan, _ = fitted(plan, rows)
    one = RowCodec(plan)
    target.run("DROP TABLE IF EXISTS pg_temp.codecs")
    target.run(f"CREATE TEMPORARY TABLE codecs(id bigint, v {plan.columns[1].pg_type})")
    target.copy_in("COPY pg_temp.codecs FROM STDIN (FORMAT BINARY)", one.pg_types, one.rows_to_pg(rows))
    assert exact(rows) == exact(
        one.rows_from_pg(target.rows("SELECT * FROM pg_temp.codecs ORDER BY id", prepare=False))
    )


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(declared=st.sampled_from(DECLARED), first=values, later=values)
@example(declared="DATETIME", first=["2024-02-29 12:00:00.000000"], later=["2024-02-29 12:00:00"])
@example(declared="STRING", first=["abc"], later=[7])
@example(declared="STRING", first=["\x1c5"], later=[7])
@example(declared="REAL", first=[5], later=["5 apples"])
def test_widening_for_later_values_keeps_the_earlier_ones(
    source: SqliteDatabase, declared: str, first: list[Value], later: list[Value]
) -> None:
    plan, rows = stored(source, declared, first)
    plan, _ = fitted(plan, rows)
    _, all_rows = _added(source, later)
    final, _ = fitted(plan, all_rows[len(rows) :])
    now = codec(final.columns[1].codec)
    assert [] == [row for row in rows if not fits(now, row[1])]
    assert now.name == join(plan.columns[1].codec, now.name, Affinity(plan.columns[1].affinity))


@given(one=st.sampled_from(NAMES), other=st.sampled_from(NAMES), third=st.sampled_from(NAMES))
@settings(max_examples=500)
def test_join_is_a_lattice(one: str, other: str, third: str) -> None:
    for affinity in (*Affinity, None):
        joined = join(one, other, affinity)
        assert joined == join(other, one, affinity)
        assert one == join(one, one, affinity)
        assert joined == join(joined, one, affinity)
    assert join(join(one, other, Affinity.BLOB), third, Affinity.BLOB) == join(
        one, join(other, third, Affinity.BLOB), Affinity.BLOB
    )


@given(name=st.sampled_from(NAMES), affinity=st.sampled_from(list(Affinity)), value=_any)
@settings(max_examples=1000)
def test_wider_codecs_accept_what_the_narrower_accepts(name: str, affinity: Affinity, value: Value) -> None:
    if not fits(codec(name), value) or (isinstance(value, str) and restore(affinity, value) != value):
        return  # such a text is never stored in a column of this affinity
    assert [] == [wide for wide in wider(name, affinity) if not fits(codec(wide), value)]


@given(
    text=_looks | st.text(alphabet="0123456789+-.eE _x\t\n\x0b\x1c\x85\xa0", max_size=8),
    affinity=st.sampled_from(("INTEGER", "NUMERIC", "REAL")),
)
@settings(max_examples=1000, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_restore_agrees_with_sqlite(source: SqliteDatabase, text: str, affinity: str) -> None:
    """Number or text: on that question the way back and SQLite must be of one mind."""
    source.run("DROP TABLE IF EXISTS a")
    source.run(f"CREATE TABLE a(v {affinity})")
    source.run("INSERT INTO a VALUES (?)", (text,))
    kept = source.rows("SELECT v FROM a")[0][0]
    back = restore(Affinity(affinity), text)
    assert isinstance(kept, str) == isinstance(back, str)
    assert kept == back


@given(value=_any)
@settings(max_examples=500)
def test_what_jsonb_gets_is_json(value: Value) -> None:
    one = codec("jsonb")
    if value is not None:
        assert one.encode is not None
        json.loads(one.encode(value))
