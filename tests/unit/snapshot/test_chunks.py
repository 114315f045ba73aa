"""How the next chunk is sized from the last one."""

from __future__ import annotations

from snapshot.chunks import AIM_BYTES, MAX_ROWS, MIN_ROWS, ChunkSize


def test_quick_chunks_grow_at_most_fourfold() -> None:
    assert 4000 == ChunkSize(rows=1000).after(0.0001, 1000).rows


def test_slow_chunks_shrink_at_once() -> None:
    assert 100 == ChunkSize(aim_s=0.05, rows=1000).after(0.5, 1000).rows


def test_large_rows_bound_a_chunk_by_bytes() -> None:
    assert 20 == ChunkSize(rows=1000).after(0.0001, 100, size_bytes=5 * AIM_BYTES).rows


def test_limits_hold() -> None:
    assert MIN_ROWS == ChunkSize(rows=100).after(100.0, 100).rows
    assert MAX_ROWS == ChunkSize(rows=MAX_ROWS).after(1e-9, MAX_ROWS).rows
    assert ChunkSize(rows=7) == ChunkSize(rows=7).after(0.0, 0)
