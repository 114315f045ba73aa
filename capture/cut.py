"""Decide: from entries and the rows read with them to records; pure.

Invariant: a record's seq is the log head of the view in which its row was read, never its entry's seq.
Case: an entry read late and labelled with its own seq lies under a watermark that its row's state overtakes
(test_label_below_the_state).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

from schemas.change import Entry, Op, Record
from schemas.model import Key, Row, Table

MARKER = 0
"""Table number of entries that carry no key: they only move seq (install, rebuild, resync)."""


Mark = tuple[object, ...]
"""A key with its storage classes: hashable, and equal only to itself."""


def keys_by_table(
    entries: Sequence[Entry], tables: Mapping[int, Table], seen: dict[int, set[Mark]] | None = None
) -> dict[int, list[Key]]:
    """Distinct keys per table number, in order of first mention. Keys of equal value and other class stay apart.

    Args:
        seen: keys that were already given; grows by what is given now.
    """
    known: dict[int, set[Mark]] = {} if seen is None else seen
    widths = {number: len(table.key_columns) for number, table in tables.items()}
    found: dict[int, list[Key]] = {}
    for entry in entries:
        number = entry.table
        if number not in widths:
            continue  # a marker, a table that is gone, or entries under a key that the table had before
        key = entry.key[: widths[number]]
        mark = typed(key)
        marks = known.setdefault(number, set())
        if mark not in marks:
            marks.add(mark)
            found.setdefault(number, []).append(key)
    return found


def ops_by_table(entries: Sequence[Entry]) -> dict[int, dict[Key, str]]:
    """Table number -> key columns of the entry -> last op. Informational, so equal keys of other classes may share."""
    found: dict[int, dict[Key, str]] = {}
    for entry in entries:
        found.setdefault(entry.table, {})[entry.key] = entry.op
    return found


def typed(key: Key) -> Mark:
    """A key that is equal only to itself: 1, 1.0 and '1' differ, and so do 0.0 and -0.0."""
    if float in map(type, key):
        return (None, *[(repr(value),) if type(value) is float else value for value in key])
    return key  # only an integer and a real can be equal without being the same value of the same class


def weight_bytes(rows: Sequence[Row]) -> int:
    """Bytes of TEXT and BLOB, at least (a character is counted as one), and eight for any other value."""
    total = 0
    for column in zip(*rows, strict=True):
        long = [value for value in column if isinstance(value, (str, bytes))]
        total += sum(map(len, long)) + 8 * (len(column) - len(long))
    return total


def records(
    table: Table, keys: Sequence[Key], found: Mapping[Key, Row], *, head: int, ops: Mapping[Key, str]
) -> list[Record]:
    """Tombstones for keys without a row, upserts for every row found (also under a key only SQLite calls equal).

    The tombstones come first: where the target calls both keys equal, the row must be what stays.
    """
    present = {typed(key) for key in found}
    name = table.name
    result = [Record(name, key, None, head, Op.DELETE) for key in keys if typed(key) not in present]
    width = len(table.key_columns)
    shortened = ops if not ops or len(next(iter(ops))) == width else {key[:width]: op for key, op in ops.items()}
    for key, row in found.items():
        result.append(Record(name, key, row, head, Op.CREATE if shortened.get(key) == "c" else Op.UPDATE))
    return result


def digest(entry: Entry) -> str:
    """Tells one entry from another at the same seq: time included, since a forked history may log the same key."""
    parts = (entry.seq, entry.ts_ms, entry.table, entry.op, *entry.key)
    while parts and parts[-1] is None:
        parts = parts[:-1]  # a log that was widened since pads with NULL
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
