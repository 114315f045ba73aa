"""Do: the codecs of the schemas that a stream names, each read and parsed once."""

from __future__ import annotations

from schemas.avro import plan_of
from schemas.ports import Registry
from schemas.rows import KeyCodec, RowCodec


class SchemaCodecs:
    """Of rows and keys, by schema id."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._rows: dict[int, RowCodec] = {}
        self._keys: dict[int, KeyCodec] = {}

    def rows(self, schema_id: int) -> RowCodec:
        found = self._rows.get(schema_id)
        if found is None:
            found = self._rows[schema_id] = RowCodec(plan_of(self._registry.schema(schema_id)))
        return found

    def keys(self, schema_id: int) -> KeyCodec:
        found = self._keys.get(schema_id)
        if found is None:
            found = self._keys[schema_id] = KeyCodec(self._registry.schema(schema_id))
        return found
