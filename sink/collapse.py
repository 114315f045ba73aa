"""Decide: the last state of every key in a cut; pure.

Invariant: the record with the highest seq wins; equal seq means equal state. Records at or below the table's floor are
ignored: they may be older than the copied row. Null or not null decides, `op` is informational.
Cases: test_lower_label_never_wins, test_record_at_the_floor_is_ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from schemas.avro import unframe
from schemas.change import Collapsed, Stored
from schemas.model import Key
from schemas.wire import seq_of


def collapse(
    records: Iterable[Stored], *, floor: int, decode_key: Callable[[int, bytes], Key] | None = None
) -> Collapsed:
    """Collapse the records of one table.

    Args:
        floor: the table's floor in force.
        decode_key: needed when keys of several key schemas may meet: (schema id, payload) -> SQLite key.
    """
    kept = [(seq_of(record), record) for record in records]
    kept = [(seq, record) for seq, record in kept if seq > floor and record.key is not None]
    ids = {(record.key or b"")[:5] for _, record in kept}
    last: dict[object, tuple[int, Stored]] = {}
    for seq, record in kept:
        raw = record.key or b""
        identity: object = raw
        if len(ids) > 1 and decode_key is not None:
            schema_id, payload = unframe(raw)
            identity = tuple((type(value), repr(value)) for value in decode_key(schema_id, payload))
        found = last.get(identity)
        if found is None or seq >= found[0]:
            last[identity] = (seq, record)
    result = Collapsed()
    for seq, record in last.values():
        result.highest = max(result.highest, seq)
        if record.value is None:
            result.deletes.append(record.key or b"")
        else:
            result.upserts.append((record.key or b"", record.value))
    return result
