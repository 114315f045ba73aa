"""Do: find the keys in which a restored file may differ from what the stream told of it, where that can be known.

What the file pruned was acknowledged, so up to `pruned_to` both histories are one. Whatever was published since carries a
label above it, and whatever the file wrote since lies above it in its own log: touching all of these is enough. Its oldest
entry says when that began. Anything in doubt is a reason to copy every table again: a broken log, a beginning before the
topics' window (tombstones may be gone), triggers that are gone, another schema, a stream that lost something, too many keys
to keep. A table that was copied since, in either history, is copied again by itself.
A schema version that moved is no doubt: SQLite's backup moves it, and capture's start copies what depends on it.
Case: test_two_older_copies_one_after_the_other.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from capture.meta import Meta, as_logged, keys_agree
from capture.position import Known, refuse_lost_stream
from capture.sqlite_source import SqliteSource
from capture.sqlite_triggers import trigger_prefix
from cutover.topic_keys import TopicKeys
from schemas.change import Position, Progress, Stored, TableState
from schemas.checkpoint import SETTLED
from schemas.errors import Refusal
from schemas.introspect import introspect
from schemas.model import Database, Key, Table
from schemas.names import notice_topic, topic_of
from schemas.ports import Registry, Transport
from schemas.wire import notice_of, seq_of
from verify.compare import typed_key

MOST_KEYS = 100_000
"""Kept in memory, and logged in one transaction of the application's file."""
MARGIN_MS = 3_600_000
"""Taken off the topics' window: a broker removes tombstones by its own clock."""


@dataclass(slots=True)
class Fork:
    """`since`: seq up to which both histories are one; `keys`: table -> what the stream told since. `why`: it is not known,
    and everything must be copied again."""

    since: int = 0
    keys: dict[str, list[Key]] = field(default_factory=dict)
    tables: Mapping[str, Table] = field(default_factory=dict)
    """With the keys that the triggers log."""
    copied: Mapping[str, int] = field(default_factory=dict)
    """Tables that were copied since, in either history -> generation of the copy that is owed now."""
    why: str = ""

    @property
    def count(self) -> int:
        return sum(len(keys) for keys in self.keys.values())


def fork_of(
    source: SqliteSource,
    meta: Meta,
    known: Known,
    before: Progress,
    transport: Transport,
    registry: Registry,
    *,
    prefix: str,
    window_ms: int,
    now_ms: int,
) -> Fork:
    """Reads the stream; nothing may publish meanwhile (the caller holds the capture's lock)."""
    with source.view() as view:
        database = introspect(source.db)
        since = meta.pruned_to
        first = view.entries(Position(since), limit_rows=1)
        unbroken = view.unbroken(since)
        triggers = source.db.rows("SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger'")
    why = _doubt(meta, database, triggers, known, before, transport, source.name)
    if why or not unbroken:
        return Fork(why=why or "log rows were deleted by hand")
    # Its statement came before everything that was published with a higher label.
    if not first or first[0].ts_ms is None or now_ms - first[0].ts_ms > window_ms - MARGIN_MS:
        return Fork(why="the histories may have parted before what the topics keep in full")
    copied = {
        one.name: max(one.generation, before.tables[one.name].generation, known.announced.get(one.name, 0)) + 1
        for one in meta.tables.values()
        if not one.generation == before.tables[one.name].generation == known.announced.get(one.name)
    }
    names = [one.name for one in meta.tables.values() if one.name not in copied]
    topics = {topic_of(prefix, source.name, name): name for name in names}
    topics[notice_topic(prefix, source.name)] = ""
    found: dict[str, dict[object, Key]] = {}
    count = 0
    keys = TopicKeys(transport, registry)
    for page in keys.since(transport.topic_ids(topics), {}):
        for table, raw in _told(page, topics, since):
            if table not in names:
                continue
            key = keys.key(raw)
            kept = found.setdefault(table, {})
            count += typed_key(key) not in kept
            kept[typed_key(key)] = key
        if count > MOST_KEYS:
            return Fork(why=f"more than {MOST_KEYS:,} keys were published since the histories parted")
    tables = as_logged(meta, database).tables
    return Fork(since, {table: list(kept.values()) for table, kept in found.items()}, tables, copied)


def _told(page: list[Stored], topics: dict[str, str], since: int) -> Iterator[tuple[str, bytes]]:
    """(table, key) of every record above that seq, and of every row that stayed behind since."""
    for one in page:
        table = topics[one.topic]
        if table and one.key is not None and seq_of(one) > since:
            yield table, one.key
        elif not table:
            notice = notice_of(one)
            if notice.key and notice.seq > since:
                yield notice.table, base64.b64decode(notice.key)


def _doubt(
    meta: Meta,
    database: Database,
    triggers: Sequence[tuple[str, str]],
    known: Known,
    before: Progress,
    transport: Transport,
    source: str,
) -> str:
    """Why the difference may be more than rows; empty: it is rows alone."""
    last = known.last
    if last is None or not last.identity == meta.identity == before.identity:
        return "the file, the stream and the target are not of one installation"
    live = {name: one for name, one in before.tables.items() if one.state is not TableState.GONE}
    if any(one.state not in SETTLED for one in live.values()):
        return "tables are still being copied"
    if {one.name for one in meta.tables.values()} != set(live):
        return "tables were made or dropped since the histories parted"
    if any(not _logs(number, one.name, triggers) for number, one in meta.tables.items()):
        return "our triggers were taken away, and what was written since is not in the log"
    if not keys_agree(meta, database.tables) or not last.fingerprint == meta.fingerprint == database.fingerprint:
        return "the schema is another one than the stream knows"
    try:
        refuse_lost_stream(last, transport.topic_ids(last.topics), transport.ends(list(last.ends)), source=source)
        refuse_lost_stream(last, before.topics, {}, source=source)
    except Refusal as refusal:
        return refusal.message
    return ""


def _logs(number: int, table: str, triggers: Collection[tuple[str, str]]) -> bool:
    prefix = trigger_prefix(number)
    return any(name.startswith(prefix) and on == table for name, on in triggers)
