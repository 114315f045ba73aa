"""From entries and rows to records."""

from __future__ import annotations

import pytest

from capture.cut import MARKER, digest, keys_by_table, ops_by_table, records, typed, weight_bytes
from schemas.change import Entry, Op
from schemas.model import Affinity, BadText, Column, Key, KeyKind, Row, Table, TableKey


def table(*keys: str) -> Table:
    columns = tuple(Column(name, "", Affinity.BLOB) for name in (*keys, "v"))
    return Table("cases", columns, TableKey(KeyKind.DECLARED, keys, "rowid"))


def entry(seq: int, *key: object, number: int = 1, op: str = "u") -> Entry:
    return Entry(seq, 5, number, op, key)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("one", "other"),
    [(1, 1.0), (1, "1"), ("1", b"1"), (0.0, -0.0), (b"a", BadText(b"a")), (None, 0), ("a", "A"), (2**53, 2.0**53)],
)
def test_keys_of_another_class_stay_apart(one: object, other: object) -> None:
    entries = [entry(1, one), entry(2, other), entry(3, one)]
    assert [repr(one), repr(other)] == [repr(key[0]) for key in keys_by_table(entries, {1: table("k")})[1]]


def test_marks_are_equal_for_equal_keys() -> None:
    def made() -> list[Key]:
        return [(1, "a"), (1.5,), (float("inf"), None), (BadText(b"\xff"), b"\xff")]

    assert [typed(key) for key in made()] == [typed(key) for key in made()]
    assert [hash(typed(key)) for key in made()] == [hash(typed(key)) for key in made()]


def test_a_key_is_given_once_over_all_slices() -> None:
    seen: dict[int, set[tuple[object, ...]]] = {}
    tables = {1: table("k")}
    assert {1: [(1,), (2,)]} == keys_by_table([entry(1, 1), entry(2, 2), entry(3, 1)], tables, seen)
    assert {1: [(3,)]} == keys_by_table([entry(4, 2), entry(5, 3)], tables, seen)


def test_keys_are_as_wide_as_their_table() -> None:
    """The log is as wide as the widest key; the rest is NULL."""
    tables = {1: table("k"), 2: table("a", "b")}
    entries = [entry(1, 1, None, None), entry(2, 1, 2, None, number=2)]
    assert {1: [(1,)], 2: [(1, 2)]} == keys_by_table(entries, tables)


def test_markers_and_unknown_tables_carry_no_key() -> None:
    assert {} == keys_by_table([entry(1, None, number=MARKER), entry(2, 7, number=9)], {1: table("k")})


def test_a_row_is_labelled_with_the_head_and_not_with_its_entry() -> None:
    keys: list[Key] = [(1,), (2,)]
    made = records(table("k"), keys, {(1,): (1, "a")}, head=99, ops={})
    assert [99, 99] == [one.seq for one in made]


def test_the_tombstone_comes_before_the_row_that_equals_it() -> None:
    """The target may call both keys equal: the row has to be what stays."""
    found: dict[Key, Row] = {(1.0,): (1.0, "a")}
    made = records(table("k"), [(1,)], found, head=9, ops={})
    assert [((1,), None), ((1.0,), (1.0, "a"))] == [(one.key, one.row) for one in made]
    assert [int, float] == [type(one.key[0]) for one in made]


def test_ops_tell_created_from_updated_and_deleted() -> None:
    entries = [
        entry(1, 1, None, op="c"),
        entry(2, 2, None, op="u"),
        entry(3, 3, None, op="c"),
        entry(4, 3, None, op="d"),
    ]
    made = records(
        table("k"), [(1,), (2,), (3,)], {(1,): (1, "a"), (2,): (2, "b")}, head=9, ops=ops_by_table(entries)[1]
    )
    assert {(1,): Op.CREATE, (2,): Op.UPDATE, (3,): Op.DELETE} == {one.key: one.op for one in made}


def test_weight_counts_what_can_be_large() -> None:
    assert 0 == weight_bytes([])
    assert 8 + 3 + 8 + 2 == weight_bytes([(1, "abc"), (None, b"xy")])


@pytest.mark.parametrize(
    "other",
    [
        Entry(8, 5, 1, "u", (1, "a")),
        Entry(7, 6, 1, "u", (1, "a")),
        Entry(7, 5, 2, "u", (1, "a")),
        Entry(7, 5, 1, "d", (1, "a")),
        Entry(7, 5, 1, "u", (1.0, "a")),
        Entry(7, 5, 1, "u", (1, b"a")),
    ],
    ids=["seq", "time", "table", "op", "class of the first", "class of the second"],
)
def test_every_part_of_an_entry_is_in_its_digest(other: Entry) -> None:
    assert digest(Entry(7, 5, 1, "u", (1, "a"))) != digest(other)


def test_a_log_that_was_widened_since_keeps_its_digests() -> None:
    assert digest(Entry(7, 5, 1, "u", (1,))) == digest(Entry(7, 5, 1, "u", (1, None, None)))
