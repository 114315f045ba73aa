"""Which notices the stream is owed."""

from __future__ import annotations

from collections.abc import Mapping

from capture.meta import Meta, MetaTable
from capture.owed import owed_notices
from schemas.change import Notice


def meta(tables: Mapping[str, int], gone: Mapping[str, int] | None = None) -> Meta:
    made = {
        number: MetaTable(name, generation, "rowid-alias", ("id",), "", 1)
        for number, (name, generation) in enumerate(tables.items(), start=1)
    }
    return Meta("one", 1, "", 1, 1, 0, made, gone or {})


def owed(known: Meta, announced: Mapping[str, int], gone_said: frozenset[str] = frozenset()) -> list[Notice]:
    shapes = {one.name: {len(one.name)} for one in known.tables.values()}
    return owed_notices(known, announced, shapes, gone_said, source="main", seq=7, schema_ids=_ids)


def _ids(table: str) -> tuple[int, int]:
    return len(table), 2


def test_a_new_shape_is_announced_once() -> None:
    known = meta({"cases": 2})
    new = owed_notices(known, {"cases": 2}, {"cases": {4}}, (), source="main", seq=7, schema_ids=_ids)
    assert [("shape", "cases", 2)] == told(new)
    assert [] == owed_notices(known, {"cases": 2}, {"cases": {4, 5}}, (), source="main", seq=7, schema_ids=_ids)


def told(notices: list[Notice]) -> list[tuple[str, str, int]]:
    return [(str(one.kind), one.table, one.generation) for one in notices]


def test_a_table_the_stream_does_not_know_is_owed_a_copy() -> None:
    (notice,) = owed(meta({"cases": 1}), {})
    assert ("main", "cases", 7, 1, 5, 2) == (
        notice.source,
        notice.table,
        notice.seq,
        notice.generation,
        notice.value_schema_id,
        notice.key_schema_id,
    )


def test_only_a_higher_generation_is_owed_again() -> None:
    assert [("copy", "tags", 3)] == told(owed(meta({"cases": 2, "tags": 3}), {"cases": 2, "tags": 2}))


def test_a_dropped_table_is_owed_one_gone() -> None:
    known = meta({}, {"tags": 4})
    assert [("gone", "tags", 4)] == told(owed(known, {"tags": 4}))
    assert [] == owed(known, {"tags": 4}, frozenset({"tags"}))


def test_a_table_that_came_and_went_unseen_is_not_mentioned() -> None:
    assert [] == owed(meta({}, {"brief": 1}), {})


def test_a_table_that_came_back_is_copied_again() -> None:
    assert [("copy", "tags", 5)] == told(owed(meta({"tags": 5}), {"tags": 4}, frozenset({"tags"})))
