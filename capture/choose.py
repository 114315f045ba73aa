"""Do: choose the plan that one table is published with: the last one registered while it fits, else a new profile.

Invariant: a plan is never narrower than an earlier one of the same table, so that whatever the stream holds can be read
into whatever the target has become.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.avro import plan_of
from schemas.model import Table
from schemas.names import topic_of
from schemas.plan import TablePlan, build_table_plan, carried_over
from schemas.ports import Registry, Sqlite
from schemas.profile import profile_table


def choose_plan(
    db: Sqlite,
    table: Table,
    registry: Registry,
    *,
    source: str,
    prefix: str,
    target_schema: str,
    target_table: str,
    preserve: bool,
    types: str,
    say: Callable[[str, str], None],
) -> TablePlan:
    """Inside the caller's view. A profile reads the whole table once, so an earlier plan of this shape is preferred."""
    subject = f"{topic_of(prefix, source, table.name)}-value"
    newest = registry.latest(subject)
    last = plan_of(newest) if newest is not None else None
    shape = tuple(table.row_columns)
    if last is not None and tuple(c.name for c in last.columns) == shape and last.key == table.key_columns:
        return last
    say("capture.profile", f"{table.name}: reading the storage classes of every value")
    plan = build_table_plan(
        table,
        profile_table(db, table),
        source=source,
        prefix=prefix,
        target_schema=target_schema,
        preserve=preserve,
        target_table=target_table,
        types=types,
    )
    return carried_over(last, plan) if last is not None and last.key == plan.key else plan
