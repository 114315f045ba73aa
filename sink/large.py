"""Do: apply a cut that is too large for one transaction: collapsed as a whole, written in slices by key.

The order is the argument: the first slice commits `applying_to = S, consistent = false` before any row of the cut is
visible; offsets and floors move only with the last slice. After a crash in between the cut is read and written again, and
nothing below `applying_to` is called consistent. In tables with unique constraints all touched keys are deleted before the
first insert: slices cut by key could otherwise meet a unique value that its former owner gives up in a later slice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from adapters.spill import Spill
from ops.points import reach
from schemas.avro import unframe
from schemas.change import Collapsed, Notice, Progress, Stored, TopicPartition, Watermark
from schemas.ports import Target
from schemas.wire import seq_of


class LargeCut:
    """One large cut: `add` every record, then `apply` once, then `close`."""

    def __init__(self, writer: Target, *, slice_rows: int) -> None:
        self._writer = writer
        self._slice_rows = slice_rows
        self._spill = Spill()

    def add(self, table: str, records: Iterable[Stored], *, floor: int) -> None:
        """Keep the last state of each key above the table's floor."""
        rows = []
        for record in records:
            seq = seq_of(record)
            if seq <= floor or record.key is None:
                continue
            schema_id, payload = unframe(record.key)
            key = self._writer.decode_key(schema_id, payload)
            identity = repr([(type(value).__name__, value) for value in key])
            rows.append((table, identity, seq, record.key, record.value))
        self._spill.add(rows)

    def apply(
        self,
        before: Progress,
        watermark: Watermark,
        *,
        offsets: Mapping[TopicPartition, int],
        notices: Sequence[Notice],
        now_ms: int,
    ) -> None:
        for table in self._spill.tables():
            unique = self._writer.is_unique(table)
            for keys in self._spill.keys(table, tombstones_only=not unique, slice_rows=self._slice_rows):
                self._writer.slice(before, watermark.seq, table, Collapsed(deletes=keys))
                reach("sink.mid_slice")
            for upserts in self._spill.upserts(table, slice_rows=self._slice_rows):
                self._writer.slice(before, watermark.seq, table, Collapsed(upserts=upserts))
                reach("sink.mid_slice")
        self._writer.apply(before, watermark, offsets=offsets, tables={}, notices=notices, now_ms=now_ms)

    def close(self) -> None:
        self._spill.close()
