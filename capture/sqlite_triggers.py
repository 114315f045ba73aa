"""Decide: the change log's DDL and the triggers of one table, as statements; pure.

Invariant: every key whose row may differ after a statement is in the log before that statement's transaction commits.
Over-logging is harmless, under-logging is fatal; each rule below was bought with a counter-example:
- REPLACE deletes rows without firing DELETE triggers while recursive_triggers is off (SQLite: lang_conflict), so BEFORE
  triggers log every other row that equals NEW on any unique key. One INSERT .. SELECT per unique key, never an OR of keys,
  and COLLATE on the left operand: SQLite 3.40 turns `(a = ?) OR (a = ? COLLATE NOCASE)` into an IN that ignores it.
- `INSERT OR REPLACE VALUES (2, NULL)` into a NOT NULL column with a DEFAULT takes the default after BEFORE has fired.
- A rowid table that a declared key identifies still has its rowid: `UPDATE OR REPLACE t SET rowid = 2` displaces a row.
- In BEFORE, NEW.g of a generated column is computed before affinity: its expression over base columns is used instead.
- An update of a key logs both keys, compared as BINARY with typeof: 'Alpha' -> 'ALPHA' under NOCASE and 1 -> 1.0 in an
  untyped key are other keys on the target.
- The trigger created last fires first: ours are created after the application's (test_ours_fire_first).
Only syntax of SQLite 3.8 is used, since the triggers run inside the application's own library.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.model import LOG, OWN_PREFIX, Affinity, Column, Index, IndexTerm, KeyKind, Table
from schemas.names import fold, quote, text_literal
from schemas.sqltext import qualify, tokens

NOW_MS = "CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)"
"""Statement time in ms; `unixepoch('now','subsec')` needs SQLite 3.42."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Every rule can be taken out by a test that shows the rule is needed; production uses the default."""

    before: bool = True
    default_of_not_null: bool = True
    expand_generated: bool = True
    key_too: bool = True
    old_key: bool = True
    typeof_key: bool = True
    collate: bool = True
    rowid_too: bool = True


ALL_RULES = Rules()


def log_statements(width: int, existing: int = 0) -> list[str]:
    """Create the log with `width` key columns, or widen one that has `existing`. No UNIQUE, CHECK, NOT NULL or
    AUTOINCREMENT: an outer OR IGNORE would swallow the log row, and seq must fall back with a rollback."""
    if existing:
        return [f"ALTER TABLE {LOG} ADD COLUMN k{at}" for at in range(existing, width)]
    keys = "".join(f", k{at}" for at in range(width))
    return [f"CREATE TABLE {LOG}(seq INTEGER PRIMARY KEY, ts, tab, op{keys})"]


def trigger_prefix(number: int) -> str:
    return f"{OWN_PREFIX}{number}_"


def key_expressions(table: Table, prefix: str = "") -> list[str]:
    """SQL of the key columns, qualified with `NEW.`, `OLD.` or a table alias."""
    key = table.key
    if key.kind is KeyKind.ROWID:
        return [f"{prefix}{key.rowid_name}"]
    names = key.columns if key.kind is not KeyKind.WHOLE_ROW else tuple(c.name for c in table.columns)
    return [f"{prefix}{quote(name)}" for name in names]


def trigger_statements(table: Table, number: int, rules: Rules = ALL_RULES) -> list[str]:
    """All triggers of one table, in creation order."""
    before = _displaced(table, number, rules, update=False)
    statements = []
    if before:
        statements.append(_trigger(table, number, "bi", "BEFORE INSERT", before))
        statements.append(_trigger(table, number, "bu", "BEFORE UPDATE", _displaced(table, number, rules, update=True)))
    new, old = key_expressions(table, "NEW."), key_expressions(table, "OLD.")
    statements.append(_trigger(table, number, "ad", "AFTER DELETE", [_log(number, "d", old)]))
    if rules.old_key:
        changed = _key_changed(table, old, new, rules)
        statements.append(_trigger(table, number, "ak", "AFTER UPDATE", [_log(number, "d", old)], when=changed))
    statements.append(_trigger(table, number, "au", "AFTER UPDATE", [_log(number, "u", new)]))
    statements.append(_trigger(table, number, "ai", "AFTER INSERT", [_log(number, "c", new)]))
    return statements


def _trigger(table: Table, number: int, suffix: str, event: str, body: Sequence[str], when: str = "") -> str:
    condition = f" WHEN {when}" if when else ""
    lines = " ".join(f"{statement};" for statement in body)
    return (
        f"CREATE TRIGGER {trigger_prefix(number)}{suffix} {event} ON {quote(table.name)} FOR EACH ROW{condition} "
        f"BEGIN {lines} END"
    )


def _columns(width: int) -> str:
    return "ts, tab, op" + "".join(f", k{at}" for at in range(width))


def _log(number: int, op: str, key: Sequence[str]) -> str:
    return f"INSERT INTO {LOG}({_columns(len(key))}) VALUES ({NOW_MS}, {number}, '{op}', {', '.join(key)})"


def _key_changed(table: Table, old: Sequence[str], new: Sequence[str], rules: Rules) -> str:
    if table.key.kind in (KeyKind.ROWID, KeyKind.ROWID_ALIAS):
        return f"{old[0]} IS NOT {new[0]}"  # always integers: neither collation nor class can differ
    parts = []
    for before, after in zip(old, new, strict=True):
        parts.append(f"{before} COLLATE BINARY IS NOT {after}")
        if rules.typeof_key:
            parts.append(f"typeof({before}) <> typeof({after})")
    return " OR ".join(parts)


