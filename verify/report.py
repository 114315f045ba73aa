"""Decide: what a verification found, as values and as JSON; pure.

Invariant: fail closed. Clean means that everything was compared and is equal; what was not compared is counted, and a
table of which nothing could be compared is never clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from schemas.model import Key

KEYS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class TableReport:
    """One table. `rows`: compared; `differing`, `missing` (not on the target), `extra` (only on the target): counts;
    `keys`: of those; 100 are shown. `reason`: why the table is not clean although no row differs."""

    table: str
    rows: int
    differing: int = 0
    missing: int = 0
    extra: int = 0
    not_compared: int = 0
    keys: tuple[Key, ...] = ()
    reason: str = ""
    seq: int = 0

    @property
    def differences(self) -> int:
        return self.differing + self.missing + self.extra

    @property
    def clean(self) -> bool:
        return self.differences == 0 and self.not_compared == 0 and not self.reason

    def as_json(self) -> dict[str, Any]:
        return {
            "table": self.table,
            "rows": self.rows,
            "differing": self.differing,
            "missing": self.missing,
            "extra": self.extra,
            "not_compared": self.not_compared,
            "keys": [[repr(v) if isinstance(v, bytes) else v for v in key] for key in self.keys[:KEYS_SHOWN]],
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All tables of one source."""

    source: str
    tables: Sequence[TableReport]

    @property
    def clean(self) -> bool:
        return bool(self.tables) and all(table.clean for table in self.tables)

    @property
    def differences(self) -> int:
        return sum(table.differences for table in self.tables)

    def as_json(self) -> dict[str, Any]:
        return {"tables": [table.as_json() for table in self.tables]}
