"""Do: read one chunk of a cut in the caller's view: entries, the rows of their keys, and the head that labels them.

Invariant: the chunk's entries are a prefix of the log after the position, and every key of that prefix was read in this
one view. It ends early when the rows read so far weigh enough, so that memory is bounded by bytes and not by rows alone
(test_a_chunk_is_bounded_by_bytes). A key is read once a chunk: inside one view a second look shows the same row.
Trap: a NULL that arrives in a declared key is found by no equality; its row would be taken for deleted
(test_a_null_that_arrives_in_a_declared_key_resyncs_the_table).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from capture.cut import Mark, keys_by_table, ops_by_table, records, weight_bytes
from capture.sqlite_source import SqliteView
from schemas.change import Entry, Position, Record
from schemas.model import KeyKind, Table

FIRST_SLICE_ROWS = 128
"""Rows read before the first look at their weight; each later slice is twice as long."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """What one view gave. `reached`: the view held no more entries after these."""

    entries: Sequence[Entry]
    records: Mapping[str, Sequence[Record]]
    head: int
    reached: bool
    rekey: str | None = None
    """A table in whose declared key this view holds a NULL: it must be named by its rowid before anything is sent."""


def read_chunk(
    view: SqliteView,
    entries: Sequence[Entry],
    tables: Mapping[int, Table],
    *,
    head: int,
    limit_bytes: int,
    upto: int | None = None,
) -> Chunk:
    """Rows of a prefix of `entries`, until they weigh `limit_bytes` (the slice that crosses the limit is kept).

    Args:
        upto: where the cut ends: the head, or the cutoff of a fence. The label is the head all the same.
    """
    end = head if upto is None else upto
    found: dict[str, list[Record]] = {}
    read: dict[int, set[Mark]] = {}
    taken, slice_rows, heavy_bytes = 0, FIRST_SLICE_ROWS, 0
    while taken < len(entries) and heavy_bytes < limit_bytes:
        part = entries[taken : taken + slice_rows]
        ops = ops_by_table(part)
        for number, keys in keys_by_table(part, tables, read).items():
            table = tables[number]
            if table.key.kind is KeyKind.DECLARED and any(None in key for key in keys):
                if view.holds_null_key(table):
                    return Chunk(entries[:taken], {}, head, reached=False, rekey=table.name)
                # Come and gone between two cuts: no row has it now, and the target's key never could hold it.
                keys = [key for key in keys if None not in key]
            rows = view.rows(table, keys)
            heavy_bytes += weight_bytes(list(rows.values()))
            found.setdefault(table.name, []).extend(records(table, keys, rows, head=head, ops=ops[number]))
        taken += len(part)
        slice_rows *= 2
    own = entries[:taken]
    return Chunk(own, found, head, reached=not entries or own[-1].seq >= end)


def first_gap(entries: Sequence[Entry], position: Position) -> int | None:
    """Seq at which the log goes on, when it is not the one after the position."""
    return entries[0].seq if entries and entries[0].seq != position.seq + 1 else None
