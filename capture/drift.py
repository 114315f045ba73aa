"""Decide: what a moved schema means for each table; pure.

ADD COLUMN at the end flows on (rows are read again with the new schema), unless rows that are already there have a
value in it at once (a DEFAULT, a generated column): no trigger fires for those. A new table is copied. A dropped one is gone.
Everything else - rename, drop column, type change, create-copy-drop-rename, another key - resyncs that table alone.
A rowid-keyed table is resynced after *any* foreign schema change: VACUUM renumbers its rowids and shows only as a moved
schema version, and a resync too many is harmless while one too few is fatal (test_vacuum_renumbers_rowids).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.meta import Meta, shape_of
from schemas.model import KeyKind, Table


@dataclass(frozen=True, slots=True)
class Drift:
    """Names by what happened to them. `reasons` explains each resync."""

    new: tuple[str, ...] = ()
    gone: tuple[str, ...] = ()
    widened: tuple[str, ...] = ()
    resync: frozenset[str] = frozenset()
    reasons: Mapping[str, str] | None = None

    @property
    def any(self) -> bool:
        return bool(self.new or self.gone or self.widened or self.resync)


def decide(
    before: Meta,
    tables: Mapping[str, Table],
    app_triggers: Mapping[str, str],
    own_triggers: Sequence[tuple[str, str]],
    schema_version: int,
) -> Drift:
    """Compare what the meta table knows with what the database has now.

    Args:
        app_triggers: table -> text of the application's triggers on it.
        own_triggers: (trigger, table) of ours that are still there.
    """
    known = {one.name: (number, one) for number, one in before.tables.items()}
    present: dict[int, set[str]] = {}
    for trigger, trigger_table in own_triggers:
        digits = trigger[10:].split("_")[0]
        if digits.isdigit():
            present.setdefault(int(digits), set()).add(trigger_table)
    moved = before.schema_version not in (-1, schema_version)
    reasons: dict[str, str] = {}
    widened = []
    for name, table in tables.items():
        if name not in known:
            continue
        number, one = known[name]
        if present.get(number) != {name}:
            reasons[name] = "its triggers were gone: the table was dropped and made again, or renamed"
        elif shape_of(table, one.column_count) != one.shape:
            reasons[name] = "its columns or its key changed"
        elif moved and table.key.kind in (KeyKind.ROWID, KeyKind.WHOLE_ROW):
            reasons[name] = "the schema version moved: VACUUM may have renumbered its rowids"
        elif app_triggers.get(name, "") != one.objects:
            reasons[name] = "the application changed its triggers while ours stood behind them"
        elif any(column.default is not None or column.is_generated for column in table.columns[one.column_count :]):
            # Rows that are already there show the default without any trigger having fired.
            reasons[name] = "a column was added that existing rows have a value in"
        elif len(table.columns) > one.column_count:
            widened.append(name)
    return Drift(
        new=tuple(name for name in tables if name not in known),
        gone=tuple(name for name in known if name not in tables),
        widened=tuple(widened),
        resync=frozenset(reasons),
        reasons=reasons,
    )
