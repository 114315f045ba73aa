"""Decide: which notices the stream is owed, from what the meta table says and what the stream has seen; pure.

Invariant: every (table, generation) is announced at least once, and a table that was announced is said to be gone once.
The stream itself is the memory: a crash after sending and before remembering costs a second notice, which the
generation makes harmless (test_every_generation_is_announced_once).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping

from capture.meta import Meta
from schemas.change import Notice, NoticeKind


def owed_notices(
    meta: Meta,
    announced: Mapping[str, int],
    shapes: Mapping[str, Collection[int]],
    gone_said: Collection[str],
    *,
    source: str,
    seq: int,
    schema_ids: Callable[[str], tuple[int, int]],
) -> list[Notice]:
    """In the order of the tables; the dropped ones last.

    Args:
        announced: table -> highest generation of a COPY notice in the stream.
        shapes: table -> value schema ids that a COPY or SHAPE notice carried.
        gone_said: tables whose last notice is GONE.
        schema_ids: table -> (value schema id, key schema id) it is published with now.
    """
    owed = []
    for one in meta.tables.values():
        # A table that came back has a higher generation than it had when it went.
        value_id, key_id = schema_ids(one.name)
        if announced.get(one.name, 0) < one.generation:
            owed.append(
                Notice(NoticeKind.COPY, source, one.name, seq, "copy owed", one.generation, value_id, key_id),
            )
        elif value_id not in shapes.get(one.name, ()):
            owed.append(
                Notice(NoticeKind.SHAPE, source, one.name, seq, "columns were added", one.generation, value_id, key_id)
            )
    for name, generation in meta.gone.items():
        if name in announced and name not in gone_said:
            owed.append(Notice(NoticeKind.GONE, source, name, seq, "dropped at the source", generation))
    return owed
