"""Decide: what becomes of everything in a source schema that is not a column: carried, translated, reported, refused.

Invariant: every key, index, foreign key, CHECK, DEFAULT, NOT NULL, generated column, sequence, collation, conflict clause,
view, trigger, virtual table and table left out has exactly one verdict; nothing vanishes without a line
(test_everything_has_a_verdict).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from itertools import pairwise

from schemas.advice import of_trigger, of_virtual
from schemas.ddl import foreign_keys, index_pairs
from schemas.grammar import Untranslatable
from schemas.model import Database, KeyKind, SchemaObject, Table
from schemas.names import fold
from schemas.opening import columns_of, openings
from schemas.plan import TablePlan
from schemas.sequences import generated_key, sequence_name
from schemas.sqltext import tokens
from schemas.views import Parents, view_sql

_NAME_CHARS = 60
"""A CHECK has no name of its own: the beginning of its text stands for it."""
ALL_VIEWS = "all"


class Verdict(StrEnum):
    CARRIED = "carried"
    TRANSLATED = "translated"
    REPORTED = "reported"
    REFUSED = "refused"


class When(StrEnum):
    """When an object is there on the target. Until a table has caught up it has its key and its guard alone."""

    START = "with the table"
    CAUGHT_UP = "once the table has caught up"
    SWITCH = "at the switch"
    VALIDATED = "at the switch, validated after it"
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class ObjectVerdict:
    """One object of the source. `kind`: table, key, index, not null, foreign key, check, default, generated column,
    sequence, collation, conflict clause, option, view, trigger, virtual or shadow. `reason` is one sentence, empty only
    where the object is simply carried."""

    table: str
    name: str
    kind: str
    verdict: Verdict
    reason: str
    when: When = When.NEVER
    target: str = ""
    """Its name on the target, where it may have another one there."""

    @property
    def label(self) -> str:
        return f"{self.name} -> {self.target}" if self.target not in ("", self.name) else self.name


def verdicts(
    database: Database,
    plans: Mapping[str, TablePlan],
    *,
    views: Collection[str] | str = (),
    longest: Mapping[str, Mapping[str, int]] | None = None,
    orphaned: Mapping[tuple[str, int], int] | None = None,
) -> list[ObjectVerdict]:
    """Verdicts in the order of the tables, then the other objects.

    Args:
        plans: source table name -> plan of every table that is replicated.
        views: names of views that are wanted on the target, or "all".
        longest: source table -> column -> bytes of its longest value.
        orphaned: (source table, place of the foreign key) -> rows that have no parent.
    """
    result: list[ObjectVerdict] = []
    parents = parents_of(database, plans)
    for name, table in database.tables.items():
        if name in plans:
            result += _of_table(table, plans[name], parents, dict((longest or {}).get(name, {})), orphaned or {})
        elif table.key.kind is KeyKind.WHOLE_ROW:
            result.append(ObjectVerdict(name, name, "table", Verdict.REFUSED, table.key.reason))
        else:
            result.append(ObjectVerdict(name, name, "table", Verdict.REPORTED, "left out by the configuration"))
    schema = next((plan.target_schema for plan in plans.values()), "public")
    result += [_of_object(one, parents, views, schema) for one in database.objects]
    return _apart(result)


def parents_of(database: Database, plans: Mapping[str, TablePlan]) -> Parents:
    return {fold(name): (database.tables[name], plan) for name, plan in plans.items() if name in database.tables}


def wanted_views(
    database: Database, parents: Parents, views: Collection[str] | str, *, schema: str, preserve: bool = False
) -> tuple[dict[str, str], dict[str, str]]:
    """(name -> CREATE VIEW, name -> why not) of the views that the configuration asks for, in the order of the schema."""
    made, failed = {}, {}
    for one in database.objects:
        if one.kind == "view" and wanted(one.name, views):
            try:
                made[one.name] = view_sql(one, parents, schema=schema, preserve=preserve).sql
            except Untranslatable as why:
                failed[one.name] = why.reason
    known = {one.name for one in database.objects if one.kind == "view"}
    if not isinstance(views, str):
        failed |= {name: "there is no view of this name" for name in views if name not in known}
    return made, failed


def wanted(view: str, views: Collection[str] | str) -> bool:
    return views == ALL_VIEWS or (not isinstance(views, str) and view in views)


def _of_table(
    table: Table, plan: TablePlan, parents: Parents, longest: dict[str, int], orphaned: Mapping[tuple[str, int], int]
) -> Iterator[ObjectVerdict]:
    yield _key(table)
    yield from _columns(table, plan)
    for index, made in index_pairs(table, plan, longest):
        when = When.CAUGHT_UP if made.sql else When.NEVER
        # A constraint's index has a name in SQLite that nobody gave it.
        name = index.name if index.origin == "c" else made.name
        yield ObjectVerdict(table.name, name, "index", Verdict(made.verdict), made.reason, when, target=made.name)
    for at, key in enumerate(foreign_keys(table, plan, parents)):
        when = When.VALIDATED if key.sql else When.NEVER
        count = orphaned.get((table.name, at), 0)
        reason = (
            f"{key.reason}; {count} rows have no parent: while they are there it stays NOT VALID"
            if count
            else key.reason
        )
        # One that stays NOT VALID is not simply carried.
        verdict = Verdict.TRANSLATED if count and key.sql else Verdict(key.verdict)
        yield ObjectVerdict(table.name, key.name, "foreign key", verdict, reason, when)
    for one in openings(table, plan):
        verdict = Verdict.TRANSLATED if one.translated else Verdict.REPORTED
        when = When.NEVER if not one.translated else When.VALIDATED if one.constraint else When.SWITCH
        reason = one.reason
        if not one.translated and one.kind == "generated column":
            reason = f"its values are carried in a plain column; after the switch nothing computes it: {reason}"
        elif not one.translated and one.kind == "check":
            reason = f"the source enforces it while it is written; after the switch nothing does: {reason}"
        yield ObjectVerdict(table.name, one.name[:_NAME_CHARS], one.kind, verdict, reason, when)
    column = generated_key(table, plan)
    if column is not None:
        why = f"an identity with sequence {sequence_name(plan, column)}, set above every key; set again at the switch"
        why += "; keys of AUTOINCREMENT are never given twice" if table.autoincrement else ""
        yield ObjectVerdict(table.name, column.name, "sequence", Verdict.TRANSLATED, why, When.CAUGHT_UP)
    yield from _options(table)


def _key(table: Table) -> ObjectVerdict:
    if table.key.kind is KeyKind.ROWID:
        why = f"{table.key.reason}: the rowid is the key there, in column _tailrace_rowid"
        return ObjectVerdict(table.name, table.name, "key", Verdict.TRANSLATED, why, When.START)
    name = ", ".join(table.key.columns)
    return ObjectVerdict(table.name, name, "key", Verdict.CARRIED, "", When.START)


def _columns(table: Table, plan: TablePlan) -> Iterator[ObjectVerdict]:
    for column, one in columns_of(table, plan).values():
        if column.not_null and column.name not in plan.key:
            if one.not_null:
                yield ObjectVerdict(table.name, column.name, "not null", Verdict.CARRIED, "", When.CAUGHT_UP)
            else:
                why = "rows hold NULL against it: it would refuse them"
                yield ObjectVerdict(table.name, column.name, "not null", Verdict.REPORTED, why)
        if column.collation.upper() != "BINARY" and one.pg_type == "text":
            why = f"{column.collation} is kept in the indexes; the application's own comparisons are by bytes there"
            yield ObjectVerdict(table.name, column.name, "collation", Verdict.REPORTED, why)


def _options(table: Table) -> Iterator[ObjectVerdict]:
    if table.strict:
        yield ObjectVerdict(table.name, "STRICT", "option", Verdict.CARRIED, "", When.START)
    if table.without_rowid:
        yield ObjectVerdict(table.name, "WITHOUT ROWID", "option", Verdict.CARRIED, "", When.START)
    parts = tokens(table.sql)
    for at, (one, after) in enumerate(pairwise(parts)):
        if one.is_word("ON") and after.is_word("CONFLICT") and at + 2 < len(parts):
            word = parts[at + 2].text.upper()
            if word != "ABORT":
                why = "a constraint has no conflict clause there: name it in each INSERT, ON CONFLICT (..) DO .."
                yield ObjectVerdict(table.name, f"ON CONFLICT {word}", "conflict clause", Verdict.REPORTED, why)


def _of_object(one: SchemaObject, parents: Parents, views: Collection[str] | str, schema: str) -> ObjectVerdict:
    if one.kind == "view":
        return _of_view(one, parents, views, schema)
    reason = {"trigger": of_trigger, "virtual": of_virtual}.get(one.kind, _of_shadow)(one)
    return ObjectVerdict(one.table, one.name, one.kind, Verdict.REPORTED, one.note or reason)


def _of_view(one: SchemaObject, parents: Parents, views: Collection[str] | str, schema: str) -> ObjectVerdict:
    asked = wanted(one.name, views)
    try:
        found = view_sql(one, parents, schema=schema)
    except Untranslatable as why:
        reason = f"it has no counterpart here: {why.reason}"
        return ObjectVerdict(one.table, one.name, "view", Verdict.REPORTED, reason)
    if not asked:
        reason = f'not asked for: views = ["{one.name}"] in the configuration makes it'
        return ObjectVerdict(one.table, one.name, "view", Verdict.REPORTED, reason)
    reason = "; ".join(["its SELECT is translated", *found.caveats])
    return ObjectVerdict(one.table, one.name, "view", Verdict.TRANSLATED, reason, When.SWITCH)


def _of_shadow(one: SchemaObject) -> str:
    return f"storage of virtual table {one.table}"


def _apart(found: list[ObjectVerdict]) -> list[ObjectVerdict]:
    """Two CHECKs may begin with the same text, and a conflict clause may come twice: each keeps its own line."""
    seen: Counter[tuple[str, str, str]] = Counter()
    result = []
    for one in found:
        mark = (one.table, one.kind, one.name)
        seen[mark] += 1
        result.append(one if seen[mark] == 1 else replace(one, name=f"{one.name} ({seen[mark]})"))
    return result
