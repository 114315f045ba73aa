"""Decide: what the target's tables get only when they open: defaults, generated columns, CHECKs. Pure.

Invariant: while rows follow, nothing on the target refuses or changes what SQLite accepted: the stream writes every column
itself, and a row that SQLite holds against its own CHECK (older than the CHECK, or written under
ignore_check_constraints) must arrive. So a CHECK comes at the switch, NOT VALID, and is validated afterwards; rows that
break it are then named, and new ones are refused (test_checks_are_added_not_valid_and_validated_after).
Generated columns become triggers, not STORED columns: STORED would rewrite every row while writers wait, and PostgreSQL
would refuse the stream that goes back (test_a_generated_column_is_computed_after_the_switch).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from schemas.ddl import foreign_keys, full_name
from schemas.expressions import default_of, stored_sql
from schemas.grammar import Untranslatable
from schemas.model import Column, Table
from schemas.names import constraint_name, fold, quote, text_literal
from schemas.plan import ColumnPlan, TablePlan
from schemas.sqltext import tokens
from schemas.translate import Columns, condition, translate

CREATE_VIEW = "CREATE OR REPLACE VIEW "


@dataclass(frozen=True, slots=True)
class Opening:
    """One object that comes at the switch. `name`: of the object at the source (text of a CHECK, name of a column);
    `translated`: it has a counterpart; `statements`: run at the switch (of several generated columns the first one has
    those of all)."""

    kind: str
    name: str
    translated: bool
    reason: str
    statements: tuple[str, ...] = ()
    constraint: str = ""
    """Its name on the target where it is a constraint: validated when writers are back."""


@dataclass(frozen=True, slots=True)
class Step:
    """One object that the switch makes. `present`: SELECT of whether it is there already, empty where making it again
    changes nothing."""

    table: str
    kind: str
    name: str
    statements: tuple[str, ...]
    present: str = ""


def columns_of(table: Table, plan: TablePlan) -> Columns:
    """Lower-case source name -> column and plan, of what both have."""
    own = {column.name: column for column in table.columns}
    return {fold(one.name): (own[one.name], one) for one in plan.columns if one.name in own}


def openings(table: Table, plan: TablePlan) -> list[Opening]:
    """Defaults, generated columns and CHECKs of one table, in the order in which they are made."""
    columns = columns_of(table, plan)
    return [*_defaults(columns, plan), *_generated(columns, plan), *_checks(table, columns, plan)]


def _defaults(columns: Columns, plan: TablePlan) -> Iterator[Opening]:
    for column, one in columns.values():
        if column.default is None:
            continue
        try:
            sql = default_of(column, one)
        except Untranslatable as why:
            yield Opening("default", column.name, False, f"DEFAULT {column.default}: {why.reason}")
            continue
        statement = f"ALTER TABLE {full_name(plan)} ALTER COLUMN {quote(one.target)} SET DEFAULT {sql}"
        yield Opening("default", column.name, True, f"DEFAULT {sql}", (statement,))


def _generated(columns: Columns, plan: TablePlan) -> Iterator[Opening]:
    """One trigger a table; a column that reads another generated one is computed after it."""
    ready: list[tuple[Column, ColumnPlan, str, str]] = []
    failed: dict[str, str] = {}
    waiting = [pair for pair in columns.values() if pair[0].is_generated]
    names = {fold(pair[0].name) for pair in waiting}
    while waiting:
        left = []
        for column, one in waiting:
            needs = _needs(column.generated or "", names) - {fold(done[0].name) for done in ready}
            if needs & set(failed):
                failed[fold(column.name)] = "it reads a generated column that has no counterpart"
            elif needs:
                left.append((column, one))
            else:
                try:
                    piece = translate(column.generated or "", columns, prefix="NEW.")
                    sql = stored_sql(piece, one)
                    if sql is None:
                        raise Untranslatable(f"a {piece.kind} value stored in a column of {one.pg_type}")
                    ready.append((column, one, sql, "; ".join(sorted(piece.caveats))))
                except Untranslatable as why:
                    failed[fold(column.name)] = why.reason
        if len(left) == len(waiting):
            failed.update({fold(column.name): "it reads itself" for column, _ in left})
            break
        waiting = left
    if ready:
        yield from _as_trigger(ready, plan)
    for column, _ in columns.values():
        if fold(column.name) in failed:
            why_not = failed[fold(column.name)]
            yield Opening("generated column", column.name, False, f"AS ({column.generated}): {why_not}")


def _needs(expression: str, names: set[str]) -> set[str]:
    return {fold(token.name or "") for token in tokens(expression)} & names


def _as_trigger(ready: list[tuple[Column, ColumnPlan, str, str]], plan: TablePlan) -> Iterator[Opening]:
    function = full_name(plan, constraint_name(plan.target_table, suffix="generated"))
    body = " ".join(f"NEW.{quote(one.target)} := {sql};" for _, one, sql, _ in ready)
    mark = "$generated$"
    while mark in body:
        mark = f"{mark[:-1]}_$"
    statements = (
        f"CREATE OR REPLACE FUNCTION {function}() RETURNS trigger LANGUAGE plpgsql AS {mark} BEGIN {body} RETURN NEW; "
        f"END {mark}",
        f"DROP TRIGGER IF EXISTS tailrace_generated ON {full_name(plan)}",
        f"CREATE TRIGGER tailrace_generated BEFORE INSERT OR UPDATE ON {full_name(plan)} FOR EACH ROW "
        f"EXECUTE FUNCTION {function}()",
    )
    for at, (column, _, sql, caveats) in enumerate(ready):
        reason = f"a trigger computes it: {sql}" + (f" ({caveats})" if caveats else "")
        yield Opening("generated column", column.name, True, reason, statements if at == 0 else ())


def _checks(table: Table, columns: Columns, plan: TablePlan) -> Iterator[Opening]:
    for at, check in enumerate(table.checks, 1):
        try:
            piece = condition(check, columns)
        except Untranslatable as why:
            yield Opening("check", check, False, why.reason)
            continue
        name = constraint_name(plan.target_table, str(at), suffix="check")
        add = f"ALTER TABLE {full_name(plan)} ADD CONSTRAINT {quote(name)} CHECK ({piece.sql}) NOT VALID"
        reason = f"CHECK ({piece.sql})" + "".join(f"; {one}" for one in sorted(piece.caveats))
        yield Opening("check", check, True, reason, (add,), name)


def at_switch(tables: Mapping[str, tuple[Table, TablePlan]], views: Mapping[str, str] | None = None) -> list[Step]:
    """Everything that is made at the switch, behind the fence and before the target opens, in order: nothing here reads
    or rewrites rows, so that writers wait for catalogue entries alone. Foreign keys come after what they point to;
    views, which read everything, come last.

    Args:
        tables: lower-case source name -> table and its plan as the target has it now.
        views: name -> CREATE VIEW (schemas/objects.py:wanted_views).
    """
    steps: list[Step] = []
    for table, plan in tables.values():
        for one in openings(table, plan):
            if one.statements:
                present = _constraint(plan, one.constraint) if one.constraint else ""
                steps.append(Step(table.name, one.kind, one.constraint or one.name, one.statements, present))
    for table, plan in tables.values():
        for key in foreign_keys(table, plan, tables):
            if key.sql:
                steps.append(Step(table.name, "foreign key", key.name, (key.sql,), _constraint(plan, key.name)))
    return [*steps, *(Step(name, "view", name, (sql,)) for name, sql in (views or {}).items())]


def after_switch(tables: Mapping[str, tuple[Table, TablePlan]]) -> list[Step]:
    """VALIDATE of what came NOT VALID. It reads every row under a lock that lets writers go on; what old rows break stays
    NOT VALID and is named, and new rows are held to it all the same."""
    steps = []
    for table, plan in tables.values():
        names = [one.constraint for one in openings(table, plan) if one.constraint]
        names += [key.name for key in foreign_keys(table, plan, tables) if key.sql]
        steps += [
            Step(
                table.name,
                "constraint",
                name,
                (f"ALTER TABLE {full_name(plan)} VALIDATE CONSTRAINT {quote(name)}",),
                _constraint(plan, name, "AND convalidated"),
            )
            for name in names
        ]
    return steps


def at_return(tables: Mapping[str, tuple[Table, TablePlan]], views: Mapping[str, str] | None = None) -> list[Step]:
    """Takes away what would stand in the way of the stream once it writes here again, in the other order."""
    steps = [
        # The statement that makes it names it: CREATE OR REPLACE VIEW schema.name AS ..
        Step(name, "view", name, (f"DROP VIEW IF EXISTS {sql.removeprefix(CREATE_VIEW).partition(' AS SELECT ')[0]}",))
        for name, sql in reversed(list((views or {}).items()))
    ]
    for table, plan in tables.values():
        names = [key.name for key in foreign_keys(table, plan, tables) if key.sql]
        found = openings(table, plan)
        names += [one.constraint for one in found if one.constraint]
        steps += [
            Step(
                table.name,
                "constraint",
                name,
                (f"ALTER TABLE {full_name(plan)} DROP CONSTRAINT IF EXISTS {quote(name)}",),
            )
            for name in names
        ]
        if any(one.kind == "generated column" and one.translated for one in found):
            drop = f"DROP TRIGGER IF EXISTS tailrace_generated ON {full_name(plan)}"
            steps.append(Step(table.name, "generated column", table.name, (drop,)))
    return steps


def _constraint(plan: TablePlan, name: str, also: str = "") -> str:
    return (
        f"SELECT EXISTS (SELECT 1 FROM pg_constraint WHERE conrelid = to_regclass({text_literal(full_name(plan))}) "
        f"AND conname = {text_literal(name)} {also})"
    )
