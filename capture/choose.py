"""Do: choose the plan that one table is published with: the last one registered while it fits, else a new profile.

Invariant: a plan is never narrower than an earlier one of the same table, so that whatever the stream holds can be read
into whatever the target has become.
"""

from __future__ import annotations

from collections.abc import Callable

from schemas.avro import plan_of
from schemas.model import ROWID_COLUMN, Table
from schemas.names import topic_of
from schemas.plan import TablePlan, carried_over
from schemas.planner import plan_table
from schemas.policy import Policies
from schemas.ports import Registry, Sqlite


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
    policies: Policies,
    say: Callable[[str, str], None],
) -> TablePlan:
    """Inside the caller's view. A profile reads the whole table once, so an earlier plan of this shape and under these
    policies is preferred; a table that is already there never becomes narrower, whatever is ordered now."""
    subject = f"{topic_of(prefix, source, table.name)}-value"
    newest = registry.latest(subject)
    last = plan_of(newest) if newest is not None else None
    shape = tuple(table.row_columns)
    if last is not None and tuple(c.name for c in last.columns) == shape and last.key == table.key_columns:
        marks = [policies.of(source, table.name, c.name).mark for c in last.columns if c.name != ROWID_COLUMN]
        if marks == [c.policy for c in last.columns if c.name != ROWID_COLUMN]:
            return last
    say("capture.profile", f"{table.name}: reading the storage classes of every value")
    planned = plan_table(
        db,
        table,
        policies,
        source=source,
        prefix=prefix,
        target_schema=target_schema,
        preserve=preserve,
        target_table=target_table,
    )
    for column, why in planned.refused.items():
        # `up` and `plan` refuse it; what came since follows the profile, so that nothing is lost meanwhile.
        say("capture.policy", f"{table.name}.{column}: {why}")
    same_key = last is not None and last.key == planned.plan.key
    return carried_over(last, planned.plan) if last is not None and same_key else planned.plan
