"""What a column that was added on PostgreSQL becomes in SQLite, and what keeps it from coming back."""

from __future__ import annotations

import pytest

from schemas.back_columns import Grown, Seen, grow
from schemas.plan import ColumnPlan, TablePlan, plan_from_json, plan_to_json

ID = ColumnPlan("id", "id", "INTEGER", "bigint", "long", True, "")
PLAN = TablePlan("s", "t", "s", "t", "p.s.t-t", (ID, ColumnPlan("V", "v", "TEXT", "text", "text", False, "")), ("id",))


def seen(kind: str, default: str | None = None, filled: str | None = None, **named: object) -> Seen:
    return Seen(str(named.pop("name", "w")), 3, kind, default=default, filled=filled, **named)  # type: ignore[arg-type]


DEFINED = (
    (seen("integer"), "INTEGER", False),
    (seen("bigint", "'-5'::integer", "-5", not_null=True), "INTEGER NOT NULL DEFAULT -5", False),
    (seen("bigint", "(-5)", "-5"), "INTEGER DEFAULT -5", False),
    (seen("boolean", "true", "t"), "BOOLEAN DEFAULT 1", False),
    (seen("double precision", "'Infinity'::double precision", "Infinity"), "REAL DEFAULT 9e999", False),
    (seen("numeric", "1.50", "1.50"), "NUMERIC DEFAULT 1.5", False),
    (seen("text", "'it''s'::text", "it's"), "TEXT DEFAULT 'it''s'", False),
    (seen("character varying", "'w'::character varying", "w"), "TEXT DEFAULT 'w'", False),
    (seen("bytea", "'\\x00ff'::bytea", "\\x00ff"), "BLOB DEFAULT x'00ff'", False),
    (seen("date", "'2026-02-28'::date", "2026-02-28"), "DATE DEFAULT '2026-02-28'", False),
    (
        seen(
            "timestamp with time zone",
            "'2026-02-28 10:00:00.5+00'::timestamp with time zone",
            "2026-02-28 10:00:00.5+00",
        ),
        "TIMESTAMP DEFAULT '2026-02-28 10:00:00.500000+00:00'",
        False,
    ),
    (seen("json", "'{\"a\":  1}'::json", '{"a":  1}'), "JSON TEXT DEFAULT '{\"a\":  1}'", False),
    (seen("text", "NULL::text"), "TEXT", False),
    # Filled by hand before it was NOT NULL: SQLite adds no such column without a default.
    (seen("text", not_null=True), "TEXT", False),
    # What older rows show is not, or not surely, what SQLite's DEFAULT would show.
    (seen("integer", "7", "5"), "INTEGER DEFAULT 7", True),
    (seen("integer", "7"), "INTEGER DEFAULT 7", True),
    (seen("integer", None, "5"), "INTEGER", True),
)


@pytest.mark.parametrize(("column", "definition", "touch"), DEFINED, ids=lambda one: repr(one)[:60])
def test_a_column_comes_back_as_sqlite_declares_it(column: Seen, definition: str, touch: bool) -> None:
    found = grow(PLAN, [column], lambda name: f"mark of {name}")
    assert isinstance(found, Grown)
    made = found.plan.columns[-1]
    assert (definition, touch, "mark of w") == (made.added, found.touch, made.policy)
    assert found.plan == plan_from_json(plan_to_json(found.plan))


REFUSED = (
    (seen("text[]"), "SQLite has no arrays"),
    (seen("app.mood"), "would not fit into this type as it is"),
    (seen("uuid"), "would not fit into this type as it is"),
    (seen("numeric(10,2)"), "it would round, cut or pad"),
    (seen("character varying(10)"), "it would round, cut or pad"),
    (seen("timestamp(0) without time zone"), "it would round, cut or pad"),
    (seen("real"), "it would round, cut or pad"),
    (seen("jsonb"), "json does"),
    (seen("bigint", computed=True), "it is computed"),
    (seen("timestamp with time zone", "now()"), "its default now() is no constant"),
    (seen("bigint", "nextval('s'::regclass)"), "is no constant"),
    (seen("text", "('a'::text || 'b'::text)"), "is no constant"),
    (seen("double precision", "'NaN'::double precision"), "is no constant"),
    (seen("date", "'infinity'::date"), "is no constant"),
    (seen("json", "'nothing'::json"), "is no constant"),
    (seen("text", name="v"), "no two names apart by case"),
    (seen("text", name="ID"), "no two names apart by case"),
    (seen("text", name="Mixed"), "another name"),
    (seen("bigint", name="rowid"), "another name"),
    (seen("bigint", name="_tailrace_new"), "another name"),
)


@pytest.mark.parametrize(("column", "why"), REFUSED, ids=lambda one: repr(one)[:60])
def test_what_would_not_be_the_same_when_it_goes_forward_again_is_refused(column: Seen, why: str) -> None:
    found = grow(PLAN, [seen("text", name="fine"), column])
    assert isinstance(found, str)
    assert why in found
    assert f"column {column.name} ({column.type}) was added: " in found


def test_a_name_is_kept_where_names_are_kept() -> None:
    """`identifiers = "preserve"`: a column that is not lower case shows it."""
    kept = TablePlan(
        "s", "t", "s", "t", "p.s.t-t", (ID, ColumnPlan("V", "V", "TEXT", "text", "text", False, "")), ("id",)
    )
    assert isinstance(grow(kept, [seen("text", name="Mixed")]), Grown)
