"""Do: apply one cut of the way back to a SQLite source: rows, own log keys and progress in one BEGIN IMMEDIATE.

The order is the argument: the transaction begins with a compare-and-set on owner, applied seq, and the fence with its
token, read in the same transaction: a sink of an earlier attempt finds another token and changes nothing, and a lifted
source takes no change of the other side any more. The fence is never lifted for this connection: no trigger fires on it.
Tables are looked at again whenever the token or the schema moved, and an apply finds the schema it looked at, or changes
nothing: what the source got between two switches comes back too (test_what_the_source_got_between_two_switches_comes_back_too).
Every key written is logged here, since the application's triggers and ours rest: after a rollback capture sends exactly
these keys again, and both sides are equal without a comparison (test_what_came_back_is_sent_forward_again).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.sqlite import SqliteDatabase
from adapters.sqlite_apsw import QuietSqlite
from ops.points import reach
from schemas.avro import unframe
from schemas.back import (
    PROGRESS,
    QUARANTINE,
    add_column,
    delete_parameters,
    delete_sql,
    insert_columns,
    insert_sql,
    mark,
    missing,
)
from schemas.change import (
    Collapsed,
    Notice,
    NoticeKind,
    Progress,
    TableProgress,
    TableState,
    TopicPartition,
    Watermark,
)
from schemas.errors import Code, Failed, Refusal, Superseded
from schemas.introspect import introspect
from schemas.model import LOG, META, Affinity, Column, Key, Row, Table, Value
from schemas.plan import TablePlan
from schemas.ports import Registry
from sink.progress import offsets_from, offsets_text
from sink.schema_codecs import SchemaCodecs

_TOPICS = "back_topics"
"""Row of `_tailrace_meta`, JSON: the ids of the topics that the offsets belong to, and the token of that attempt."""
_FENCED = (
    f"(SELECT value FROM {META} WHERE key = 'token') = ? AND "
    f"(SELECT coalesce(value, '') FROM {META} WHERE key = 'fence') <> ''"
)


class SqliteTarget:
    """Implements ports.Target for one source.

    Args:
        reader: an ordinary connection to the same file, for its schema.
        numbers: table -> number in the change log, as the triggers have it; looked up at every claim.
        topic_ids: what these topics' ids are now; one that is not there is left out.
        add_columns: runs these statements on a table, and takes what they did for known.
    """

    def __init__(
        self,
        quiet: QuietSqlite,
        reader: SqliteDatabase,
        registry: Registry,
        source: str,
        *,
        numbers: Callable[[], Mapping[str, int]],
        topic_ids: Callable[[Iterable[str]], Mapping[str, str]],
        add_columns: Callable[[QuietSqlite, str, Sequence[str]], None],
        now_ms: str,
    ) -> None:
        self._topic_ids = topic_ids
        self._add_columns = add_columns
        self._db = quiet
        self._reader = reader
        self._registry = registry
        self._source = source
        self._numbers_of = numbers
        self._numbers: Mapping[str, int] = {}
        self._now_ms = now_ms
        self._tables: dict[str, Table] = {}
        self._looked_at = ("", -1)
        """Token and schema version at which the tables were read."""
        self._codecs = SchemaCodecs(registry)

    def prepared(self) -> bool:
        """Nothing is written to a source to which writes belong."""
        found = self._reader.rows("SELECT count(*) FROM sqlite_master WHERE name IN (?, ?)", (PROGRESS, META))
        if found[0][0] != 2:
            return False
        return bool(self._reader.rows(f"SELECT 1 FROM {META} WHERE key = 'fence' AND value <> ''"))

    def claim(self, owner: str) -> Progress:
        with self._db.write():
            self._db.run(f"UPDATE {PROGRESS} SET owner = ?", (owner,))
        progress = self.progress()
        assert progress is not None
        return progress

    def progress(self) -> Progress | None:
        found = self._db.rows(
            "SELECT owner, applied, applying_to, identity, offsets, captured_at_ms, applied_at_ms, highest, "
            f"coalesce((SELECT value FROM {META} WHERE key = 'token'), '0'), "
            f"coalesce((SELECT value FROM {META} WHERE key = 'fence'), '') FROM {PROGRESS}"
        )
        if not found:
            return None
        row, known = found[0], self._kept()
        if row[9] and known["token"] != str(row[8]):
            self._begin_attempt(known, str(row[8]))
            return self.progress()
        self._look(str(row[8]))
        kept = dict(self._db.rows(f"SELECT tab, count(*) FROM {QUARANTINE} GROUP BY tab"))
        return Progress(
            source=self._source,
            owner=row[0],
            applied=row[1],
            applying_to=row[2],
            consistent=not kept and row[2] is None,
            identity=row[3],
            offsets=offsets_from(row[4]),
            tables={
                name: TableProgress(name, TableState.FOLLOWING, 0, 0, 0, 0, 0, kept.get(name, 0), "")
                for name in self._numbers
            },
            captured_at_ms=row[5],
            applied_at_ms=row[6],
            highest=row[7],
            phase=str(row[8]),
            open=bool(row[9]),
            topics=known["topics"],
        )

    def _begin_attempt(self, known: Mapping[str, Any], token: str) -> None:
        """The way back of the attempt before was drained. Topics that were made again since then are read from their
        beginning: labels keep what is old from taking effect again."""
        now = self._topic_ids(known["topics"])
        same = {topic: one for topic, one in known["topics"].items() if now.get(topic) == one}
        with self._db.write():
            if same != known["topics"]:
                (text,) = self._db.rows(f"SELECT offsets FROM {PROGRESS}")[0]
                kept = {where: at for where, at in offsets_from(text).items() if where.topic in same}
                self._db.run(f"UPDATE {PROGRESS} SET offsets = ? WHERE {_FENCED}", (offsets_text(kept), token))
            self._keep_topics(same, token)

    def _kept(self) -> dict[str, Any]:
        found = self._db.rows(f"SELECT value FROM {META} WHERE key = ?", (_TOPICS,))
        return json.loads(found[0][0]) if found else {"token": "", "topics": {}}

    def _keep_topics(self, topics: Mapping[str, str], token: str) -> None:
        text = json.dumps({"token": token, "topics": dict(topics)}, sort_keys=True)
        self._db.run(
            f"INSERT INTO {META}(key, value) VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value "
            "WHERE value <> excluded.value",
            (_TOPICS, text),
        )

    def _look(self, token: str) -> None:
        if self._looked_at == (token, self._schema_version()):
            return
        with self._reader.read_view():
            self._tables = dict(introspect(self._reader).tables)
            self._numbers = self._numbers_of()
            self._looked_at = (token, self._reader.schema_version())

    def _schema_version(self) -> int:
        return self._db.schema_version()

    def close(self) -> None:
        self._db.close()
        self._reader.close()

    def apply(
        self,
        before: Progress,
        watermark: Watermark,
        *,
        offsets: Mapping[TopicPartition, int],
        tables: Mapping[str, Collapsed],
        notices: Sequence[Notice],
        now_ms: int,
    ) -> None:
        if before.identity and before.identity != watermark.identity:
            raise Refusal(
                Code.SOURCE_REPLACED,
                "the target is another server than the one whose changes came back so far",
                source=self._source,
                position=before.applied,
                hint="point target_database_url at that one again",
            )
        reach("back.before_apply")
        with self._db.write():
            changed = self._db.run(
                f"UPDATE {PROGRESS} SET applied = ?, offsets = ?, captured_at_ms = ?, applied_at_ms = ?, "
                "highest = max(highest, ?), identity = ?, applying_to = CASE WHEN applying_to > ? THEN applying_to END "
                f"WHERE owner = ? AND applied = ? AND {_FENCED}",
                (
                    watermark.seq,
                    offsets_text(dict(offsets)),
                    watermark.captured_at_ms,
                    now_ms,
                    watermark.seq,
                    watermark.identity,
                    watermark.seq,
                    before.owner,
                    before.applied,
                    before.phase,
                ),
            )
            if changed != 1 or self._schema_version() != self._looked_at[1]:
                raise self._superseded(before)
            self._keep_topics({**before.topics, **watermark.topics}, before.phase)
            for notice in notices:
                if notice.kind is NoticeKind.SHAPE:
                    self._grow(notice.table, self._codecs.rows(notice.value_schema_id).plan)
            for table, collapsed in tables.items():
                self._table(table, collapsed, watermark.seq)
            for notice in notices:
                if notice.kind is NoticeKind.QUARANTINE:
                    self._leave(notice)
            reach("back.before_commit")
        reach("back.after_commit")

    def slice(self, before: Progress, applying_to: int, table: str, collapsed: Collapsed) -> None:
        with self._db.write():
            changed = self._db.run(
                f"UPDATE {PROGRESS} SET applying_to = max(coalesce(applying_to, 0), ?) "
                f"WHERE owner = ? AND applied = ? AND {_FENCED}",
                (applying_to, before.owner, before.applied, before.phase),
            )
            if changed != 1 or self._schema_version() != self._looked_at[1]:
                raise self._superseded(before)
            self._table(table, collapsed, applying_to)

    def is_unique(self, table: str) -> bool:
        return any(index.unique and index.origin != "pk" for index in self._tables[table].indexes)

    def schemas(self) -> Mapping[str, str]:
        return self._registry.identity()

    def decode_key(self, schema_id: int, payload: bytes) -> Key:
        return self._codecs.keys(schema_id).decode([payload])[0]

    # -- rows ----------------------------------------------------------------------------------------------------

    def _table(self, name: str, collapsed: Collapsed, seq: int) -> None:
        for schema_id in {unframe(value)[0] for _, value in collapsed.upserts}:
            self._grow(name, self._codecs.rows(schema_id).plan)  # also where a slice comes before its notice
        table = self._tables[name]
        gone = [self.decode_key(*unframe(raw)) for raw in collapsed.deletes]
        rows = [(self.decode_key(*unframe(raw)), raw, *self._row(value)) for raw, value in collapsed.upserts]
        touched = [*gone, *(key for key, _, _, _ in rows)]
        free = f"DELETE FROM {QUARANTINE} WHERE tab = ? AND key = ? AND seq <= ?"
        self._db.run_all(
            [(free, (name, raw, seq)) for raw in (*collapsed.deletes, *(raw for _, raw, _, _ in rows))]
            + [(delete_sql(table, key), delete_parameters(key)) for key in touched]
        )
        columns: dict[TablePlan, list[tuple[int, str]]] = {}
        inserts: list[tuple[bytes, tuple[str, list[Value]]]] = []
        for _, raw, plan, row in rows:
            chosen = columns.setdefault(plan, insert_columns(table, plan))
            inserts.append((raw, (insert_sql(table, chosen, row), [row[at] for at, _ in chosen])))
        self._insert(name, inserts, seq)
        self._log(table, touched)

    def _insert(self, name: str, inserts: Sequence[tuple[bytes, tuple[str, list[Value]]]], seq: int) -> None:
        """All at once; where one meets a constraint, halved until it stands alone and is kept."""
        if not inserts:
            return
        try:
            with self._db.write():
                self._db.run_all([statement for _, statement in inserts])
        except Failed as error:
            if error.code is not Code.SOURCE_CONFLICT:
                raise
            if len(inserts) == 1:
                self._keep(name, inserts[0][0], error.message, seq)
                return
            middle = len(inserts) // 2
            self._insert(name, inserts[:middle], seq)
            self._insert(name, inserts[middle:], seq)

    def _row(self, value: bytes) -> tuple[TablePlan, Row]:
        schema_id, payload = unframe(value)
        found = self._codecs.rows(schema_id)
        return found.plan, found.decode_rows([payload])[0]

    def _grow(self, name: str, plan: TablePlan) -> None:
        """Columns that were added on the target, in the transaction of the rows that have them. ADD COLUMN leaves every
        trigger as it is: fences name no column, ours name keys (test_add_column_flows_back)."""
        table = self._tables[name]
        fresh = missing(table, plan)
        if not fresh:
            return
        self._looked_at = ("", -1)  # committed or rolled back: the next progress looks again
        try:
            self._add_columns(self._db, name, [add_column(table, column) for column in fresh])
        except Failed as error:
            raise Refusal(
                Code.NO_ROLLBACK, f"ADD COLUMN came from the target, and SQLite refused it: {error.message}", table=name
            ) from error
        added = [Column(one.name, one.declared, Affinity(one.affinity), one.not_null, default="NULL") for one in fresh]
        self._tables[name] = replace(table, columns=(*table.columns, *added))

    def _log(self, table: Table, keys: Sequence[Key]) -> None:
        number = self._numbers[table.name]
        statements: list[tuple[str, Sequence[Value]]] = []
        for key in keys:
            names = ", ".join(f"k{at}" for at in range(len(key)))
            marks = ", ".join(map(mark, key))
            sql = f"INSERT INTO {LOG}(ts, tab, op, {names}) VALUES ({self._now_ms}, ?, 'b', {marks})"
            statements.append((sql, (number, *key)))
        self._db.run_all(statements)

    def _leave(self, notice: Notice) -> None:
        """The source keeps the row it had. Its key is logged, too: should that be accepted, the row goes forward again."""
        raw = base64.b64decode(notice.key)
        self._keep(notice.table, raw, notice.reason, notice.seq)
        self._log(self._tables[notice.table], [self.decode_key(*unframe(raw))])

    def _keep(self, table: str, key: bytes, reason: str, seq: int) -> None:
        text = repr(self.decode_key(*unframe(key)))
        self._db.run(f"INSERT OR REPLACE INTO {QUARANTINE} VALUES (?, ?, ?, ?, ?)", (table, key, text, reason, seq))

    def _superseded(self, before: Progress) -> Superseded:
        return Superseded(
            Code.PROGRESS_LOST,
            "the progress, the fence or the schema of the source is not the one this cut was read for",
            source=self._source,
            position=before.applied,
            hint="this sink reads the progress again",
        )
