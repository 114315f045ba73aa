"""Avro schemas: golden text, the plan back out of them, framing."""

from __future__ import annotations

import json
from pathlib import Path

import fastavro
import pytest

from schemas.avro import frame, key_schema, plan_of, subject_of_key, subject_of_value, unframe, value_schema
from schemas.errors import Code, Failed
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import codec

GOLDEN = Path(__file__).resolve().parents[2] / "golden" / "avro_schemas.json"


def column(name: str, target: str, codec_name: str) -> ColumnPlan:
    return ColumnPlan(name, target, "ANY", codec(codec_name).pg_type, codec_name, False, "why", "NUMERIC")


PLAN = TablePlan(
    "main db",
    "Order Details",
    "app",
    "order details",
    "p.main_20db.t-Order_20Details",
    (
        column("a b", "a b", "jsonb"),
        column("a_x20b", "a_x20b", "numeric"),
        column("", "_empty", "timestamp:T0Z"),
        column("ünï", "ünï", "text-bytes"),
        column("id", "id", "long"),
        column("on", "on", "boolean"),
        column("r", "r", "double"),
    ),
    ("id", "a b"),
)


def test_schemas_are_what_they_were() -> None:
    """The stream outlives this program: a change here must be a decision. Names stay apart after escaping."""
    now = {"value": json.loads(value_schema(PLAN)), "key": json.loads(key_schema(PLAN))}
    assert json.loads(GOLDEN.read_text(encoding="utf-8")) == now


def test_the_plan_comes_back_whole() -> None:
    assert PLAN == plan_of(value_schema(PLAN))
    assert value_schema(PLAN) == value_schema(plan_of(value_schema(PLAN)))


def test_schemas_are_avro() -> None:
    for text in (value_schema(PLAN), key_schema(PLAN)):
        fastavro.parse_schema(json.loads(text))


def test_subjects() -> None:
    assert f"{PLAN.topic}-value" == subject_of_value(PLAN)
    assert f"{PLAN.topic}-key" == subject_of_key(PLAN)


@pytest.mark.parametrize("schema_id", [1, 255, 2**31 - 1])
def test_framing(schema_id: int) -> None:
    raw = frame(schema_id, b"\x00payload")
    assert b"\x00" + schema_id.to_bytes(4, "big") + b"\x00payload" == raw
    assert (schema_id, b"\x00payload") == unframe(raw)


@pytest.mark.parametrize("raw", [b"", b"\x00\x00\x00\x01", b"\x01\x00\x00\x00\x01x", b"{}......"])
def test_what_is_not_framed_is_refused(raw: bytes) -> None:
    with pytest.raises(Failed) as caught:
        unframe(raw)
    assert Code.STREAM_UNREADABLE is caught.value.code
