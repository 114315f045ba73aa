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


def keys_by_table(entries: Sequence[Entry], tables: Mapping[int, Table]) -> dict[int, list[Key]]:
    """Distinct keys per table number, in order of first mention. Keys of equal value and other class stay apart."""
    found: dict[int, dict[tuple[tuple[type, object], ...], Key]] = {}
    for entry in entries:
        table = tables.get(entry.table)
        if table is None:
            continue
        key = entry.key[: len(table.key_columns)]
        found.setdefault(entry.table, {}).setdefault(typed(key), key)
    return {number: list(keys.values()) for number, keys in found.items()}


def typed(key: Key) -> tuple[tuple[type, object], ...]:
    """A key that is equal only to itself: 1, 1.0 and '1' differ, and so do 0.0 and -0.0."""
    return tuple([(type(value), repr(value) if type(value) is float else value) for value in key])


def records(
    table: Table,
    keys: Sequence[Key],
    found: Mapping[Key, Row],
    *,
    head: int,
    ops: Mapping[tuple[tuple[type, object], ...], str],
) -> list[Record]:
    """Tombstones for keys without a row, upserts for every row found (also under a key only SQLite calls equal)."""
    present = {typed(key): key for key in found}
    result = [Record(table.name, key, None, head, Op.DELETE) for key in keys if typed(key) not in present]
    for mark, key in present.items():
        op = Op.CREATE if ops.get(mark) == "c" else Op.UPDATE
        result.append(Record(table.name, key, found[key], head, op))
    return result


def digest(entry: Entry) -> str:
    """Tells one entry from another at the same seq: time included, since a forked history may log the same key."""
    parts = (entry.seq, entry.ts_ms, entry.table, entry.op, *entry.key)
    while parts and parts[-1] is None:
        parts = parts[:-1]  # a log that was widened since pads with NULL
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32]
