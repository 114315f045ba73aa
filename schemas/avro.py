"""Decide: Avro schemas of keys and rows, from a plan and back, and Confluent's framing.

Invariant: the plan comes back whole out of the value schema: the sink needs nothing but the stream.
Rows are flat records of nullable fields: an envelope costs fastavro a factor of three.
"""

from __future__ import annotations

import json
import struct
from typing import Any

from schemas.errors import Code, Failed
from schemas.formats import ROWS, refuse_unreadable
from schemas.names import avro_name
from schemas.plan import TablePlan, plan_from_json, plan_to_json
from schemas.typemap import codec

MAGIC = b"\x00"
_HEADER = struct.Struct(">bI")
HEADER_BYTES = 5


def value_schema(plan: TablePlan) -> str:
    """Canonical JSON text of the row schema: every field nullable, what the target needs in its properties."""
    fields = [
        {
            "name": avro_name(column.name),
            "type": ["null", codec(column.codec).avro_type],
            "default": None,
            "tailrace.name": column.name,
            "tailrace.declared": column.declared,
            "tailrace.type": column.pg_type,
            "tailrace.codec": column.codec,
        }
        for column in plan.columns
    ]
    return _canonical(
        {
            "type": "record",
            "name": avro_name(plan.table),
            "namespace": f"tailrace.{avro_name(plan.source)}",
            "fields": fields,
            "tailrace.plan": plan_to_json(plan),
        }
    )


def key_schema(plan: TablePlan) -> str:
    """Canonical JSON text of the key schema; key columns of a declared key are never null."""
    fields = [
        {
            "name": avro_name(column.name),
            "type": ["null", codec(column.codec).avro_type],
            "tailrace.codec": column.codec,
        }
        for column in (plan.columns[at] for at in plan.key_indexes)
    ]
    return _canonical(
        {
            "type": "record",
            "name": f"{avro_name(plan.table)}_key",
            "namespace": f"tailrace.{avro_name(plan.source)}",
            "fields": fields,
        }
    )


def plan_of(schema: str) -> TablePlan:
    """The plan inside a value schema."""
    document = json.loads(schema)
    # Written only from 2 on: a schema that says the same keeps its text and its id.
    refuse_unreadable(ROWS, document.get("tailrace.format", 1), f"schema of {document.get('name')}")
    return plan_from_json(document["tailrace.plan"])


def subject_of_value(plan: TablePlan) -> str:
    return f"{plan.topic}-value"


def subject_of_key(plan: TablePlan) -> str:
    return f"{plan.topic}-key"


def _canonical(document: dict[str, Any]) -> str:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def frame(schema_id: int, payload: bytes) -> bytes:
    return _HEADER.pack(0, schema_id) + payload


def unframe(raw: bytes) -> tuple[int, bytes]:
    """(schema id, payload). Raises Failed(STREAM_UNREADABLE) for anything that is not framed so."""
    if len(raw) < HEADER_BYTES or raw[:1] != MAGIC:
        raise Failed(
            Code.STREAM_UNREADABLE,
            "a record does not begin with the framing byte 0x00 and a schema id",
            hint="another program writes to this topic; use another prefix",
        )
    return int.from_bytes(raw[1:HEADER_BYTES], "big"), raw[HEADER_BYTES:]
