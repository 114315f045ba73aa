"""Do: the keys that the target's own log still holds, as its source spells them, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from adapters.postgres import Postgres
from capture.postgres_source import PostgresView
from cutover.topic_keys import PAGE
from schemas.change import Position
from schemas.model import Key
from schemas.plan import TablePlan
from schemas.rows import RowCodec

EVERYTHING = Position(0)


def logged_keys(
    target: Postgres, source: str, plans: Sequence[TablePlan], *, after: Position = EVERYTHING
) -> Iterator[dict[str, list[Key]]]:
    """table -> keys that changed there behind this snapshot, sent or not; what SQLite cannot hold included."""
    codecs = {plan.table: RowCodec(plan) for plan in plans if plan.source == source}
    behind_id = 0
    while True:
        with target.snapshot():
            view = PostgresView(target, source, codecs)
            entries = view.entries(after, behind_id=behind_id, limit_rows=PAGE)
            found = {}
            for table in {entry.table for entry in entries if entry.table in codecs}:
                read = view.rows(table, list(dict.fromkeys(e.key for e in entries if e.table == table)))
                found[table] = [*read.gone, *read.rows, *(key for key, _ in read.unrestorable)]
        if not entries:
            return
        behind_id = entries[-1].id
        yield found
