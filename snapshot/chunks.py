"""Decide: how many rows the next chunk reads, from what the last one took; pure."""

from __future__ import annotations

from dataclasses import dataclass

FIRST_ROWS = 500
MAX_ROWS = 100_000
AIM_BYTES = 8 * 1024 * 1024
"""Text and blobs of one chunk: what is read at once must fit memory before anything can be cut off from it."""
MIN_ROWS = 10


@dataclass(frozen=True, slots=True)
class ChunkSize:
    """Aims at views of `aim_s` at the source: a long reader stops WAL checkpoints, and in rollback-journal mode it
    blocks the writer."""

    aim_s: float = 0.05
    rows: int = FIRST_ROWS

    def after(self, took_s: float, rows: int, size_bytes: int = 0) -> ChunkSize:
        """Grow at most fourfold, shrink at once."""
        if rows <= 0 or took_s <= 0:
            return self
        ideal = int(rows * min(self.aim_s / took_s, AIM_BYTES / max(size_bytes, 1)))
        return ChunkSize(self.aim_s, max(MIN_ROWS, min(MAX_ROWS, ideal, self.rows * 4)))
