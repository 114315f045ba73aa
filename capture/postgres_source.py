"""Do: read the target as a source, for the way back: entries of its change log and current rows in one snapshot.

Invariant: position = the whole snapshot. The next cut is what this snapshot sees and the last one did not; ids say
nothing, since transactions commit in another order than they write. Entries, rows and label come from one REPEATABLE READ
transaction. A row whose values SQLite could not hold exactly is given as unrestorable, never as something near to it.
Cases: test_xmin_ties, test_false_drain, test_a_value_that_sqlite_cannot_hold_is_named.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from adapters.postgres import Postgres
from capture.postgres_shapes import Changes, changed, stamp
from capture.postgres_triggers import ACKNOWLEDGE, ACKNOWLEDGED, LABEL, entries_sql, keys_sql, prune_sql, rows_sql
from schemas.change import Position, Stored, Watermark
from schemas.errors import Code, Failed, Misfit
from schemas.model import Key, Row
from schemas.plan import TablePlan, read_as
from schemas.rows import RowCodec
from schemas.wire import TOPICS, watermark_message, watermark_of

NOTHING = "1:1:"
"""A snapshot that sees no transaction."""


class LoggedKey(NamedTuple):
    """One entry of the target's log. `key`: the text of a jsonb array."""

    id: int
    ts_ms: int | None
    table: str
    op: str
    key: str


class Read(NamedTuple):
    """What a view holds for some keys: rows under their SQLite keys, keys without a row, and what cannot go back."""

    rows: dict[Key, Row]
    gone: list[Key]
    unrestorable: list[tuple[Key, str]]


class PostgresView:
    """One snapshot. Valid inside the block that made it."""

    def __init__(self, target: Postgres, source: str, codecs: Mapping[str, RowCodec]) -> None:
        self._target = target
        self._source = source
        self._codecs = codecs
        token, label = target.rows(LABEL)[0]
        self.position = Position(int(label), str(token))
        self.lsn = str(target.rows("SELECT pg_current_wal_insert_lsn()::text")[0][0])

    def changed(self, plans: Sequence[TablePlan], mark_of: Callable[[str, str], str]) -> Changes:
        """What is no longer as it was when the target opened."""
        return changed(self._target, plans, self._source, mark_of=mark_of)

    def stamp(self) -> str:
        return stamp(self._target, self._source)

    def entries(self, after: Position, *, behind_id: int, limit_rows: int) -> list[LoggedKey]:
        """In the order of their ids, this source's only; page on with the last id."""
        token = after.token or NOTHING
        found = self._target.rows(entries_sql(), (token, token, self._source, behind_id, limit_rows))
        return [LoggedKey(*row) for row in found]

    def rows(self, table: str, keys: Sequence[str]) -> Read:
        codec = self._codecs[table]
        plan = codec.plan
        width = len(plan.key)
        found, unread = self._read(plan, list(keys))
        present = [row for row in found if row[0]]
        rows: dict[Key, Row] = {}
        unrestorable: list[tuple[Key, str]] = list(
            zip(codec.keys_from_pg(self._target.rows(keys_sql(plan), (list(unread),))), unread.values(), strict=True)
        )
        for key, row, why in _restored(codec, [row[1 + width :] for row in present]):
            if why:
                unrestorable.append((key, why))
            else:
                rows[key] = row
        absent = [row[1 : 1 + width] for row in found if not row[0]]
        return Read(rows, list(codec.keys_from_pg(absent)), unrestorable)

    def _read(self, plan: TablePlan, keys: list[str]) -> tuple[list[tuple[Any, ...]], dict[str, str]]:
        """The rows, and the keys of those that the driver cannot read ('infinity', a year of five digits), each with why:
        one of them must not keep the others (test_a_moment_that_python_has_no_word_for_is_named)."""
        try:
            return self._target.rows(rows_sql(plan), (keys,), prepare=False), {}
        except Failed as error:
            if error.code is not Code.TARGET_REFUSED:
                raise
            if len(keys) == 1:
                return [], {keys[0]: f"SQLite cannot hold it: {error.message}"}
        middle = len(keys) // 2
        (some, not_these), (others, nor_these) = self._read(plan, keys[:middle]), self._read(plan, keys[middle:])
        return some + others, not_these | nor_these


