"""Every gate blocks on a bad value and on one that could not be read."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from cutover.gates import Gate, Verdict, refuse_closed, waive
from cutover.judging import NEVER_S, Bounds, SourceFacts, TargetFacts, judged
from cutover.reports import Instance, RouterReports
from schemas.errors import Code, Refusal

BOUNDS = Bounds(lag_changes=10, verify_age_s=3600, backup_age_s=86400, free_bytes=1000)
GOOD = SourceFacts(
    lag_changes=3,
    applied_age_s=1.0,
    consistent=True,
    quarantined=0,
    back_quarantined=0,
    verify_age_s=60.0,
    unverified=9000,
    backup_age_s=60.0,
    busy="",
    free_bytes=5000,
    schema_stable=True,
    unanalyzed=(),
    objects={},
)
TARGET = TargetFacts(pooler="", sharing=(), unproven={}, stream_back=("", ""), reports=RouterReports(), epoch=4)

SOURCE_CASES: list[tuple[str, dict[str, Any], str]] = [
    ("lag_changes", {"lag_changes": 11}, "lag a"),
    ("applied_age_s", {"applied_age_s": 31.0}, "alive a"),
    ("consistent", {"consistent": False}, "consistent a"),
    ("quarantined", {"quarantined": 1}, "quarantine a"),
    ("back_quarantined", {"back_quarantined": 1}, "quarantine back a"),
    ("verify_age_s", {"verify_age_s": 3601.0}, "verified a"),
    ("verify_age_s", {"verify_age_s": NEVER_S}, "verified a"),
    ("unverified", {"unmarked": "t was copied since"}, "final verify a"),
    ("backup_age_s", {"backup_age_s": 86401.0}, "backup a"),
    ("backup_age_s", {"backup_fault": "it is not what its digest says"}, "backup a"),
    ("busy", {"busy": "no write lock within 0.5 s"}, "writers a"),
    ("free_bytes", {"free_bytes": 999}, "disk a"),
    ("schema_stable", {"schema_stable": False}, "schema a"),
    ("unanalyzed", {"unanalyzed": ("a.t",)}, "analyze a"),
    ("objects", {"objects": {"a.audit": "trigger"}}, "object:a.audit"),
]
TARGET_CASES: list[tuple[str, dict[str, Any], str]] = [
    ("pooler", {"pooler": "through a pooler"}, "target connection"),
    ("sharing", {"sharing": ("psql",)}, "target role"),
    ("unproven", {"unproven": {"a.t": "its key is not in the log"}}, "way back"),
    ("stream_back", {"stream_back": ("topic x does not exist", "make it")}, "way back stream"),
    ("reports", {"reports": RouterReports(instances={"web": Instance(4, 40.0)})}, "instances"),
    ("reports", {"reports": RouterReports(instances={"web": Instance(4, 1.0, stale=True)})}, "instances"),
    ("reports", {"reports": RouterReports(instances={"web": Instance(3, 1.0)})}, "instances"),
]
WAIVABLE = {"backup a", "analyze a", "object:a.audit", "target role", "instances"}


def closed(gates: list[Gate]) -> list[tuple[str, Verdict]]:
    return [(one.name, one.verdict) for one in gates if not one.open]


def test_all_is_open_where_all_is_good() -> None:
    gates = judged({"a": GOOD, "b": GOOD}, TARGET, BOUNDS)
    assert [] == closed(gates)
    refuse_closed(gates)


@pytest.mark.parametrize(("field", "bad", "name"), SOURCE_CASES)
def test_a_bad_source_blocks(field: str, bad: dict[str, Any], name: str) -> None:
    gates = judged({"a": replace(GOOD, **bad), "b": GOOD}, TARGET, BOUNDS)
    assert [(name, Verdict.BLOCK)] == closed(gates)
    with pytest.raises(Refusal, match=name) as refused:
        refuse_closed(gates)
    assert (Code.GATE_BLOCKED, True) == (refused.value.code, bool(refused.value.hint))
    unknown = judged({"a": replace(GOOD, **{field: None})}, TARGET, BOUNDS)
    assert [Verdict.UNKNOWN] == [verdict for _, verdict in closed(unknown)]


@pytest.mark.parametrize(("field", "bad", "name"), TARGET_CASES)
def test_a_bad_target_blocks(field: str, bad: dict[str, Any], name: str) -> None:
    assert [(name, Verdict.BLOCK)] == closed(judged({"a": GOOD}, replace(TARGET, **bad), BOUNDS))
    assert [(name, Verdict.UNKNOWN)] == closed(judged({"a": GOOD}, replace(TARGET, **{field: None}), BOUNDS))


def test_reports_that_cannot_be_read_are_unknown_and_too_few_block() -> None:
    broken = replace(TARGET, reports=RouterReports(unreadable=("Redis",)))
    assert [("instances", Verdict.UNKNOWN)] == closed(judged({"a": GOOD}, broken, BOUNDS))
    one = replace(TARGET, reports=RouterReports(instances={"web": Instance(4, 1.0)}))
    assert [] == closed(judged({"a": GOOD}, one, BOUNDS))
    assert [("instances", Verdict.BLOCK)] == closed(judged({"a": GOOD}, one, replace(BOUNDS, instances=2)))


def test_every_fact_has_a_case() -> None:
    """A fact that is added without a test that it blocks is found here."""
    covered = {field for field, _, _ in SOURCE_CASES} | {"backup_fault", "reasons", "unmarked"}
    assert {one.name for one in fields(SourceFacts)} == covered
    assert {one.name for one in fields(TargetFacts)} == {field for field, _, _ in TARGET_CASES} | {
        "epoch",
        "no_rollback",
    }
    lost = replace(TARGET, no_rollback={"a.t": "its column was dropped"})
    assert [("no rollback a.t", Verdict.BLOCK)] == closed(judged({"a": GOOD}, lost, BOUNDS))
    said = replace(GOOD, reasons=("a: not installed",))
    assert [("status a", Verdict.BLOCK)] == closed(judged({"a": said}, TARGET, BOUNDS))


def test_only_what_a_human_can_accept_is_waivable() -> None:
    for _, bad, name in SOURCE_CASES:
        _waived(judged({"a": replace(GOOD, **bad)}, TARGET, BOUNDS), name)
    for _, bad, name in TARGET_CASES:
        _waived(judged({"a": GOOD}, replace(TARGET, **bad), BOUNDS), name)
    everything_unknown = judged({"a": SourceFacts()}, TargetFacts(), BOUNDS)
    firm = [one.name for one in everything_unknown if not one.waivable]
    assert {"lag a", "alive a", "consistent a", "verified a", "backup a", "way back", "way back stream"} <= set(firm)
    with pytest.raises(Refusal, match=r"no gate 'object:a\.other'"):
        waive(judged({"a": replace(GOOD, objects={"a.audit": "trigger"})}, TARGET, BOUNDS), ["object:a.other"])


def _waived(gates: list[Gate], name: str) -> None:
    if name in WAIVABLE:
        assert [] == closed(waive(gates, [name]))
        return
    with pytest.raises(Refusal, match="cannot be waived"):
        waive(gates, [name])


def test_the_first_word_waives_that_gate_of_every_source() -> None:
    stale = replace(GOOD, backup_age_s=NEVER_S, backup_fault="there is none")
    gates = judged({"a": stale, "b": stale}, TARGET, BOUNDS)
    assert [("backup b", Verdict.BLOCK)] == closed(waive(gates, ["backup a"]))
    assert [] == closed(waive(gates, ["backup"]))
