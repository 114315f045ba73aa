"""Decide: the bookkeeping of the way back in a source: its tables, and the statements that write one cut; pure.

Invariant: every touched key is deleted before any row is inserted: rows that swapped a unique value never meet, and no
REPLACE displaces a row that nobody named. Keys are compared by the index first, then as BINARY with typeof.
"""

from __future__ import annotations

from collections.abc import Sequence

from schemas.errors import Code, Refusal
from schemas.model import OWN_PREFIX, ROWID_COLUMN, BadText, Key, KeyKind, Row, Table, Value
from schemas.names import fold, quote
from schemas.plan import ColumnPlan, TablePlan

PROGRESS = f"{OWN_PREFIX}progress"
QUARANTINE = f"{OWN_PREFIX}quarantine"

RESTING = 2**62
"""A progress that is above every label, a number of transactions: nothing of the way back is applied."""

STATEMENTS = (
    f"CREATE TABLE IF NOT EXISTS {PROGRESS}(id INTEGER PRIMARY KEY, owner TEXT, applied INTEGER, applying_to INTEGER, "
    "identity TEXT, offsets TEXT, captured_at_ms INTEGER, applied_at_ms INTEGER, highest INTEGER)",
    f"CREATE TABLE IF NOT EXISTS {QUARANTINE}(tab TEXT, key BLOB, key_text TEXT, reason TEXT, seq INTEGER, "
    "PRIMARY KEY (tab, key))",
    f"INSERT OR IGNORE INTO {PROGRESS} VALUES (1, '', 0, NULL, '', '{{}}', 0, 0, 0)",
)


def mark(value: Value) -> str:
    """The parameter of one value: the bytes of TEXT that is not UTF-8 would be bound as a BLOB."""
    return "CAST(? AS TEXT)" if type(value) is BadText else "?"


def _key_columns(table: Table) -> list[str]:
    if table.key.kind is KeyKind.ROWID:
        return [str(table.key.rowid_name)]
    return [quote(name) for name in table.key.columns]


def delete_sql(table: Table, key: Key) -> str:
    """Parameters: the key three times over, a column at a time."""
    tests = []
    for name, value in zip(_key_columns(table), key, strict=True):
        one = mark(value)
        tests.append(f"{name} = {one} AND {name} COLLATE BINARY = {one} AND typeof({name}) = typeof({one})")
    return f"DELETE FROM {quote(table.name)} WHERE {' AND '.join(tests)}"


def delete_parameters(key: Key) -> tuple[Value, ...]:
    return tuple(value for value in key for _ in range(3))


def insert_columns(table: Table, plan: TablePlan) -> list[tuple[int, str]]:
    """(place in a row of the plan, SQL name) of what can be written: generated columns are not."""
    known = {column.name.lower(): column for column in table.columns}
    chosen = []
    for at, column in enumerate(plan.columns):
        if column.name == ROWID_COLUMN:
            chosen.append((at, str(table.key.rowid_name)))
        elif (own := known.get(column.name.lower())) is not None and not own.is_generated:
            chosen.append((at, quote(own.name)))
    return chosen


_STRICT = {"BOOLEAN": "INTEGER", "DATE": "TEXT", "TIMESTAMP": "TEXT", "JSON TEXT": "TEXT"}


def missing(table: Table, plan: TablePlan) -> list[ColumnPlan]:
    """Columns that were added on the target and that this table lacks. One that the source once had and dropped is none."""
    known = {fold(column.name) for column in table.columns}
    return [column for column in plan.columns if column.added and fold(column.name) not in known]


def add_column(table: Table, column: ColumnPlan) -> str:
    """Raises Refusal(NO_ROLLBACK)."""
    declared = column.declared
    if table.strict:
        declared = _STRICT.get(declared, declared)
        if declared == "NUMERIC":
            raise Refusal(
                Code.NO_ROLLBACK,
                f"column {column.name} was added: a STRICT table has no type for numeric",
                table=table.name,
                hint="take double precision or text",
            )
    return f"ALTER TABLE {quote(table.name)} ADD COLUMN {quote(column.name)} {declared}{column.added[len(column.declared) :]}"


def insert_sql(table: Table, columns: Sequence[tuple[int, str]], row: Row) -> str:
    names = ", ".join(name for _, name in columns)
    marks = ", ".join(mark(row[at]) for at, _ in columns)
    return f"INSERT INTO {quote(table.name)} ({names}) VALUES ({marks})"
