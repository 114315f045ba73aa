"""The last state of every key: labels, floors, key schemas."""

from __future__ import annotations

from schemas.avro import frame
from schemas.change import Stored
from schemas.wire import record_headers
from sink.collapse import collapse


def record(key: bytes, value: bytes | None, seq: int, *, offset: int = 0, schema: int = 1) -> Stored:
    framed = None if value is None else frame(2, value)
    return Stored("t", 0, offset, 0, frame(schema, key), framed, record_headers("u", seq, "me"))


def test_lower_label_never_wins() -> None:
    """A stale process appended an older state behind a newer one."""
    found = collapse([record(b"k", b"new", 9), record(b"k", b"old", 4)], floor=0)
    assert [(frame(1, b"k"), frame(2, b"new"))] == found.upserts
    assert [] == found.deletes


def test_equal_label_is_equal_state_and_the_later_one_stays() -> None:
    assert 1 == len(collapse([record(b"k", b"same", 9), record(b"k", b"same", 9)], floor=0))


def test_a_tombstone_with_the_highest_label_deletes() -> None:
    found = collapse([record(b"k", b"row", 3), record(b"k", None, 5), record(b"k", b"row", 4)], floor=0)
    assert [frame(1, b"k")] == found.deletes
    assert [] == found.upserts


def test_record_at_the_floor_is_ignored() -> None:
    found = collapse([record(b"a", b"x", 7), record(b"b", b"x", 8)], floor=7)
    assert [frame(1, b"b")] == [key for key, _ in found.upserts]
    assert 8 == found.highest


def test_keys_of_two_schemas_are_compared_by_value() -> None:
    keys = {(1, b"1"): (1,), (5, b"one"): (1,), (5, b"real"): (1.0,)}
    found = collapse(
        [record(b"1", b"old", 3), record(b"one", b"new", 4, schema=5), record(b"real", b"other", 4, schema=5)],
        floor=0,
        decode_key=lambda schema_id, payload: keys[schema_id, payload],
    )
    assert [frame(2, b"new"), frame(2, b"other")] == [value for _, value in found.upserts]
