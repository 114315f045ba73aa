"""Decide: rows and keys through their codecs, a batch at a time.

Invariant: every value is tested against its codec before it is encoded; a value that does not fit raises Misfit with the
column's name and nothing of the batch is used. Everything runs by column (`set(map(type, column))`), so that a batch of
clean values costs no Python call per value.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from schemas.avro import key_schema, value_schema
from schemas.codecs import all_fit
from schemas.errors import Misfit
from schemas.flat import field_types, reader, write_columns
from schemas.model import Key, Row
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import Codec, codec

_NONE = type(None)
_Functions = list[tuple[int, Callable[[Any], Any]]]


class RowCodec:
    """All conversions of one table plan. Rows are tuples in the order of `plan.columns`, keys in key order."""

    def __init__(self, plan: TablePlan) -> None:
        self.plan = plan
        self.pg_types = tuple(column.pg_type for column in plan.columns)
        self.key_pg_types = tuple(plan.columns[at].pg_type for at in plan.key_indexes)
        self._row = _Side(plan.columns, value_schema(plan))
        self._key = _Side(tuple(plan.columns[at] for at in plan.key_indexes), key_schema(plan))

    def encode_rows(self, rows: Sequence[Row]) -> list[bytes]:
        """Avro payloads. Raises Misfit."""
        return self._row.encode(rows)

    def encode_keys(self, keys: Sequence[Key]) -> list[bytes]:
        return self._key.encode(keys)

    def decode_rows(self, payloads: Iterable[bytes]) -> list[Row]:
        """SQLite values. Raises Failed(STREAM_UNREADABLE) for a payload of another schema."""
        return _by_column(self._row.decode(payloads), self._row.decoders)

    def decode_keys(self, payloads: Iterable[bytes]) -> list[Key]:
        return _by_column(self._key.decode(payloads), self._key.decoders)

    def payloads_to_pg(self, payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        return _by_column(self._row.decode(payloads), self._row.to_pg)

    def keys_to_pg(self, payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        return _by_column(self._key.decode(payloads), self._key.to_pg)

    def rows_to_pg(self, rows: Sequence[Row]) -> list[tuple[Any, ...]]:
        """SQLite rows straight to psycopg parameters; raises Misfit as encode_rows does."""
        return self._row.to_parameters(rows)

    def sqlite_keys_to_pg(self, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
        return self._key.to_parameters(keys)

    def rows_from_pg(self, rows: Sequence[tuple[Any, ...]]) -> list[Row]:
        """psycopg results back to SQLite values."""
        return _by_column(rows, self._row.from_pg, self._row.decoders)

    def keys_from_pg(self, keys: Sequence[tuple[Any, ...]]) -> list[Key]:
        """psycopg results of the key columns back to SQLite keys."""
        return _by_column(keys, self._key.from_pg, self._key.decoders)


class _Side:
    """Columns of a row or of a key with their codecs."""

    def __init__(self, columns: Sequence[ColumnPlan], schema: str) -> None:
        self.columns = columns
        self.codecs: list[Codec] = [codec(column.codec) for column in columns]
        self.encoders = _functions(self.codecs, "encode")
        self.decoders = _functions(self.codecs, "decode")
        self.to_pg = _functions(self.codecs, "to_pg")
        self.from_pg = _functions(self.codecs, "from_pg")
        # The types come from the schema that travels, not from the codecs of this program's version.
        self._types = field_types(schema)
        self.decode = reader(self._types)

    def encode(self, rows: Sequence[Sequence[Any]]) -> list[bytes]:
        if not rows:
            return []
        columns = self._tested(rows)
        _apply(columns, self.encoders)
        return write_columns(self._types, columns)

    def to_parameters(self, rows: Sequence[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
        if not rows:
            return []
        columns = self._tested(rows)
        if not self.encoders and not self.to_pg:
            return rows if isinstance(rows, list) else list(rows)
        _apply(columns, self.encoders)
        _apply(columns, self.to_pg)
        return list(zip(*columns, strict=True))

    def _tested(self, rows: Sequence[Sequence[Any]]) -> list[Sequence[Any]]:
        """The rows by column, each value tested."""
        columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
        for column, one, values in zip(self.columns, self.codecs, columns, strict=True):
            types = set(map(type, values))
            strange = types - one.accepts - {_NONE}
            if strange:
                raise Misfit(column.name, strange.pop().__name__, one.name)
            if one.check is not None:
                present = [value for value in values if value is not None] if _NONE in types else values
                if not all_fit(one, present):
                    raise Misfit(column.name, "a value its check refuses", one.name)
        return columns


def _functions(codecs: Sequence[Codec], attribute: str) -> _Functions:
    """(column, function) of the columns that need a call per value."""
    found = ((at, getattr(one, attribute)) for at, one in enumerate(codecs))
    return [(at, function) for at, function in found if function is not None]


def _apply(columns: list[Sequence[Any]], functions: _Functions) -> None:
    """None stays None."""
    for at, function in functions:
        columns[at] = [None if value is None else function(value) for value in columns[at]]


def _by_column(rows: Sequence[tuple[Any, ...]], *stages: _Functions) -> list[tuple[Any, ...]]:
    """Apply functions to some columns of all rows, one stage after the other."""
    if not rows or not any(stages):
        return rows if isinstance(rows, list) else list(rows)
    columns: list[Sequence[Any]] = list(zip(*rows, strict=True))
    for functions in stages:
        _apply(columns, functions)
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
