"""Decide: DDL of the target's tables, from a plan: columns, key, guard; later indexes and constraints. Pure.

Invariant: every name is explicit and quoted; PostgreSQL never picks one itself and never cuts one off.
The guard trigger stands on every table from its creation: an application pointed at the wrong side early gets an error.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from schemas.model import Index, Table
from schemas.names import constraint_name, quote, text_literal
from schemas.plan import ColumnPlan, TablePlan

INDEX_ROW_MAX_BYTES = 2600
"""PostgreSQL: a btree row must fit a third of a page, about 2704 bytes."""


@dataclass(frozen=True, slots=True)
class IndexDdl:
    """One index or unique constraint of a source table: `sql` is empty when it is only reported."""

    name: str
    sql: str
    verdict: str
    """carried, translated or reported."""
    reason: str


def full_name(plan: TablePlan, name: str | None = None) -> str:
    return f"{quote(plan.target_schema)}.{quote(name or plan.target_table)}"


def column_ddl(column: ColumnPlan) -> str:
    collate = ' COLLATE "C"' if column.pg_type == "text" else ""
    not_null = " NOT NULL" if column.not_null else ""
    return f"{quote(column.target)} {column.pg_type}{collate}{not_null}"


def create_table(plan: TablePlan, *, sink_role: str, name: str | None = None, only_key: bool = True) -> list[str]:
    """The table with its primary key and its guard; a shadow table (`name`) has no guard.

    NOT NULL of ordinary columns comes at the finalise: until then a row may arrive under a narrower promise.
    """
    columns = [
        column_ddl(column if not only_key or column.name in plan.key else _nullable(column)) for column in plan.columns
    ]
    key = ", ".join(quote(target) for target in plan.target_key)
    table = name or plan.target_table
    primary = f"CONSTRAINT {quote(constraint_name(table, suffix='pkey'))} PRIMARY KEY ({key})"
    statements = [f"CREATE TABLE {full_name(plan, name)} ({', '.join([*columns, primary])})"]
    return statements if name else statements + guard(plan, sink_role=sink_role)


def _nullable(column: ColumnPlan) -> ColumnPlan:
    return replace(column, not_null=False)


def guard(plan: TablePlan, *, sink_role: str) -> list[str]:
    table = full_name(plan)
    argument = text_literal(sink_role)
    return [
        f"CREATE TRIGGER tailrace_guard BEFORE INSERT OR UPDATE OR DELETE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION tailrace.guard({argument})",
        f"CREATE TRIGGER tailrace_guard_truncate BEFORE TRUNCATE ON {table} FOR EACH STATEMENT "
        f"EXECUTE FUNCTION tailrace.guard({argument})",
    ]


def indexes(table: Table, plan: TablePlan, *, longest: dict[str, int] | None = None) -> list[IndexDdl]:
    """Indexes and unique constraints to build once the copy is done.

    Args:
        longest: source column -> bytes of its longest value, to keep index rows under PostgreSQL's limit.
    """
    result = []
    columns = {column.name: column for column in plan.columns}
    for index in table.indexes:
        if index.origin == "pk":
            if tuple(term.column for term in index.terms) == plan.key:
                continue
            if table.without_rowid or not index.unique:
                continue
        result.append(_one_index(index, plan, columns, longest or {}))
    return result


def _one_index(index: Index, plan: TablePlan, columns: dict[str, ColumnPlan], longest: dict[str, int]) -> IndexDdl:
    name = constraint_name(plan.target_table, *_label(index), suffix="key" if index.unique else "idx")
    if index.where is not None:
        return IndexDdl(name, "", "reported", "a partial index: its predicate is not translated")
    terms, verdict, reason = [], "carried", ""
    for term in index.terms:
        if term.column is None or term.column not in columns:
            return IndexDdl(name, "", "reported", "an index on an expression is not translated")
        column = columns[term.column]
        order = " DESC" if term.descending else ""
        if column.pg_type in ("json",):
            return IndexDdl(name, "", "reported", f"column {column.name!r} has a type without an order")
        if longest.get(column.name, 0) > INDEX_ROW_MAX_BYTES:
            if column.pg_type not in ("text", "bytea"):
                return IndexDdl(name, "", "reported", f"column {column.name!r} is too long for an index")
            terms.append(f"md5({quote(column.target)})")
            verdict, reason = "translated", f"column {column.name!r} is too long for an index row: md5"
        elif term.collation.upper() == "NOCASE" and column.pg_type == "text":
            terms.append(f'lower({quote(column.target)} COLLATE "C"){order}')
            verdict, reason = "translated", 'NOCASE folds ASCII only: lower(.. COLLATE "C")'
        elif term.collation.upper() not in ("BINARY", "NOCASE"):
            return IndexDdl(name, "", "reported", f"collation {term.collation} has no counterpart")
        else:
            terms.append(f"{quote(column.target)}{order}")
    unique = "UNIQUE " if index.unique else ""
    sql = f"CREATE {unique}INDEX IF NOT EXISTS {quote(name)} ON {full_name(plan)} ({', '.join(terms)})"
    return IndexDdl(name, sql, verdict, reason)


def _label(index: Index) -> tuple[str, ...]:
    if index.origin == "c":
        return (index.name.lower(),)
    return tuple((term.column or "expr").lower() for term in index.terms)


def not_nulls(plan: TablePlan) -> list[str]:
    """ALTER statements for the NOT NULL promises that the profile found kept."""
    table = full_name(plan)
    return [
        f"ALTER TABLE {table} ALTER COLUMN {quote(column.target)} SET NOT NULL"
        for column in plan.columns
        if column.not_null and column.name not in plan.key
    ]


def grants(schemas: list[str], *, owner: str, sink: str, application: str, read_only: str) -> list[str]:
    """SQL for the four roles; none is a superuser, no password is written."""
    q = quote
    statements = [
        f"CREATE ROLE {q(owner)} NOLOGIN",
        f"CREATE ROLE {q(sink)} LOGIN",
        f"GRANT {q(owner)} TO {q(sink)}",
        f"CREATE ROLE {q(application)} LOGIN",
        f"CREATE ROLE {q(read_only)} LOGIN",
        f"CREATE SCHEMA IF NOT EXISTS tailrace AUTHORIZATION {q(owner)}",
    ]
    for schema in schemas:
        statements += [
            f"CREATE SCHEMA IF NOT EXISTS {q(schema)} AUTHORIZATION {q(owner)}",
            f"GRANT USAGE ON SCHEMA {q(schema)} TO {q(application)}, {q(read_only)}",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {q(owner)} IN SCHEMA {q(schema)} "
            f"GRANT SELECT, INSERT, UPDATE, DELETE ON TABLES TO {q(application)}",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {q(owner)} IN SCHEMA {q(schema)} "
            f"GRANT USAGE ON SEQUENCES TO {q(application)}",
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {q(owner)} IN SCHEMA {q(schema)} GRANT SELECT ON TABLES TO {q(read_only)}",
        ]
    return statements
