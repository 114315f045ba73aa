"""Decide: what becomes of values that their column's codec does not hold: a wider codec, or quarantine; pure.

Invariant: after a settlement every value fits the chosen codec or has a reason to stay behind, and either the codec moved
or something stays behind, so that whoever asks again and again comes to an end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from schemas.codecs import TEXT_BYTES, fits
from schemas.codecs_json import JSONB
from schemas.codecs_numbers import LOOSE_TEXT
from schemas.model import Affinity, BadText, Value
from schemas.plan import ColumnPlan, TablePlan, with_codec
from schemas.policy import ColumnPolicy
from schemas.typemap import codec, join, widen

_CLASSES = {int: "integer", float: "real", str: "text", BadText: "text", bytes: "blob"}


@dataclass(frozen=True, slots=True)
class Settled:
    """`codec`: of the column from now on. `policy`: the setting that keeps values behind."""

    column: str
    codec: str
    policy: ColumnPolicy

    def refusal(self, value: Value) -> str:
        """Why this value stays behind; empty where the codec holds it. Never the value itself."""
        if fits(codec(self.codec), value):
            return ""
        if awkward(value) and self.policy.on_nul == "quarantine":
            return f'column {self.column!r}: text with a NUL or that is not UTF-8 (on_nul = "quarantine")'
        setting = "on_misfit" if self.policy.on_misfit == "quarantine" else "on_mixed"
        found = _CLASSES[type(value)]
        return (
            f"column {self.column!r}: this {found} does not fit {codec(self.codec).pg_type} "
            f'({setting} = "{getattr(self.policy, setting)}")'
        )


def awkward(value: Value) -> bool:
    """Text that PostgreSQL's text cannot hold."""
    return isinstance(value, BadText) or (isinstance(value, str) and "\x00" in value)


def settle(plan: TablePlan, column: ColumnPlan, values: Sequence[Value], policy: ColumnPolicy) -> Settled:
    """What the policy says of these values of one column.

    A key, or a column of a table with unique constraints, never becomes text of any class: 1 and '1' would be one there.
    """
    keeps_nul = policy.on_nul == "quarantine"
    now = codec(column.codec)
    left = [one for one in values if not fits(now, one) and not (keeps_nul and awkward(one))]
    if not left or policy.on_misfit == "quarantine":
        return Settled(column.name, column.codec, policy)
    shut = {JSONB.name} | ({TEXT_BYTES.name} if keeps_nul else set())
    chosen = widen(column.codec, left, Affinity(column.affinity), shut=shut)
    if chosen is None:
        loose = column.name not in plan.key and not plan.unique
        chosen = _mixed(column, left, policy.on_mixed, loose=loose)
    return Settled(column.name, chosen, policy)


def _mixed(column: ColumnPlan, left: Sequence[Value], on_mixed: str, *, loose: bool) -> str:
    if on_mixed == "text" and loose:
        reachable = LOOSE_TEXT.name == join(column.codec, LOOSE_TEXT.name, Affinity(column.affinity))
        return LOOSE_TEXT.name if reachable and any(fits(LOOSE_TEXT, one) for one in left) else column.codec
    return column.codec if on_mixed == "refuse" or column.codec == LOOSE_TEXT.name else JSONB.name


def resettled(plan: TablePlan, settled: Settled) -> TablePlan:
    """The plan after a settlement."""
    before = next(one.codec for one in plan.columns if one.name == settled.column)
    if settled.codec == before:
        return plan
    return with_codec(plan, settled.column, settled.codec, "widened by a later value")


def widened(plan: TablePlan, column: str, values: Sequence[Value], policy: ColumnPolicy | None = None) -> TablePlan:
    """The plan that carries these values of one column as far as the policy allows."""
    one = next(one for one in plan.columns if one.name == column)
    return resettled(plan, settle(plan, one, values, policy or ColumnPolicy()))
