"""Do: make the way back ready before anything is switched: log and triggers on the target, bookkeeping in the sources, and
a proof that each table's triggers log the keys they must.

Invariant: everything here may be done long before a switch and twice; the triggers rest until the open, and the proof is
rolled back. A way back that was never seen to work is no gate that a switch may pass.
"""

from __future__ import annotations

from collections.abc import Sequence

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.postgres_shapes import STATEMENT as SHAPES
from capture.postgres_triggers import LOG, LOG_STATEMENTS, TRIGGERS, firing, trigger_statements
from cutover.source_fence import carried_of
from schemas.back import PROGRESS, RESTING, STATEMENTS
from schemas.ddl import full_name
from schemas.errors import Code, Failed, TailraceError
from schemas.model import META
from schemas.names import quote
from schemas.plan import TablePlan, plan_from_json

LOCK_TIMEOUT_MS = 2000


class _Undo(Exception):
    """Ends the proof's transaction without a trace."""


def plans_of(target: Postgres, source: str | None = None) -> list[TablePlan]:
    """The tables that are replicated now, as the target has them."""
    found = target.rows(
        "SELECT source, plan::text FROM tailrace.tables WHERE plan IS NOT NULL AND state <> 'gone' ORDER BY source, \"table\""
    )
    return [plan_from_json(text) for name, text in found if source is None or name == source]


def prepare_target(target: Postgres) -> list[str]:
    """Returns the tables whose triggers are new."""
    made = []
    with target.transaction():
        target.run("SELECT pg_advisory_xact_lock(7232301)")
        for statement in (*LOG_STATEMENTS, SHAPES):
            target.run(statement)
    for plan in plans_of(target):
        name = full_name(plan)
        present = {
            str(one)
            for (one,) in target.rows(
                "SELECT tgname::text FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND tgname = ANY(%s)",
                (name, list(TRIGGERS)),
            )
        }
        with target.transaction():
            target.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
            for statement in trigger_statements(plan, present):
                target.run(statement)
        if set(TRIGGERS) - present:
            made.append(name)
    return made


def prepared(target: Postgres, plans: Sequence[TablePlan]) -> bool:
    """Do log and triggers stand on every table?"""
    names = [full_name(plan) for plan in plans]
    found = target.rows(
        "SELECT count(*) FROM pg_trigger WHERE tgrelid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) AS name) "
        "AND tgname = ANY(%s)",
        (names, list(TRIGGERS)),
    )
    return int(found[0][0]) == len(names) * len(TRIGGERS)


def prepare_source(db: SqliteDatabase) -> bool:
    """The bookkeeping of the way back, in one transaction; False: it is there. Capture sees no change of the application."""
    with db.write():
        if db.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (PROGRESS,)):
            return False
        before = db.schema_version()
        for statement in STATEMENTS:
            db.run(statement)
        db.run(
            f"UPDATE {META} SET value = ? WHERE key = 'schema_version' AND value = ?",
            (str(db.schema_version()), str(before)),
        )
        return True


def take_up(db: SqliteDatabase, token: int, label: int) -> None:
    """A file that was put back to a checkpoint rests above every label of the time before; the next way back brings labels
    above this one. One that a later attempt has fenced is left alone: what its target wrote may lie below the label
    (model: taken_up_by_token).

    Args:
        token: of the row, read before the label, when it gave writes to the sources.
    """
    with db.write():
        if metas.has_table(db, PROGRESS) and carried_of(db).token <= token:
            db.run(
                f"UPDATE {PROGRESS} SET owner = '', applied = ?, highest = ?, applying_to = NULL WHERE applied = ?",
                (label, label, RESTING),
            )


def prove(target: Postgres, plans: Sequence[TablePlan]) -> dict[str, str]:
    """table -> why its triggers cannot be trusted; empty: each table's changed, deleted and created row was logged."""
    wrong = {}
    for plan in plans:
        try:
            _prove_one(target, plan)
        except _Undo:
            continue
        except TailraceError as error:
            wrong[full_name(plan)] = error.message
    return wrong


def _prove_one(target: Postgres, plan: TablePlan) -> None:
    """One row is changed, deleted and made again, and the transaction is rolled back. An empty table proves nothing and
    has nothing to lose yet: its triggers are the same text."""
    table = full_name(plan)
    key = quote(plan.target_key[0])
    with target.transaction():
        target.run(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
        for statement in firing(plan):
            target.run(statement)
        found = target.rows(f"SELECT ctid::text FROM {table} LIMIT 1")
        if not found:
            raise _Undo
        row = found[0][0]
        changed = target.rows(f"UPDATE {table} SET {key} = {key} WHERE ctid = '{row}'::tid RETURNING ctid::text")
        if not changed:
            # A trigger or a rule of somebody else's swallows writes: what the stream says was applied was not either.
            raise Failed(Code.REVERSE_UNPROVEN, f"{table} did not take an UPDATE of its key to itself")
        _logged(target, table, "u")
        stored = target.rows(
            "SELECT attname::text FROM pg_attribute WHERE attrelid = to_regclass(%s) AND attnum > 0 "
            "AND NOT attisdropped AND attgenerated = '' ORDER BY attnum",
            (table,),
        )
        columns = ", ".join(quote(name) for (name,) in stored)
        target.run(
            f"WITH gone AS (DELETE FROM {table} WHERE ctid = '{changed[0][0]}'::tid RETURNING {columns}) "
            f"INSERT INTO {table} ({columns}) OVERRIDING SYSTEM VALUE SELECT {columns} FROM gone"
        )
        _logged(target, table, "d")
        _logged(target, table, "c")
        raise _Undo


def _logged(target: Postgres, table: str, op: str) -> None:
    found = target.rows(f"SELECT count(*) FROM {LOG} WHERE xid = txid_current() AND op::text = %s", (op,))[0][0]
    if not found:
        raise Failed(
            Code.REVERSE_UNPROVEN, f"a row of {table} was changed ({op}) and its key is not in the target's log"
        )
