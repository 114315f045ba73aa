"""Decide: DDL of the target's tables, from a plan: columns, key, guard; later indexes and constraints. Pure.

Invariant: every name is explicit and quoted; PostgreSQL never picks one itself and never cuts one off.
The guard trigger stands on every table from its creation: an application pointed at the wrong side early gets an error.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from schemas.grammar import Untranslatable
from schemas.model import Column, ForeignKey, Index, IndexTerm, Table
from schemas.names import constraint_name, fold, quote, text_literal
from schemas.plan import ColumnPlan, TablePlan
from schemas.predicates import expression_term, predicate

Columns = Mapping[str, tuple[Column, ColumnPlan]]
"""Lower-case source name -> the column and its plan."""

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
        # A session in replica role is a writer too (test_nobody_writes_to_a_target_that_is_not_open).
        f"ALTER TABLE {table} ENABLE ALWAYS TRIGGER tailrace_guard, ENABLE ALWAYS TRIGGER tailrace_guard_truncate",
    ]


def indexes(
    table: Table, plan: TablePlan, *, longest: dict[str, int] | None = None, taken: Iterable[str] = ()
) -> list[IndexDdl]:
    """Indexes and unique constraints to build once the copy is done.

    Args:
        taken: names in the target schema that belong to other tables: `t_a` (b) and `t` (a_b) would share one.
        longest: source column -> bytes of its longest value, to keep index rows under PostgreSQL's limit.
    """
    return [made for _, made in index_pairs(table, plan, longest or {}, taken)]


def index_pairs(
    table: Table, plan: TablePlan, longest: Mapping[str, int], others: Iterable[str] = ()
) -> list[tuple[Index, IndexDdl]]:
    """Each index of the source beside its DDL; see `indexes`."""
    result: list[tuple[Index, IndexDdl]] = []
    # The plan may still have a column that the source has dropped, and has the rowid where that is the key.
    own = {column.name: column for column in table.columns}
    columns = {fold(one.name): (own[one.name], one) for one in plan.columns if one.name in own}
    taken = set(others)
    for index in table.indexes:
        if index.origin == "pk":
            if tuple(term.column for term in index.terms) == plan.key:
                continue
            if table.without_rowid or not index.unique:
                continue
        name = _index_name(index, plan, taken)
        taken.add(name)
        result.append((index, _one_index(index, plan, name, columns, longest)))
    return result


def _index_name(index: Index, plan: TablePlan, taken: set[str]) -> str:
    """UNIQUE (a_b) and UNIQUE (a, b) would share a name, and IF NOT EXISTS would then silently skip the second."""
    suffix = "key" if index.unique else "idx"
    name = constraint_name(plan.target_table, *_label(index), suffix=suffix)
    if name in taken:
        terms = "\x00".join(f"{term.column}|{term.expression}|{term.collation}" for term in index.terms)
        digest = hashlib.sha256(f"{plan.target_table}\x00{index.name}\x00{terms}".encode()).hexdigest()[:8]
        name = constraint_name(plan.target_table, *_label(index), digest, suffix=suffix)
    return name


def _one_index(
    index: Index,
    plan: TablePlan,
    name: str,
    columns: Columns,
    longest: Mapping[str, int],
) -> IndexDdl:
    where = None
    if index.where is not None:
        try:
            where = predicate(index.where, columns)
        except Untranslatable as why:
            said = f"a partial index whose predicate has no counterpart here: {why.reason}"
            return IndexDdl(name, "", "reported", said)
    terms: list[str] = []
    reasons = ["its predicate is translated"] if where else []
    # The shortest columns stay as they are while they fit one index row together; the others become digests.
    digests, spare_bytes = set(), INDEX_ROW_MAX_BYTES
    for column in sorted({term.column or "" for term in index.terms}, key=lambda one: longest.get(one, 0)):
        if longest.get(column, 0) > spare_bytes:
            digests.add(column)
        else:
            spare_bytes -= longest.get(column, 0)
    for term in index.terms:
        text, reason = _term(term, columns, digest=term.column in digests)
        if text is None:
            return IndexDdl(name, "", "reported", reason)
        terms.append(text)
        reasons += [reason] if reason else []
    unique = "UNIQUE " if index.unique else ""
    sql = f"CREATE {unique}INDEX IF NOT EXISTS {quote(name)} ON {full_name(plan)} ({', '.join(terms)})"
    sql += f" WHERE {where}" if where else ""
    return IndexDdl(name, sql, "translated" if reasons else "carried", "; ".join(dict.fromkeys(reasons)))


def _term(term: IndexTerm, columns: Columns, *, digest: bool) -> tuple[str | None, str]:
    """(text of one index term or None, reason)."""
    order = " DESC" if term.descending else ""
    collation = term.collation.upper()
    if term.column is None or fold(term.column) not in columns:
        if collation != "BINARY":
            return None, f"an index on an expression in collation {collation}"
        try:
            return f"({expression_term(term.expression or '', columns)}){order}", "its expression is translated"
        except Untranslatable as why:
            return None, f"an index on an expression that has no counterpart here: {why.reason}"
    column = columns[fold(term.column)][1]
    name = quote(column.target)
    if column.pg_type == "json":
        return None, f"column {column.name!r} has a type without an order"
    # Collations compare text only: in a column of numbers each of them is BINARY.
    compares_text = column.pg_type in ("text", "jsonb", "bytea") and column.codec != "blob"
    if collation not in ("BINARY", "NOCASE") and compares_text:
        return None, f"collation {term.collation} has no counterpart"
    if collation == "NOCASE" and compares_text and column.pg_type != "text":
        return None, f"collation NOCASE has no counterpart in {column.pg_type}"
    folded = collation == "NOCASE" and compares_text
    text = f'lower({name} COLLATE "C")' if folded else name
    if digest:
        if column.pg_type not in ("text", "bytea"):
            return None, f"column {column.name!r} is too long for an index"
        return f"md5({text})", f"column {column.name!r} is too long for an index row: md5"
    return f"{text}{order}", 'NOCASE folds ASCII only: lower(.. COLLATE "C")' if folded else ""


def _label(index: Index) -> tuple[str, ...]:
    if index.origin == "c":
        return (index.name.lower(),)
    return tuple((term.column or "expr").lower() for term in index.terms)


def foreign_keys(table: Table, plan: TablePlan, parents: Mapping[str, tuple[Table, TablePlan]]) -> list[IndexDdl]:
    """One NOT VALID constraint for each foreign key, for the switch: while rows follow, a child may come before its
    parent in another slice of a cut.

    Args:
        parents: lower-case source name -> table and plan of everything that is replicated into the same target.
    """
    return [
        _foreign_key(key, plan, parents.get(fold(key.parent)), at=at) for at, key in enumerate(table.foreign_keys, 1)
    ]


def _foreign_key(key: ForeignKey, plan: TablePlan, found: tuple[Table, TablePlan] | None, *, at: int) -> IndexDdl:
    name = constraint_name(plan.target_table, *(one.lower() for one in key.columns), str(at), suffix="fkey")
    if found is None:
        return IndexDdl(name, "", "reported", f"its parent {key.parent!r} is not replicated")
    parent, parent_plan = found
    there = {fold(column.name): column for column in parent_plan.columns}
    here = {fold(column.name): column for column in plan.columns}
    declared = sorted((one for one in parent.columns if one.pk_position), key=lambda one: one.pk_position)
    wanted = [fold(one) for one in key.parent_columns or [column.name for column in declared]]
    if len(wanted) != len(key.columns) or not all(one in there for one in wanted):
        return IndexDdl(name, "", "reported", f"it names no key of {key.parent!r}")
    if not _is_key(parent, parent_plan, set(wanted)):
        return IndexDdl(name, "", "reported", f"{key.parent!r} has no unique key on these columns here")
    for child, other in zip(key.columns, wanted, strict=True):
        if here[fold(child)].codec != there[other].codec:
            kinds = f"{here[fold(child)].codec} and {there[other].codec}"
            return IndexDdl(name, "", "reported", f"{child!r} and its parent have different forms: {kinds}")
    own = ", ".join(quote(here[fold(one)].target) for one in key.columns)
    other = ", ".join(quote(there[one].target) for one in wanted)
    deferred = " DEFERRABLE INITIALLY DEFERRED" if key.deferred else ""
    sql = (
        f"ALTER TABLE {full_name(plan)} ADD CONSTRAINT {quote(name)} FOREIGN KEY ({own}) "
        f"REFERENCES {full_name(parent_plan)} ({other}) ON UPDATE {key.on_update} ON DELETE {key.on_delete}"
        f"{deferred} NOT VALID"
    )
    return IndexDdl(name, sql, "carried", "added at the switch, NOT VALID")


def _is_key(parent: Table, plan: TablePlan, wanted: set[str]) -> bool:
    """PostgreSQL wants exactly these columns under its primary key or a plain unique index."""
    if {fold(one) for one in plan.key} == wanted:
        return True
    return any(
        index.unique
        and index.where is None
        and made.verdict == "carried"
        and {fold(term.column or "") for term in index.terms} == wanted
        for index, made in index_pairs(parent, plan, {})
    )


def not_nulls(plan: TablePlan) -> list[str]:
    """ALTER statements for the NOT NULL promises that the profile found kept."""
    table = full_name(plan)
    return [
        f"ALTER TABLE {table} ALTER COLUMN {quote(column.target)} SET NOT NULL"
        for column in plan.columns
        if column.not_null and column.name not in plan.key
    ]


def grants(schemas: list[str], *, owner: str, sink: str, application: str, read_only: str) -> list[str]:
    """SQL for the four roles, which may exist already; none is a superuser, no password is written.

    The sink works as the owner (SET ROLE), so that what it creates belongs to the owner and gets these privileges.
    """
    q = quote
    statements = [_role(name, login=login) for name, login in ((owner, "NOLOGIN"), (sink, "LOGIN"))]
    statements += [_role(name, login="LOGIN") for name in (application, read_only)]
    statements += [
        f"GRANT {q(owner)} TO {q(sink)}",
        f"CREATE SCHEMA IF NOT EXISTS tailrace AUTHORIZATION {q(owner)}",
    ]
    for schema in schemas:
        default = f"ALTER DEFAULT PRIVILEGES FOR ROLE {q(owner)} IN SCHEMA {q(schema)} GRANT"
        statements += [
            f"CREATE SCHEMA IF NOT EXISTS {q(schema)} AUTHORIZATION {q(owner)}",
            f"GRANT USAGE ON SCHEMA {q(schema)} TO {q(application)}, {q(read_only)}",
            f"{default} SELECT, INSERT, UPDATE, DELETE ON TABLES TO {q(application)}",
            f"{default} USAGE ON SEQUENCES TO {q(application)}",
            f"{default} SELECT ON TABLES TO {q(read_only)}",
        ]
    return statements


def _role(name: str, *, login: str) -> str:
    """PostgreSQL has no CREATE ROLE IF NOT EXISTS."""
    create = text_literal(f"CREATE ROLE {quote(name)} {login} NOSUPERUSER NOCREATEDB NOCREATEROLE")
    return (
        f"DO $role$ BEGIN IF NOT EXISTS (SELECT 1 FROM pg_roles WHERE rolname = {text_literal(name)}) "
        f"THEN EXECUTE {create}; END IF; END $role$"
    )
