"""Decide: rows and keys through their codecs, a batch at a time.

Invariant: every value is tested against its codec before it is encoded; a value that does not fit raises Misfit with the
column's name and nothing of the batch is used. The test runs by column (`set(map(type, column))`), so that a batch of
clean values costs no Python call per value.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import fastavro

from schemas.avro import key_schema, value_schema
from schemas.errors import Misfit
from schemas.model import Key, Row
from schemas.names import avro_name
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import Codec, codec

_NONE = type(None)


class RowCodec:
    """All conversions of one table plan. Rows are tuples in the order of `plan.columns`, keys in key order."""

    def __init__(self, plan: TablePlan) -> None:
        self.plan = plan
        self.pg_types = tuple(column.pg_type for column in plan.columns)
        self.key_pg_types = tuple(plan.columns[at].pg_type for at in plan.key_indexes)
        self._row = _Side(plan.columns, value_schema(plan))
        self._key = _Side(tuple(plan.columns[at] for at in plan.key_indexes), key_schema(plan))

    def encode_rows(self, rows: Sequence[Row]) -> list[bytes]:
        return self._row.encode(rows)

    def encode_keys(self, keys: Sequence[Key]) -> list[bytes]:
        return self._key.encode(keys)

    def decode_rows(self, payloads: Iterable[bytes]) -> list[Row]:
        return _by_column(self._row.decode(payloads), self._row.decoders)

    def decode_keys(self, payloads: Iterable[bytes]) -> list[Key]:
        return _by_column(self._key.decode(payloads), self._key.decoders)

    def payloads_to_pg(self, payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        return _by_column(self._row.decode(payloads), self._row.to_pg)

    def keys_to_pg(self, payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        return _by_column(self._key.decode(payloads), self._key.to_pg)

    def rows_to_pg(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """SQLite rows straight to psycopg parameters; raises Misfit as encode_rows does."""
        self._row.test(rows)
        return _by_column(_by_column(rows, self._row.encoders), self._row.to_pg)

    def sqlite_keys_to_pg(self, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        self._key.test(keys)
        return _by_column(_by_column(keys, self._key.encoders), self._key.to_pg)

    def rows_from_pg(self, rows: Sequence[tuple[Any, ...]]) -> list[Row]:
        """psycopg results back to SQLite values."""
        return _by_column(_by_column(rows, self._row.from_pg), self._row.decoders)


class _Side:
    """Columns of a row or of a key with their codecs."""

    def __init__(self, columns: Sequence[ColumnPlan], schema: str) -> None:
        self.columns = columns
        self.codecs: list[Codec] = [codec(column.codec) for column in columns]
        self.names = [avro_name(column.name) for column in columns]
        self.encoders = _functions(self.codecs, "encode")
        self.decoders = _functions(self.codecs, "decode")
        self.to_pg = _functions(self.codecs, "to_pg")
        self.from_pg = _functions(self.codecs, "from_pg")
        self._schema = fastavro.parse_schema(json.loads(schema))

    def test(self, rows: Sequence[Sequence[Any]]) -> None:
        if not rows:
            return
        for column, one, values in zip(self.columns, self.codecs, zip(*rows, strict=True), strict=True):
            strange = set(map(type, values)) - one.accepts - {_NONE}
            if strange:
                raise Misfit(column.name, strange.pop().__name__, one.name)
            if one.check is not None and not all(map(one.check, (v for v in values if v is not None))):
                raise Misfit(column.name, "a value its check refuses", one.name)

    def encode(self, rows: Sequence[tuple[Any, ...]]) -> list[bytes]:
        self.test(rows)
        names, schema, write = self.names, self._schema, fastavro.schemaless_writer
        buffer = io.BytesIO()
        payloads = []
        for row in _by_column(rows, self.encoders):
            buffer.seek(0)
            buffer.truncate()
            write(buffer, schema, dict(zip(names, row, strict=True)))
            payloads.append(buffer.getvalue())
        return payloads

    def decode(self, payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        schema, read = self._schema, fastavro.schemaless_reader
        rows: list[Any] = [read(io.BytesIO(payload), schema, None) for payload in payloads]
        return [tuple(row.values()) for row in rows]


def _functions(codecs: Sequence[Codec], attribute: str) -> list[tuple[int, Callable[[Any], Any]]]:
    """(column, function) of the columns that need a call per value."""
    found = ((at, getattr(one, attribute)) for at, one in enumerate(codecs))
    return [(at, function) for at, function in found if function is not None]


def _by_column(
    rows: Sequence[tuple[Any, ...]], functions: Sequence[tuple[int, Callable[[Any], Any]]]
) -> list[tuple[Any, ...]]:
    """Apply functions to some columns of all rows; None stays None."""
    if not functions or not rows:
        return rows if isinstance(rows, list) else list(rows)
    columns = list(zip(*rows, strict=True))
    for at, function in functions:
        columns[at] = tuple([None if value is None else function(value) for value in columns[at]])
    return list(zip(*columns, strict=True))


class KeyCodec:
    """Keys of one key schema, also of one that is older than the table's plan."""

    def __init__(self, schema: str) -> None:
        document = json.loads(schema)
        columns = tuple(
            ColumnPlan(field["name"], field["name"], "", "", field["tailrace.codec"], True, "")
            for field in document["fields"]
        )
        self._side = _Side(columns, schema)

    def decode(self, payloads: Iterable[bytes]) -> list[Key]:
        """SQLite values of the keys."""
        return _by_column(self._side.decode(payloads), self._side.decoders)
