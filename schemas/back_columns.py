"""Decide: what a column that was added on the target becomes in SQLite, or why it cannot come back; pure.

Invariant: what comes back goes forward again as the same value: a type that rounds, pads or normalises what SQLite would
write into it after a rollback is refused, with the reason. Rows that are older than the column show its DEFAULT on both
sides without any trigger having fired; where PostgreSQL shows something else in them, their keys are logged.
The column is always called as it would be called had it come from SQLite: a name that changes on the way would be two
columns after the next switch (test_what_sqlite_cannot_give_back_is_refused_by_name).
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Final

from schemas.codecs import fits
from schemas.introspect import affinity_of
from schemas.model import OWN_PREFIX, ROWID_COLUMN, Value
from schemas.names import fold, target_names, text_literal
from schemas.plan import ColumnPlan, TablePlan
from schemas.typemap import codec

_TYPES = {
    "bigint": ("INTEGER", "long"),
    "integer": ("INTEGER", "long"),
    "smallint": ("INTEGER", "long"),
    "boolean": ("BOOLEAN", "boolean"),
    "double precision": ("REAL", "double"),
    "numeric": ("NUMERIC", "numeric"),
    "text": ("TEXT", "text"),
    "character varying": ("TEXT", "text"),
    "json": ("JSON TEXT", "json"),
    "bytea": ("BLOB", "blob"),
    "date": ("DATE", "date"),
    "timestamp without time zone": ("TIMESTAMP", "timestamp:_u"),
    "timestamp with time zone": ("TIMESTAMP", "timestamp:_u+00:00"),
}
"""PostgreSQL type -> declared type in SQLite, codec."""

_LITERAL = re.compile(
    r"(?:\(?(?P<number>-?[0-9]+(?:\.[0-9]+)?)\)?|(?P<word>true|false|NULL)|'(?P<text>(?:[^']|'')*)')"
    r"(?:::(?P<type>[a-z ]+))?"
)
"""A constant as PostgreSQL writes a DEFAULT back. Whatever calls a function is none."""


class _Nothing:
    """No constant; NULL is one."""


NOTHING: Final = _Nothing()


@dataclass(frozen=True, slots=True)
class Seen:
    """A column as the target's catalogue has it."""

    name: str
    number: int
    type: str
    not_null: bool = False
    computed: bool = False
    """Generated or an identity."""
    default: str | None = None
    filled: str | None = None
    """What rows show that are older than the column, where they are not rewritten yet."""


@dataclass(frozen=True, slots=True)
class Grown:
    """`plan`: with the new columns, at the end. `touch`: rows that are there may show something else than SQLite would."""

    plan: TablePlan
    seen: tuple[Seen, ...]
    touch: bool


def grow(plan: TablePlan, columns: Sequence[Seen], mark_of: Callable[[str], str] = lambda name: "") -> Grown | str:  # noqa: ARG005
    """The plan with these columns, or why one of them cannot come back.

    Args:
        mark_of: what the operator ordered for a column of this name (policy.ColumnPolicy.mark).
    """
    touch = False
    grown = plan
    for one in columns:
        why = _named_otherwise(grown, one.name) or _unfit(one)
        value = NOTHING if why else _constant(one, one.default)
        if not why and value is NOTHING:
            why = f"its default {one.default} is no constant"
        if why:
            return f"column {one.name} ({one.type}) was added: {why}"
        touch |= _shown(one) != value
        grown = replace(grown, columns=(*grown.columns, _column(one, value, mark_of(one.name))))
    return Grown(grown, tuple(columns), touch)


def _column(one: Seen, value: Any, mark: str) -> ColumnPlan:
    declared, name = _TYPES[one.type]
    # SQLite adds no NOT NULL column without a default; every row that comes from here has a value all the same.
    not_null = one.not_null and value is not None
    added = f"{declared}{' NOT NULL' if not_null else ''}{f' DEFAULT {_literal(value)}' if value is not None else ''}"
    return ColumnPlan(
        name=one.name,
        target=one.name,
        declared=declared,
        pg_type=codec(name).pg_type,
        codec=name,
        not_null=not_null,
        why="added on PostgreSQL after the switch",
        affinity=affinity_of(declared),
        policy=mark,
        added=added,
    )


def _named_otherwise(plan: TablePlan, name: str) -> str:
    known = [column.name for column in plan.columns if column.name != ROWID_COLUMN]
    if fold(name) in {fold(column) for column in known} | {fold(column.target) for column in plan.columns}:
        return "SQLite tells no two names apart by case"
    preserve = any(column.target != fold(column.target) for column in plan.columns)
    odd = fold(name) in ("rowid", "oid", "_rowid_") or name.startswith(OWN_PREFIX) or not name
    if odd or target_names([*known, name], preserve=preserve)[name] != name:
        return "it would have another name when it comes from SQLite"
    return ""


def _unfit(one: Seen) -> str:
    if one.computed:
        return "it is computed, and SQLite could not write it"
    if one.type in _TYPES:
        return ""
    if one.type.endswith("]"):
        return "SQLite has no arrays"
    if "(" in one.type or one.type == "real":
        return "it would round, cut or pad what SQLite writes after a rollback; the type without a size comes back"
    if one.type == "jsonb":
        return "it does not keep its text; json does"
    return "what SQLite writes after a rollback would not fit into this type as it is"


def _constant(one: Seen, text: str | None) -> Any:
    """The SQLite value of a DEFAULT, None for NULL or without one; NOTHING where it is no constant of this type."""
    found = _LITERAL.fullmatch(text) if text is not None else None
    if text is None:
        return None
    if found is None:
        return NOTHING
    if found["word"] == "NULL":
        return None
    raw = found["text"].replace("''", "'") if found["text"] is not None else found["number"] or found["word"]
    return _value(one, raw)


def _shown(one: Seen) -> Any:
    """What rows show that are older than the column."""
    return None if one.filled is None else _value(one, one.filled)


def _value(one: Seen, raw: str) -> Any:
    """A value in PostgreSQL's own text form, as SQLite holds it."""
    rule = codec(_TYPES[one.type][1])
    try:
        there: Any = _READ.get(rule.pg_type, str)(raw)
        sent = rule.from_pg(there) if rule.from_pg else there
        value: Value = rule.decode(sent) if rule.decode else sent
        if not fits(rule, value) or (isinstance(value, float) and math.isnan(value)):
            return NOTHING
        back: Any = rule.encode(value) if rule.encode else value
        same = there == (rule.to_pg(back) if rule.to_pg else back)
    except (ValueError, ArithmeticError):
        return NOTHING
    return value if same and "\x00" not in raw else NOTHING


_READ: dict[str, Callable[[str], Any]] = {
    "bigint": int,
    "boolean": lambda raw: raw in ("true", "t"),
    "double precision": float,
    "numeric": Decimal,
    "bytea": lambda raw: bytes.fromhex(raw.removeprefix("\\x")),
    "date": date.fromisoformat,
    "timestamp": datetime.fromisoformat,
    "timestamptz": datetime.fromisoformat,
}


def _literal(value: Value) -> str:
    match value:
        case str():
            return text_literal(value)
        case bytes():
            return f"x'{value.hex()}'"
        case float() if math.isinf(value):
            return "9e999" if value > 0 else "-9e999"
        case _:
            return repr(value)
