"""Do: the plan of one table from its shape, its values and the operator's policies, in the caller's view.

Invariant: a type that the operator ordered is taken only if every value that is there survives it; what does not is named
and refused, never bent (test_an_ordered_type_that_would_change_a_value_is_refused).
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from schemas.codecs import fits
from schemas.model import Column, Table
from schemas.names import quote
from schemas.plan import TablePlan, build_table_plan
from schemas.policy import Policies
from schemas.ports import Sqlite
from schemas.profile import Said, TableProfile, profile_table
from schemas.typemap import Codec, choose, codec


@dataclass(frozen=True, slots=True)
class Planned:
    """`refused`: column -> why its policy cannot be followed; the plan then carries it by the profile's choice."""

    plan: TablePlan
    profile: TableProfile
    refused: dict[str, str]


def plan_table(
    db: Sqlite,
    table: Table,
    policies: Policies,
    *,
    source: str,
    prefix: str,
    target_schema: str,
    preserve: bool = False,
    target_table: str | None = None,
    profile: TableProfile | None = None,
    said: Said = lambda rows, expected: None,  # noqa: ARG005
) -> Planned:
    """`profile`: of this table as it is, where it is known already. `said`: see profile_table."""
    ordered = {column.name: policies.of(source, table.name, column.name) for column in table.columns}
    asked = {name: policy.type for name, policy in ordered.items() if policy.type}
    found = profile or profile_table(db, table, asked=asked, said=said)
    plan = build_table_plan(
        table,
        found,
        source=source,
        prefix=prefix,
        target_schema=target_schema,
        preserve=preserve,
        target_table=target_table,
        policies=policies,
    )
    refused = {}
    for column in table.columns:
        policy = ordered[column.name]
        planned = next(one for one in plan.columns if one.name == column.name)
        if policy.type:
            lost = _lost(db, table, column, codec(planned.codec))
            right = codec(planned.codec).pg_type.startswith(policy.type)
            if lost or not right:
                count = f"{lost:,} values" if lost else "its values"
                refused[column.name] = f'type = "{policy.type}" would not bring {count} back as they are'
        elif policy.on_mixed == "refuse" and column.name in found.columns:
            usual, why = choose(column, found.columns[column.name], in_key=column.name in table.key_columns)
            if usual.name == "jsonb":
                refused[column.name] = f'{why}: on_mixed = "refuse"'
    return Planned(plan, found, refused)


def _lost(db: Sqlite, table: Table, column: Column, one: Codec) -> int:
    """Values of a column that the codec would not bring back."""
    c = quote(column.name)
    lost = 0
    with closing(db.batches(f"SELECT {c} FROM {quote(table.name)} WHERE {c} IS NOT NULL")) as batches:
        for rows in batches:
            lost += sum(not fits(one, row[0]) for row in rows)
    return lost
