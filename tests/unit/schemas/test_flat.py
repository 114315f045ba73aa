"""Our Avro bytes against fastavro's, both ways, and payloads that are not whole."""

from __future__ import annotations

import io
import json
from typing import Any

import fastavro
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.errors import Code, Failed, Refusal
from schemas.flat import field_types, reader, write_columns

TYPES = ("long", "double", "boolean", "bytes", "string", "long", "string")
SCHEMA = json.dumps(
    {
        "type": "record",
        "name": "r",
        "fields": [{"name": f"f{at}", "type": ["null", kind]} for at, kind in enumerate(TYPES)],
    }
)
PARSED = fastavro.parse_schema(json.loads(SCHEMA))

longs = st.integers(-(2**63), 2**63 - 1) | st.sampled_from([0, -1, 63, 64, -64, -65, 8191, 8192, 65535, 65536])
strings = st.text(max_size=9) | st.sampled_from(["", "é" * 63, "x" * 64, "x" * 4095, "x" * 4096, "漢" * 3000, "\x00"])
fields = {
    "long": longs,
    "double": st.floats(),
    "boolean": st.booleans(),
    "bytes": st.binary(max_size=9) | strings.map(str.encode),
    "string": strings,
}
rows = st.lists(st.tuples(*(st.none() | fields[kind] for kind in TYPES)), min_size=1, max_size=4)


def theirs(row: tuple[Any, ...]) -> bytes:
    buffer = io.BytesIO()
    fastavro.schemaless_writer(buffer, PARSED, {f"f{at}": value for at, value in enumerate(row)})
    return buffer.getvalue()


@given(some=rows)
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_the_same_bytes_as_fastavro(some: list[tuple[Any, ...]]) -> None:
    payloads = write_columns(TYPES, list(zip(*some, strict=True)))
    assert [theirs(row) for row in some] == payloads
    assert repr(some) == repr(reader(TYPES)(payloads))


@given(some=rows, cut=st.integers(0, 10**6), more=st.binary(min_size=1, max_size=3))
@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_payload_that_is_not_whole_is_refused(some: list[tuple[Any, ...]], cut: int, more: bytes) -> None:
    """A slice beyond the end of bytes is no error in Python: it would be a shorter value, and a changed row."""
    whole = write_columns(TYPES, list(zip(*some, strict=True)))[0]
    for broken in (whole[: cut % len(whole)], whole + more):
        with pytest.raises(Failed) as caught:
            reader(TYPES)([broken])
        assert Code.STREAM_UNREADABLE is caught.value.code


@pytest.mark.parametrize("payload", [b"\x04\x02", b"\x02\x01a", b"\x02\x02\xff", b"\x02", b"", b"\x02\x80"])
def test_a_strange_string_is_refused(payload: bytes) -> None:
    """Another branch of the union, a negative length, bytes that are not UTF-8, no length, nothing, half a length."""
    with pytest.raises(Failed):
        reader(("string",))([payload])


def test_field_types() -> None:
    assert TYPES == field_types(SCHEMA)
    for kind in (["string", "null"], "long", ["null", "float"], ["null", "long", "string"]):
        with pytest.raises(Refusal) as caught:
            field_types(json.dumps({"fields": [{"name": "f", "type": kind}]}))
        assert Code.FORMAT_NEWER is caught.value.code


def test_no_rows_and_no_payloads() -> None:
    assert [] == write_columns(("long",), [[]])
    assert [] == reader(("long",))([])
