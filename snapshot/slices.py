"""Do: the rows behind a key in several short views, as one stream of parameters for one COPY.

The order is the argument: each view at the source is short (a long reader stops WAL checkpoints, and in rollback-journal
mode it blocks the writer), while one COPY takes the rows of many of them: the server works on a slice while the next is
read. Rows of later views are newer; every view's head is at or above the floor, and the highest head is what the stream
must reach before the table counts as consistent. Nothing is kept: memory holds one slice.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from schemas.model import BadText, Key, Row, Table
from schemas.ports import Clock, Source, SourceReader
from schemas.rows import RowCodec
from snapshot.chunks import AIM_BYTES, ChunkSize

MAX_SLICES = 16
MAX_SLICE_BYTES = 2 * AIM_BYTES
_LONG = frozenset({str, bytes, BadText})
"""Types whose length counts towards the weight of a slice."""


class Slices:
    """The rows of one chunk. After the iteration:

    `rows`: how many were given; `last_key`: key of the last one; `head`: highest head of the views; `size`: what the next
    slice should read; `count`: slices given; `weight_bytes`: of their texts and blobs; `moved`: the schema is another one
    than expected, nothing of that view was given.
    """

    def __init__(
        self,
        source: Source,
        reader: SourceReader,
        clock: Clock,
        table: Table,
        *,
        after: Key | None,
        size: ChunkSize,
        schema_version: int,
        max_bytes: int,
    ) -> None:
        self._source, self._reader, self._clock = source, reader, clock
        self._table = table
        self._schema_version = schema_version
        self._max_bytes = max_bytes
        self.last_key = after
        self.size = size
        self.rows = self.count = self.head = self.weight_bytes = 0
        self.started_s = clock.monotonic_s()
        self.moved = False

    def slices(self, names: Sequence[str], *, most: int = MAX_SLICES) -> Iterator[list[Row]]:
        """Batches of rows with their values in the order of these columns, until the chunk is full or the table ends."""
        own = self._table.row_columns
        order = [own.index(name) for name in names]
        as_they_are = order == list(range(len(own)))
        while self.count < most and self.weight_bytes < self._max_bytes:
            batches, weight = self._slice()
            if not batches:
                return
            self.weight_bytes += weight
            self.count += 1
            self.rows += sum(map(len, batches))
            self.last_key = self._reader.key_of(self._table, batches[-1][-1])
            for rows in batches:
                yield rows if as_they_are else [tuple([row[at] for at in order]) for row in rows]

    def parameters(self, codec: RowCodec) -> Iterator[tuple[Any, ...]]:
        """Rows as parameters of one COPY. Raises Misfit."""
        for rows in self.slices([column.name for column in codec.plan.columns]):
            yield from codec.rows_to_pg(rows)

    def _slice(self) -> tuple[list[list[Row]], int]:
        """One view: batches of rows, and the bytes of their texts and blobs. It ends early when they weigh enough: a
        stretch of large rows may follow after many small ones."""
        started_s = self._clock.monotonic_s()
        taken: list[list[Row]] = []
        weight = 0
        with self._source.view() as view:
            if view.mark()[0] != self._schema_version:
                self.moved = True
                return [], 0
            self.head = max(self.head, view.head())
            with closing(self._reader.batches(self._table, self.last_key, limit_rows=self.size.rows)) as batches:
                for rows in batches:
                    taken.append(rows)
                    weight += weight_bytes(rows)
                    if weight >= MAX_SLICE_BYTES:
                        break
        took_s = self._clock.monotonic_s() - started_s
        self.size = self.size.after(took_s, sum(map(len, taken)), weight)
        return taken, weight


def weight_bytes(rows: Sequence[Row]) -> int:
    """Bytes of TEXT (a character counted as one) and BLOB; by column, since most columns hold neither."""
    total = 0
    for column in zip(*rows, strict=True):
        types = set(map(type, column))
        if types <= _LONG:
            total += sum(map(len, column))
        elif types & _LONG:
            total += sum([len(value) for value in column if type(value) in _LONG])
    return total
