"""Do: count what a table has now and a backup of it does not, row by row of their keys: what a restore throws away.

Invariant: a number is what was counted; what could not be counted is None, which is shown as unknown and never as nothing.
Values are compared as BINARY with typeof: under NOCASE a name that was written in another case would be no change.
Case: test_what_cannot_be_counted_is_unknown.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from schemas.errors import TailraceError
from schemas.introspect import introspect
from schemas.model import Database, KeyKind, Table
from schemas.names import quote

KEPT = "kept"


@dataclass(frozen=True, slots=True)
class TableLoss:
    """Rows of one table. None: unknown.

    Args:
        back: gone since the backup; they come back.
        changed: other than in the backup; what they are now goes.
        removed: came since the backup; they go.
        more: keys that PostgreSQL changed and that have not come back to the file: at most so many rows more.
    """

    source: str
    table: str
    back: int | None
    changed: int | None
    removed: int | None
    more: int | None = 0
    note: str = ""

    @property
    def nothing(self) -> bool:
        return (self.back, self.changed, self.removed, self.more) == (0, 0, 0, 0)


def count_losses(
    source: str, live: str | Path, backup: str | Path, pending: Mapping[str, int] | None
) -> list[TableLoss]:
    """Every ordinary table of either file. `pending`: table -> keys that have not come back; None: unknown."""
    db = SqliteDatabase(live, read_only=True)
    try:
        db.attach_kept(backup, KEPT)
        kept = SqliteDatabase(backup, read_only=True)
        try:
            then = introspect(kept)
        finally:
            kept.close()
        with db.read_view():
            return list(_counted(db, source, introspect(db), then, pending))
    finally:
        db.close()


def _counted(
    db: SqliteDatabase, source: str, now: Database, then: Database, pending: Mapping[str, int] | None
) -> Iterator[TableLoss]:
    for name in sorted({*now.tables, *then.tables}):
        more = None if pending is None else pending.get(name, 0)
        mine, kept = now.tables.get(name), then.tables.get(name)
        try:
            if kept is None:
                yield TableLoss(source, name, 0, 0, _count(db, "main", name), more, "the table goes")
            elif mine is None:
                yield TableLoss(source, name, _count(db, KEPT, name), 0, 0, more, "the table comes back")
            else:
                yield _compared(db, source, mine, kept, more)
        except TailraceError as error:
            yield TableLoss(source, name, None, None, None, more, error.message)


def _compared(db: SqliteDatabase, source: str, mine: Table, kept: Table, more: int | None) -> TableLoss:
    if (mine.key.kind, mine.key.columns) != (kept.key.kind, kept.key.columns) or mine.key.kind is KeyKind.WHOLE_ROW:
        return TableLoss(source, mine.name, None, None, None, more, "its key does not name the same rows in both")
    table = quote(mine.name)
    if mine.key.kind is KeyKind.ROWID:
        same_key = f"a.{mine.key.rowid_name} = b.{mine.key.rowid_name}"
    else:
        same_key = " AND ".join(f"a.{quote(key)} = b.{quote(key)} AND {_same(key)}" for key in mine.key.columns)
    left = {column.name for column in mine.columns if not column.is_generated}
    right = {column.name for column in kept.columns if not column.is_generated}
    equal = " AND ".join(_same(name) for name in sorted(left & right)) or "1"
    changed = f"SELECT count(*) FROM main.{table} AS a JOIN {KEPT}.{table} AS b ON {same_key} WHERE NOT ({equal})"
    gone = (
        f"SELECT count(*) FROM {KEPT}.{table} AS b WHERE NOT EXISTS (SELECT 1 FROM main.{table} AS a WHERE {same_key})"
    )
    came = (
        f"SELECT count(*) FROM main.{table} AS a WHERE NOT EXISTS (SELECT 1 FROM {KEPT}.{table} AS b WHERE {same_key})"
    )
    back, other, removed = (int(db.rows(sql)[0][0]) for sql in (gone, changed, came))
    note = f"columns {', '.join(sorted(left ^ right))} are only on one side" if left != right else ""
    return TableLoss(source, mine.name, back, other, removed, more, note)


def _same(column: str) -> str:
    one, other = f"a.{quote(column)}", f"b.{quote(column)}"
    return f"({one} COLLATE BINARY IS {other} AND typeof({one}) = typeof({other}))"


def _count(db: SqliteDatabase, schema: str, table: str) -> int:
    return int(db.rows(f"SELECT count(*) FROM {schema}.{quote(table)}")[0][0])


def loss_lines(losses: Iterable[TableLoss]) -> list[str]:
    """For people; tables that lose nothing are counted together."""
    lines, untouched = [], 0
    for one in losses:
        if one.nothing:
            untouched += 1
            continue
        more = f", and {_told(one.more)} more that PostgreSQL changed last" if one.more != 0 else ""
        note = f" ({one.note})" if one.note else ""
        lines.append(
            f"{one.source}.{one.table}: {_told(one.removed)} rows removed, {_told(one.changed)} changed back, "
            f"{_told(one.back)} inserted back{more}{note}"
        )
    return [*lines, *([f"{untouched} tables are as they were"] if untouched else [])]


def _told(count: int | None) -> str:
    return "unknown" if count is None else str(count)
