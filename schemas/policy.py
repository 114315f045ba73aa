"""Decide: what the operator ordered for values that do not simply cross: per database and per column; pure.

Invariant: a policy chooses between ways that are all visible: a wider type, another type, a row in quarantine, a refusal.
None of them changes a value in silence; the one that forgets a class (`on_mixed = "text"`) names its columns
(schemas/restore.py) and blocks a cutover until that is waived.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace

from schemas.names import fold

CHOICES: Mapping[str, tuple[str, ...]] = {
    "types": ("profile", "storage"),
    "on_nul": ("bytea", "quarantine"),
    "on_mixed": ("jsonb", "text", "refuse"),
    "on_misfit": ("widen", "quarantine"),
    "restore": ("exact", "waived"),
    "type": ("bigint", "boolean", "bytea", "date", "double precision", "json", "jsonb", "numeric", "text", "timestamp"),
}
"""Every setting and what it may say, in the order of the documentation; `type` has no default."""


@dataclass(frozen=True, slots=True)
class ColumnPolicy:
    """What holds for one column.

    types: "storage" keeps text as text and 0/1 as bigint. on_nul: text with a NUL or that is not UTF-8. on_mixed: classes
    that no exact type but jsonb holds together. on_misfit: a later value that the column's type does not hold.
    type: the PostgreSQL type; "" leaves the choice to the profile. restore: "waived" accepts that it does not come back.
    """

    types: str = "profile"
    on_nul: str = "bytea"
    on_mixed: str = "jsonb"
    on_misfit: str = "widen"
    restore: str = "exact"
    type: str = ""

    @property
    def mark(self) -> str:
        """What of this decides the type of a column, as it is kept in the plan; empty for the defaults."""
        usual = ColumnPolicy()
        names = ("types", "on_nul", "on_mixed", "type")
        return ";".join(
            f"{name}={getattr(self, name)}" for name in names if getattr(self, name) != getattr(usual, name)
        )


def strange_name(columns: Iterable[str], sources: Iterable[str]) -> tuple[str, str] | None:
    """(what is wrong, hint) of the first name of a column that belongs to no source, or that is there twice."""
    seen: dict[str, str] = {}
    known = {fold(source): source for source in sources}
    for name in columns:
        if not any(fold(name).startswith(f"{source}.") for source in known):
            near = difflib.get_close_matches(fold(name).partition(".")[0], known, n=1)
            meant = f"; did you mean {known[near[0]]!r}?" if near else ""
            return f'columns."{name}" begins with no source', f"it is source.table.column{meant}"
        if fold(name) in seen:
            return f'columns."{name}" and columns."{seen[fold(name)]}" are one column', "leave one of them out"
        seen[fold(name)] = name
    return None


@dataclass(frozen=True, slots=True)
class Policies:
    """`columns`: `source.table.column` -> the settings that differ there from `default`."""

    default: ColumnPolicy = ColumnPolicy()
    columns: Mapping[str, Mapping[str, str]] = field(default_factory=dict)

    def of(self, source: str, table: str, column: str) -> ColumnPolicy:
        if not self.columns:
            return self.default
        own = {fold(name): one for name, one in self.columns.items()}.get(fold(f"{source}.{table}.{column}"))
        return replace(self.default, **own) if own else self.default

    def names(self, source: str) -> list[str]:
        """The columns of one source that have settings of their own."""
        return [name for name in self.columns if fold(name).startswith(f"{fold(source)}.")]
