"""Do: log keys on the target, so that the way back reads their rows and sends them again: the only repair there is, as in
capture/install.py for the other direction.

Invariant: a key that is logged costs a record, one that is not logged is lost: where it is not known which rows a source has
as they are, all keys are logged, those of the source among them, since a row that only the source has must go.
Case: test_a_way_back_that_was_lost_is_begun_anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from adapters.postgres import Postgres
from capture.postgres_triggers import LOG, key_json
from schemas.ddl import full_name
from schemas.errors import Misfit
from schemas.model import Key
from schemas.names import beside_parameters, quote, text_literal
from schemas.plan import TablePlan, read_as
from schemas.rows import RowCodec

BATCH_KEYS = 5000
_INTO = f"INSERT INTO {LOG}(source, tab, op, key)"


def touch_all(target: Postgres, plan: TablePlan) -> int:
    """Every row of the target's table. In the caller's transaction if one is open. Returns how many."""
    key = [plan.columns[at] for at in plan.key_indexes]
    return target.run(f"{_INTO} SELECT {_whose(plan)}, 't', {key_json(key, 't')} FROM {full_name(plan)} AS t")


def touch_keys(target: Postgres, plan: TablePlan, keys: Sequence[Key]) -> int:
    """SQLite keys, whether the target has such a row or not. Returns how many it could hold: no row of another key is there."""
    return _touch(target, plan, keys, _keys_sql(plan))


def touch_absent(target: Postgres, plan: TablePlan, keys: Sequence[Key]) -> int:
    """Of these SQLite keys those of which the target has no row."""
    same = " AND ".join(f"there.{quote(name)} = t.{quote(name)}" for name in plan.target_key)
    absent = f" WHERE NOT EXISTS (SELECT 1 FROM {full_name(plan)} AS there WHERE {same})"
    return _touch(target, plan, keys, _keys_sql(plan) + beside_parameters(absent))


def _touch(target: Postgres, plan: TablePlan, keys: Sequence[Key], sql: str) -> int:
    logged = 0
    codec = RowCodec(read_as(plan))
    for start in range(0, len(keys), BATCH_KEYS):
        rows = _held(codec, keys[start : start + BATCH_KEYS])
        if rows:
            logged += target.run(sql, [list(column) for column in zip(*rows, strict=True)])
    return logged


def _held(codec: RowCodec, keys: Sequence[Key]) -> list[tuple[Any, ...]]:
    try:
        return codec.sqlite_keys_to_pg(keys)
    except Misfit:
        if len(keys) == 1:
            return []
    middle = len(keys) // 2
    return _held(codec, keys[:middle]) + _held(codec, keys[middle:])


def _keys_sql(plan: TablePlan) -> str:
    """One array parameter a key column. json travels as text and is cast on the server."""
    key = [plan.columns[at] for at in plan.key_indexes]
    arrays = ", ".join(f"%b::{'text' if column.pg_type == 'jsonb' else column.pg_type}[]" for column in key)
    places = ", ".join(f"c{at}" for at in range(len(key)))
    typed = ", ".join(f"c{at}::{column.pg_type} AS {quote(column.target)}" for at, column in enumerate(key))
    whose, value = beside_parameters(_whose(plan)), beside_parameters(key_json(key, "t"))
    return (
        f"{_INTO} SELECT {whose}, 't', {value} FROM (SELECT {beside_parameters(typed)} "
        f"FROM unnest({arrays}) AS u({places})) AS t"
    )


def _whose(plan: TablePlan) -> str:
    return f"{text_literal(plan.source)}, {text_literal(plan.table)}"
