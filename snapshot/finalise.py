"""Do: what a table gets once it has caught up (indexes, unique constraints, NOT NULL, its sequence), and what all tables
get when the target opens (defaults, generated columns, CHECKs, foreign keys, views).

Invariant: what cannot be made is a reason that stays visible, never a stop of the data.
Order: a sequence is set when its table has caught up, from max(key) and from `sqlite_sequence`, read after that; rows that
come later are behind it only until the switch, which sets it again when the source is fenced and drained: a moment at which
neither value can move any more (test_an_insert_without_a_key_never_collides).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from adapters.postgres import Postgres
from ops.points import reach
from schemas.catalogue import SET_BEHIND, longest_of, longest_values, other_names
from schemas.ddl import full_name, indexes, not_nulls
from schemas.errors import Failed
from schemas.model import Table
from schemas.names import text_literal
from schemas.opening import Step
from schemas.plan import TablePlan
from schemas.sequences import (
    LAST,
    advance,
    generated_key,
    highest,
    identity,
    identity_of,
    into_widest_gap,
)
from snapshot.copy import NO_HURRY, drop_indexes

Say = Callable[[str, str], None]


def finalise(target: Postgres, table: Table, plan: TablePlan, *, used: Callable[[], int], say: Say) -> list[str]:
    """Indexes, NOT NULL, sequence and statistics of one table; returns what could not be made, each with its reason.

    Args:
        used: what sqlite_sequence says of this table, read when it is called.
    """
    # What an interrupted drop left behind has the name, and holds nothing.
    drop_indexes(target, plan, "NOT indisvalid")
    reasons = []
    wide = longest_values(plan)
    longest = dict(longest_of(plan, target.rows(wide)[0])) if wide else {}
    taken = [name for (name,) in target.rows(other_names(plan))]
    for one in indexes(table, plan, longest=longest, taken=taken):
        if not one.sql:
            reasons.append(f"{one.name}: {one.reason}")
            continue
        reasons += attempt(target, one.name, [one.sql], say)
        reach("snapshot.mid_finalise")
    for statement in not_nulls(plan):
        reasons += attempt(target, "not null", [statement], say)
    reasons += set_sequence(target, table, plan, used=used, say=say)
    with target.transaction():
        target.run(NO_HURRY)
        target.run(f"ANALYZE {full_name(plan)}")
    return reasons


def set_sequence(target: Postgres, table: Table, plan: TablePlan, *, used: Callable[[], int], say: Say) -> list[str]:
    """Give a key that SQLite makes by itself an identity, and set its sequence behind every key. May be called again."""
    column = generated_key(table, plan)
    if column is None:
        return []
    try:
        with target.transaction():
            target.run(NO_HURRY)
            if target.rows(identity_of(plan, column))[0][0] is None:
                target.run(identity(plan, column))
            name = str(target.rows(identity_of(plan, column))[0][0])
            if target.rows(highest(plan, column))[0][0] == LAST and not table.autoincrement:
                value = target.rows(into_widest_gap(name, plan, column))[0][0]
            else:
                value = target.rows(advance(name, plan, column, used=used()))[0][0]
            target.run(f"COMMENT ON SEQUENCE {name} IS {text_literal(f'{SET_BEHIND}{value}')}")
    except Failed as error:
        say("snapshot.sequence_failed", f"{plan.table}: {error.message}")
        return [f"sequence of {column.name}: {error.message}"]
    return []


def attempt(target: Postgres, name: str, statements: Sequence[str], say: Say) -> list[str]:
    """Run the statements of one object in one transaction; a failure is that object's reason."""
    try:
        with target.transaction():
            target.run(NO_HURRY)
            for statement in statements:
                target.run(statement)
    except Failed as error:
        say("snapshot.index_failed", f"{name}: {error.message}")
        return [f"{name}: {error.message}"]
    return []


def open_objects(target: Postgres, steps: Sequence[Step], say: Say) -> Mapping[str, str]:
    """Make the objects of the switch, in order, each by itself; what failed -> why. May be called again: what is there
    already is left alone (a resumed switch)."""
    failed = {}
    for step in steps:
        if step.present and target.rows(step.present)[0][0]:
            continue
        for reason in attempt(target, step.name, step.statements, say):
            failed[f"{step.kind} {step.name} of {step.table}"] = reason
    return failed