class PostgresSource:
    """The tables of one source on the target, as a source. One REPEATABLE READ transaction a view.

    Args:
        flusher: a session of its own: a commit on it flushes what the view of the other has seen.
    """

    def __init__(self, target: Postgres, flusher: Postgres, source: str) -> None:
        self._target = target
        self._flusher = flusher
        self._name = source
        self._codecs: dict[str, RowCodec] = {}
        self._seen = ""
        self._lsn = ""

    @property
    def name(self) -> str:
        return self._name

    def use(self, plans: Sequence[TablePlan]) -> None:
        self._codecs = {plan.table: RowCodec(read_as(plan)) for plan in plans}

    @contextmanager
    def view(self) -> Iterator[PostgresView]:
        with self._target.snapshot():
            view = PostgresView(self._target, self._name, self._codecs)
            self._lsn = view.lsn
            yield view

    def make_durable(self) -> None:
        """With synchronous_commit = off a crash takes back commits that a view has seen: what was seen is flushed before
        it is published, as the `-wal` is on the other side. A commit that writes flushes all before it."""
        flushed = self._flusher.rows("SELECT pg_current_wal_flush_lsn() >= %s::pg_lsn", (self._lsn,))[0][0]
        if not flushed:
            with self._flusher.transaction():
                self._flusher.run("SET LOCAL synchronous_commit = on")
                self._flusher.rows("SELECT pg_logical_emit_message(true, 'tailrace', '')")

    def changed(self) -> bool:
        """May anything have been committed since the last call? True at the first call."""
        now = str(self._target.rows("SELECT txid_current_snapshot()::text")[0][0])
        moved = now != self._seen
        self._seen = now
        return moved

    def close(self) -> None:
        self._target.close()
        self._flusher.close()

    def prune(self, acknowledged: Watermark, *, batch_rows: int) -> int:
        """Take out entries that every later snapshot sees as older than the acknowledged one. Returns how many."""
        with self._target.transaction():
            gone = self._target.run(prune_sql(), (self._name, acknowledged.token, batch_rows))
            if gone:
                message = watermark_message("", acknowledged)
                topics = message.headers[0][1].decode()
                self._target.run(ACKNOWLEDGE, (self._name, (message.value or b"").decode(), topics))
        return gone

    def acknowledged(self) -> Watermark | None:
        """The one up to which nothing can be read from the log any more."""
        found = self._target.rows(f"SELECT watermark, topics FROM {ACKNOWLEDGED} WHERE source = %s", (self._name,))
        for text, topics in found:
            return watermark_of(Stored("", 0, 0, 0, None, text.encode(), ((TOPICS, topics.encode()),)))
        return None


def _restored(codec: RowCodec, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[Key, Row, str]]:
    """(key, row, why it cannot go back). Restored means: encoding the SQLite values again gives the target's values."""
    if not rows:
        return
    places = codec.plan.key_indexes
    try:
        back = codec.rows_from_pg(rows)
        if _same(codec.rows_to_pg(back), rows):
            yield from ((tuple([row[at] for at in places]), row, "") for row in back)
            return
    except (Misfit, ValueError, TypeError, ArithmeticError):
        pass  # some row of the batch: they are looked at one by one
    for row in rows:
        (key,) = codec.keys_from_pg([tuple(row[at] for at in places)])
        try:
            (one,) = codec.rows_from_pg([row])
            again = codec.rows_to_pg([one])[0]
        except (Misfit, ValueError, TypeError, ArithmeticError) as error:
            yield key, (), f"SQLite cannot hold it: {error}"
            continue
        strange = [
            c.target for c, a, b in zip(codec.plan.columns, row, again, strict=True) if not _same([(a,)], [(b,)])
        ]
        yield key, one, f"SQLite would hold {', '.join(strange)} as something else" if strange else ""


def _same(again: Sequence[tuple[Any, ...]], rows: Sequence[tuple[Any, ...]]) -> bool:
    """NaN is the one value that differs from itself, and NULL in SQLite; a list comparison looks at identity first."""
    return list(again) == [tuple(row) for row in rows] and not any(
        value != value for row in rows for value in row if type(value) is float
    )