def _displaced(table: Table, number: int, rules: Rules, *, update: bool) -> list[str]:
    """One INSERT .. SELECT per unique key: every other row that equals NEW on it."""
    if not rules.before:
        return []
    statements = []
    key = key_expressions(table)
    for index in table.indexes:
        if not index.unique or (index.origin == "pk" and not rules.key_too):
            continue
        conditions = [_match(table, term, rules) for term in index.terms]
        if index.where is not None:
            # A displaced row is one that is in the index, so it satisfies the predicate: exact, and it lets SQLite
            # use the partial index instead of scanning the table.
            conditions.append(f"({index.where})")
        if update:
            if table.key.kind is not KeyKind.WHOLE_ROW:
                same = " AND ".join(f"{c} COLLATE BINARY IS OLD.{c}" for c in key)
                conditions.append(f"NOT ({same})")
            moved = _moved(table, index)
            if moved:
                conditions.append(f"({moved})")
        statements.append(
            f"INSERT INTO {LOG}({_columns(len(key))}) SELECT {NOW_MS}, {number}, 'd', {', '.join(key)} "
            f"FROM {quote(table.name)} WHERE {' AND '.join(conditions)}"
        )
    if table.key.kind is KeyKind.DECLARED and table.key.rowid_name is not None and rules.rowid_too:
        # NEW.rowid is -1 in a BEFORE INSERT that gave none: looked for in vain, or one key logged for nothing.
        rowid = table.key.rowid_name
        moved = f" AND OLD.{rowid} IS NOT NEW.{rowid}" if update else ""
        statements.append(
            f"INSERT INTO {LOG}({_columns(len(key))}) SELECT {NOW_MS}, {number}, 'd', {', '.join(key)} "
            f"FROM {quote(table.name)} WHERE {rowid} = NEW.{rowid}{moved}"
        )
    return statements


def _moved(table: Table, index: Index) -> str:
    """The update changes a column of this plain index; empty where that cannot be said (partial, expression,
    generated): a row may enter a partial index although none of its terms changed."""
    if index.where is not None:
        return ""
    parts = []
    for term in index.terms:
        if term.column is None or term.column == "rowid" or table.column(term.column).is_generated:
            return ""
        name = quote(term.column)
        parts.append(f"OLD.{name} COLLATE BINARY IS NOT NEW.{name} OR typeof(OLD.{name}) <> typeof(NEW.{name})")
    return " OR ".join(parts)


def _match(table: Table, term: IndexTerm, rules: Rules) -> str:
    collate = f" COLLATE {quote(term.collation)}" if rules.collate else ""
    if term.column is not None:
        column = table.column(term.column)
        return f"{quote(column.name)}{collate} = {_new_value(table, column, rules)}"
    expression = term.expression or "NULL"
    return f"({expression}){collate} = ({_over_new(table, expression, rules)})"


def _new_value(table: Table, column: Column, rules: Rules) -> str:
    """What NEW will hold in this column once the statement has run."""
    if column.is_generated and column.generated is not None and rules.expand_generated:
        return f"({_over_new(table, column.generated, rules)})"
    value = f"NEW.{quote(column.name)}"
    if column.not_null and column.default is not None and rules.default_of_not_null:
        return f"coalesce({value}, {_stored(_default(column.default), column.affinity)})"
    return value


def _stored(default: str, affinity: Affinity) -> str:
    """A default as the column will hold it. Its column's affinity is applied on the way in, after BEFORE has fired: where
    a generated column shows it, 2 in a TEXT column is '2' (seed 4164 of the model with several connections)."""
    number = f"CAST(CAST({default} AS NUMERIC) AS TEXT) = {default} AND typeof({default}) = 'text'"
    match affinity:
        case Affinity.TEXT:
            return f"CASE WHEN typeof({default}) IN ('integer', 'real') THEN CAST({default} AS TEXT) ELSE {default} END"
        case Affinity.REAL:
            return (
                f"CASE WHEN {number} OR typeof({default}) = 'integer' THEN CAST({default} AS REAL) ELSE {default} END"
            )
        case Affinity.INTEGER | Affinity.NUMERIC:
            return (
                f"CASE WHEN {number} OR typeof({default}) = 'real' THEN CAST({default} AS NUMERIC) ELSE {default} END"
            )
        case _:
            return default


def _default(text: str) -> str:
    parts = tokens(text)
    if len(parts) == 1 and parts[0].kind == "quoted":
        return text_literal(parts[0].name or "")
    if len(parts) == 1 and parts[0].kind == "word" and not parts[0].text.upper().startswith("CURRENT_"):
        # DEFAULT abc: SQLite takes a bare word as a string, except for the words it knows.
        if parts[0].text.upper() in ("NULL", "TRUE", "FALSE"):
            return parts[0].text
        return text_literal(parts[0].text)
    return f"({text})"


def _over_new(table: Table, expression: str, rules: Rules) -> str:
    """An expression over stored columns, rewritten over NEW; generated columns expanded, as deep as they go."""
    columns = {fold(column.name): column.name for column in table.columns}

    def render(name: str) -> str:
        return _new_value(table, table.column(name), rules)

    return qualify(expression, columns, render)
