"""Decide: the statements that bring a target table from the plan it has to one that also carries an incoming plan.

Invariant: no statement rewrites the table under readers: ALTER TYPE would show an empty table to snapshots that are
already open, so a type changes by add column, fill, drop, rename (test_widening_is_invisible_to_open_snapshots).
The result is the join of both plans: a table never becomes narrower.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from schemas.codecs_dates import sql_text
from schemas.ddl import full_name
from schemas.errors import Code, Refusal
from schemas.model import Affinity
from schemas.names import constraint_name, quote, text_literal
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import codec, join


@dataclass(frozen=True, slots=True)
class Evolution:
    """`plan`: the shape afterwards. `statements`: in order, empty when there is nothing to do. `retyped`: a column was
    replaced, so that its indexes are gone and the finalise must look again."""

    plan: TablePlan
    statements: tuple[str, ...] = ()
    retyped: bool = False


def evolve(current: TablePlan, incoming: TablePlan, *, drop_missing: bool = False) -> Evolution:
    """Join two plans of one table.

    Args:
        drop_missing: columns that `incoming` no longer has are dropped (a resync); in the stream they stay.
    """
    # The target's own names decide: SQLite renames Name to NAME and the folded column stays the same.
    have = {column.target: column for column in current.columns}
    want = {column.target: column for column in incoming.columns}
    table = full_name(current)
    statements: list[str] = []
    columns: list[ColumnPlan] = []
    key_replaced = retyped = False
    for name, column in want.items():
        old = have.get(name)
        if old is None:
            added = replace(column, not_null=False)
            statements.append(f"ALTER TABLE {table} ADD COLUMN {quote(column.target)} {_type(added)}")
            columns.append(added)
            continue
        joined = join(old.codec, column.codec, Affinity(column.affinity))
        merged = replace(column, codec=joined, pg_type=codec(joined).pg_type, not_null=old.not_null and column.not_null)
        if old.not_null and not merged.not_null and name not in current.target_key:
            statements.append(f"ALTER TABLE {table} ALTER COLUMN {quote(old.target)} DROP NOT NULL")
        if joined != old.codec:
            steps = _retype(table, old, merged, key=name in current.target_key)
            statements += steps
            retyped |= bool(steps)
            key_replaced |= bool(steps) and name in current.target_key
        columns.append(merged)
    for name, old in have.items():
        if name in want:
            continue
        if drop_missing:
            statements.append(f"ALTER TABLE {table} DROP COLUMN {quote(old.target)}")
        elif old.not_null and name not in current.target_key:
            # Rows of the incoming schema come without this column.
            statements.append(f"ALTER TABLE {table} ALTER COLUMN {quote(old.target)} DROP NOT NULL")
            columns.append(replace(old, not_null=False))
        else:
            columns.append(old)
    plan = replace(
        incoming, columns=tuple(columns), target_table=current.target_table, unique=current.unique or incoming.unique
    )
    if key_replaced:
        statements.append(primary_key(plan))
    return Evolution(plan, tuple(statements), retyped)


def rewritten(plan: TablePlan, types: Mapping[str, str]) -> list[str]:
    """Columns, none of the key, that the table has in a narrower type, as the plan has them.

    Args:
        types: target name -> the narrower type.
    """
    return [
        statement
        for column in plan.columns
        if column.target in types
        for statement in _retype(full_name(plan), replace(column, pg_type=types[column.target]), column, key=False)
    ]


def primary_key(plan: TablePlan) -> str:
    name = quote(constraint_name(plan.target_table, suffix="pkey"))
    return f"ALTER TABLE {full_name(plan)} ADD CONSTRAINT {name} PRIMARY KEY ({', '.join(map(quote, plan.target_key))})"


def covers(current: TablePlan, incoming: TablePlan) -> bool:
    """Can every record of `incoming` be written into a table of `current` as it is?"""
    have = {column.target: column for column in current.columns}
    return all(
        column.target in have
        and join(have[column.target].codec, column.codec, Affinity(column.affinity)) == have[column.target].codec
        for column in incoming.columns
    )


def _type(column: ColumnPlan) -> str:
    return f'{column.pg_type} COLLATE "C"' if column.pg_type == "text" else column.pg_type


def _retype(table: str, old: ColumnPlan, new: ColumnPlan, *, key: bool) -> list[str]:
    """No CASCADE: our own keys and indexes on the column go with it anyway, and a view that somebody made over the table
    must be named in an error, not vanish."""
    if old.pg_type == new.pg_type:
        return []
    name, temporary = quote(old.target), quote("_tailrace_new")
    statements = [
        f"ALTER TABLE {table} ADD COLUMN {temporary} {_type(new)}",
        f"UPDATE {table} SET {temporary} = {fill(old.codec, new.codec, name)}",
        f"ALTER TABLE {table} DROP COLUMN {name}",
        f"ALTER TABLE {table} RENAME COLUMN {temporary} TO {name}",
    ]
    if key:
        statements.append(f"ALTER TABLE {table} ALTER COLUMN {name} SET NOT NULL")
    return statements


_UTF8_NO_NUL = (
    "^(0[1-9a-f]|[1-7][0-9a-f]|(c[2-9a-f]|d[0-9a-f])[89ab][0-9a-f]|e0[ab][0-9a-f][89ab][0-9a-f]"
    "|(e[1-9a-c]|e[ef])([89ab][0-9a-f]){2}|ed[89][0-9a-f][89ab][0-9a-f]|f0[9ab][0-9a-f]([89ab][0-9a-f]){2}"
    "|f[1-3]([89ab][0-9a-f]){3}|f48[0-9a-f]([89ab][0-9a-f]){2})*$"
)
"""Over the hex form, pair by pair: PostgreSQL has no test for valid UTF-8 that does not raise (RFC 3629, section 4)."""


def fill(old: str, new: str, name: str) -> str:
    """SQL of a column's value in a wider codec: exactly what encoding the same SQLite value anew gives.

    Not only the same value: a key is found again by its encoded form, and a tombstone that does not find its row
    leaves the row for ever (test_fill_is_what_encoding_anew_gives). NULL stays NULL in every form.
    """
    if old == "date" or old.startswith("timestamp:"):
        return fill("text", new, sql_text(old, name)) if new != "text" else sql_text(old, name)
    if old == "json" and new != "json":
        return fill("text", new, f"{name}::text") if new != "text" else f"{name}::text"
    if new == "loose-text" and old in ("text", "loose-text"):
        return name
    if new.startswith("affinity-text") or new == "loose-text":
        return {
            "double": _double_text(name),
            "boolean": f"({name}::int)::text",
            "numeric": f"CASE WHEN {_is_int64(name)} THEN trunc({name})::text ELSE {_double_text(f'{name}::float8')} END",
        }.get(old, f"{name}::text")
    if new == "text-bytes":
        return f"convert_to({name}, 'UTF8')"
    if new in ("long", "numeric"):
        return f"{name}::int" if old == "boolean" else f"{name}::numeric"
    if new == "jsonb":
        return f"CASE WHEN {name} IS NOT NULL THEN {_json(old, name)} END"
    raise Refusal(
        Code.INTERNAL,
        f"column {name} cannot go from codec {old} to {new}",
        hint="resync the table: `tailrace resync TABLE`",
    )


def _is_int64(name: str) -> str:
    """Numeric holds an INTEGER where the number is integral and in range (codecs_numbers.NUMERIC)."""
    return f"{name} = trunc({name}) AND {name} BETWEEN -9223372036854775808 AND 9223372036854775807"


def _double_text(name: str) -> str:
    """Python's repr. The two differ between 1e15 and 1e16, where PostgreSQL already writes an exponent; the cast goes
    through text, since double precision to numeric keeps 15 digits only."""
    plain = (
        f"CASE WHEN abs({name}) >= 1e15 AND abs({name}) < 1e16 THEN {name}::text::numeric::text ELSE {name}::text END"
    )
    return (
        f"CASE WHEN {name} = 'Infinity' THEN '9e999' WHEN {name} = '-Infinity' THEN '-9e999' "
        f"WHEN {plain} ~ '[.e]' THEN {plain} ELSE {plain} || '.0' END"
    )


def _json(old: str, name: str) -> str:
    def special(kind: str, text: str) -> str:
        return f"jsonb_build_object('{kind}', {text})"

    base64 = f"replace(encode({name}, 'base64'), E'\\n', '')" if old in ("blob", "text-bytes") else ""
    if old == "boolean":
        return f"to_jsonb({name}::int)"
    if old == "double":
        return (
            f"CASE WHEN {name} = 'Infinity' THEN {special('real', text_literal('inf'))} "
            f"WHEN {name} = '-Infinity' THEN {special('real', text_literal('-inf'))} "
            f"WHEN {name}::text = '-0' THEN {special('real', text_literal('-0.0'))} "
            f"ELSE to_jsonb({name}::text::numeric + 0.0) END"
        )
    if old == "numeric":
        return f"CASE WHEN {_is_int64(name)} THEN to_jsonb(trunc({name})) ELSE to_jsonb({name} + 0.0) END"
    if old == "blob":
        return special("blob", base64)
    if old == "text-bytes":
        text = f"to_jsonb(convert_from({name}, 'UTF8'))"
        return f"CASE WHEN encode({name}, 'hex') ~ '{_UTF8_NO_NUL}' THEN {text} ELSE {special('text', base64)} END"
    if old.startswith("affinity-text"):
        # In these affinities text that looks like a number has become one, so what looks like a number is one.
        return (
            f"CASE WHEN {name} = '9e999' THEN {special('real', text_literal('inf'))} "
            f"WHEN {name} = '-9e999' THEN {special('real', text_literal('-inf'))} "
            f"WHEN {name} = '-0.0' THEN {special('real', text_literal('-0.0'))} "
            f"WHEN {name} ~ '^-?[0-9]+$' THEN to_jsonb({name}::numeric) "
            f"WHEN {name} ~ '^-?[0-9]+(\\.[0-9]+)?(e[+-][0-9]+)?$' THEN to_jsonb({name}::numeric + 0.0) "
            f"ELSE to_jsonb({name}) END"
        )
    return f"to_jsonb({name})"
