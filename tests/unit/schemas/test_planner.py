"""Orders of the operator: taken where every value survives, refused by name where not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from ops.config import parse
from schemas.errors import ConfigError
from schemas.introspect import introspect
from schemas.planner import Planned, plan_table
from schemas.policy import ColumnPolicy, Policies
from schemas.restore import not_as_ordered, unrestorable


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    one.run("CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER, day TEXT, u)")
    one.run("INSERT INTO t VALUES (1, 0, '2024-02-29', 1), (2, 1, '2024-03-01', 'one')")
    yield one
    one.close()


def planned(db: SqliteDatabase, policies: Policies) -> Planned:
    return plan_table(db, introspect(db).tables["t"], policies, source="s", prefix="p", target_schema="s")


def ordered(**types: str) -> Policies:
    return Policies(columns={f"s.t.{column}": {"type": kind} for column, kind in types.items()})


def test_an_ordered_type_is_taken_where_every_value_survives(db: SqliteDatabase) -> None:
    found = planned(db, ordered(n="boolean", day="date", u="jsonb"))
    assert {} == found.refused
    assert ["bigint", "boolean", "date", "jsonb"] == [column.pg_type for column in found.plan.columns]


def test_an_ordered_type_that_would_change_a_value_is_refused(db: SqliteDatabase) -> None:
    db.run("INSERT INTO t VALUES (3, 2, '2024-02-30', 2.5)")
    found = planned(db, ordered(n="boolean", day="date", u="text"))
    assert {"n", "day", "u"} == set(found.refused)
    assert "1 values" in found.refused["n"]


def test_a_mix_is_refused_or_named_as_ordered(db: SqliteDatabase) -> None:
    assert {"u"} == set(planned(db, Policies(ColumnPolicy(on_mixed="refuse"))).refused)
    loose = Policies(ColumnPolicy(on_mixed="text"))
    assert ["u"] == list(unrestorable(planned(db, loose).plan, loose))
    waived = Policies(loose.default, {"S.T.u": {"restore": "waived"}})
    assert {} == unrestorable(planned(db, loose).plan, waived)


def test_unknown_settings_name_the_nearest(tmp_path: Path) -> None:
    base = {"source_databases": {"s": "s.db"}}
    for wrong, near in (
        ({"on_null": "bytea"}, "on_nul"),
        ({"columns": {"s.t.u": {"typ": "text"}}}, "type"),
        ({"columns": {"s.t.u": {"type": "texts"}}}, "text"),
    ):
        with pytest.raises(ConfigError) as caught:
            parse({**base, **wrong}, folder=tmp_path, name="tailrace.toml")
        assert near in caught.value.hint


def test_a_running_table_that_is_not_as_ordered_is_named(tmp_path: Path) -> None:
    db = SqliteDatabase(tmp_path / "t.db", create=True)
    db.run("CREATE TABLE t(id INTEGER PRIMARY KEY, d DATE, b BOOLEAN, s TEXT, at DATETIME)")
    db.run("INSERT INTO t VALUES (1, '2024-01-01', 1, 'a', '2024-01-01T00:00:00Z')")
    table = introspect(db).tables["t"]
    made = plan_table(db, table, Policies(), source="s", prefix="p", target_schema="s")
    db.close()
    assert {} == not_as_ordered(made.plan, Policies())
    storage = Policies(ColumnPolicy(types="storage"))
    assert ["d", "b", "at"] == list(not_as_ordered(made.plan, storage))
    ordered = Policies(columns={"s.t.s": {"type": "jsonb"}, "S.T.at": {"type": "timestamp"}, "s.t.d": {"type": "date"}})
    assert {"s": 'type = "jsonb" is ordered, the table has text'} == not_as_ordered(made.plan, ordered)
