"""Decide: what becomes of everything in a source schema that is not a column: carried, translated, reported, refused.

Invariant: every index, foreign key, CHECK, DEFAULT, generated column, sequence, view, trigger, virtual table and table
left out has exactly one verdict; nothing vanishes without a line (test_everything_has_a_verdict).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.ddl import foreign_keys, indexes
from schemas.expressions import default_sql
from schemas.model import Database, KeyKind, SchemaObject, Table
from schemas.names import fold
from schemas.plan import TablePlan

_NAME_CHARS = 60
"""A CHECK or a DEFAULT has no name of its own: the beginning of its text stands for it."""
_NOTES = {
    "view": "not created on the target: its SQL is the application's own",
    "trigger": "rests on the target: while following, its effects arrive as rows",
    "virtual": "has no counterpart; for full-text search see tsvector",
    "shadow": "storage of virtual table {table}",
}


class Verdict(StrEnum):
    CARRIED = "carried"
    TRANSLATED = "translated"
    REPORTED = "reported"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class ObjectVerdict:
    """One object of the source. `kind`: table, index, foreign key, check, default, generated column, autoincrement,
    view, trigger, virtual or shadow. `reason` is one sentence, empty only where the object is simply carried."""

    table: str
    name: str
    kind: str
    verdict: Verdict
    reason: str


def verdicts(database: Database, plans: Mapping[str, TablePlan]) -> list[ObjectVerdict]:
    """Verdicts in the order of the tables, then the other objects.

    Args:
        plans: source table name -> plan of every table that is replicated.
    """
    result: list[ObjectVerdict] = []
    parents = {fold(name): (database.tables[name], plan) for name, plan in plans.items() if name in database.tables}
    for name, table in database.tables.items():
        if name in plans:
            result += _of_table(table, plans[name], parents)
        elif table.key.kind is KeyKind.WHOLE_ROW:
            result.append(ObjectVerdict(name, name, "table", Verdict.REFUSED, table.key.reason))
        else:
            result.append(ObjectVerdict(name, name, "table", Verdict.REPORTED, "left out by the configuration"))
    return result + [_of_object(one) for one in database.objects]


def _of_table(table: Table, plan: TablePlan, parents: Mapping[str, tuple[Table, TablePlan]]) -> Iterator[ObjectVerdict]:
    for index in indexes(table, plan):
        yield ObjectVerdict(table.name, index.name, "index", Verdict(index.verdict), index.reason)
    for key in foreign_keys(table, plan, parents):
        yield ObjectVerdict(table.name, key.name, "foreign key", Verdict(key.verdict), key.reason)
    for check in table.checks:
        why = "the source enforces it while it is written; not translated"
        yield ObjectVerdict(table.name, check[:_NAME_CHARS], "check", Verdict.REPORTED, why)
    by_name = {column.name: column for column in plan.columns}
    for column in table.columns:
        if column.is_generated:
            why = "its values are carried in a plain column"
            yield ObjectVerdict(table.name, column.name, "generated column", Verdict.TRANSLATED, why)
        if column.default is not None and column.name in by_name:
            sql = default_sql(column, by_name[column.name])
            written = column.default[:_NAME_CHARS]
            verdict = Verdict.REPORTED if sql is None else Verdict.TRANSLATED
            why = f"DEFAULT {written} has no counterpart here" if sql is None else f"set at the switch: DEFAULT {sql}"
            yield ObjectVerdict(table.name, column.name, "default", verdict, why)
    if table.autoincrement:
        why = "a sequence is made at the switch"
        yield ObjectVerdict(table.name, table.name, "autoincrement", Verdict.REPORTED, why)


def _of_object(one: SchemaObject) -> ObjectVerdict:
    return ObjectVerdict(
        one.table, one.name, one.kind, Verdict.REPORTED, one.note or _NOTES[one.kind].format(table=one.table)
    )
