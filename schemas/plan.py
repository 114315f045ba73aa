"""Decide: the plan, everything derived from a source schema, as plain values that also travel in the Avro schema."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ColumnPlan:
    """One column of one table on its way to the target."""

    name: str
    """Source name (or `_tailrace_rowid`)."""
    target: str
    declared: str
    pg_type: str
    codec: str
    """Name of the codec in schemas/typemap.py."""
    not_null: bool
    why: str
    """One sentence for `plan`: why this type."""


@dataclass(frozen=True, slots=True)
class TablePlan:
    """One table on its way to the target. `columns` are in the order of `Table.row_columns`."""

    source: str
    table: str
    target_schema: str
    target_table: str
    topic: str
    columns: tuple[ColumnPlan, ...]
    key: tuple[str, ...]
    """Source names of the key columns, in key order; a subset of the names of `columns`."""
    unique: bool = True
    """The target will carry UNIQUE constraints or indexes besides the key: deletes go before inserts in a cut."""

    @property
    def key_indexes(self) -> tuple[int, ...]:
        names = [column.name for column in self.columns]
        return tuple(names.index(name) for name in self.key)
