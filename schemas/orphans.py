"""Do: count the rows whose foreign key points to no parent, by SQLite's own check, one table after the other.

Invariant: a table that cannot be checked (its parent has no such key) is named, and the others are counted all the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from schemas.errors import Code, Failed
from schemas.model import Table
from schemas.ports import Sqlite


@dataclass(frozen=True, slots=True)
class Orphans:
    """`rows`: (table, place of the foreign key in `Table.foreign_keys`) -> count; `unchecked`: table -> why."""

    rows: Mapping[tuple[str, int], int]
    unchecked: Mapping[str, str]


def orphans(db: Sqlite, tables: Iterable[Table]) -> Orphans:
    rows: dict[tuple[str, int], int] = {}
    unchecked: dict[str, str] = {}
    for table in tables:
        if not table.foreign_keys:
            continue
        try:
            found = db.rows("SELECT fkid, count(*) FROM pragma_foreign_key_check(?) GROUP BY fkid", (table.name,))
        except Failed as error:
            if error.code is not Code.SOURCE_IO:
                raise
            unchecked[table.name] = str(error.__cause__ or error.message)
            continue
        for number, count in found:
            # SQLite numbers them from the last to the first.
            rows[table.name, len(table.foreign_keys) - 1 - int(number)] = int(count)
    return Orphans(rows, unchecked)
