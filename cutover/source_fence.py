"""Do: fence all sources of a migration at once, and lift them, each by compare-and-set on the token it carries.

The order is the argument. All locks are held before the first fence is made: a writer that is in the middle makes the
fence wait, then give up, and no source is ever fenced because another one could not be. The cutoff (the head of each log)
is read under the same locks: what is committed before lies at or below it, and nothing is committed behind it. The fence
is on the disk before anybody acts on it: a power loss that took it back after the target had opened would leave two
writable sides. A crash between two commits leaves some sources fenced: recovery lifts or completes all of them.
Lifting writes the new token also where nothing was fenced, or a late fence of the old attempt would still go through.
Cases: test_writer_in_flight_across_the_fence, test_long_writer_makes_the_fence_time_out_and_lift,
test_a_late_fence_of_an_earlier_attempt_goes_through_nowhere.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from adapters.sqlite import SqliteDatabase
from ops.points import reach
from schemas.errors import Code, Failed, Superseded, Transient
from schemas.fence import FENCE_PREFIX, fence_triggers
from schemas.model import LOG, META
from schemas.names import quote


@dataclass(frozen=True, slots=True)
class Group:
    """Sources that share one connection: SQLite attaches ten files to it, and one BEGIN IMMEDIATE locks them all."""

    db: SqliteDatabase
    schemas: Mapping[str, str]
    """source -> name of its file in this connection."""


@dataclass(frozen=True, slots=True)
class Fence:
    """What one source carries while it is fenced."""

    token: int
    head: int
    """Cutoff: the last seq of the change log when it was fenced."""
    schema_version: int
    """DDL passes the triggers of a fence: a move of this before the open takes the switch back."""


@dataclass(frozen=True, slots=True)
class Writable:
    """Every ordinary table of a source, as it was at this schema version."""

    schema_version: int
    tables: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Carried:
    """What a source says of the migration: the highest token of a fence or a lift, and the fence, if it is fenced."""

    token: int
    fence: Fence | None
    witnessed: int = 0
    """The highest token under which somebody saw writes belong to the target: no fence and no lift carries that one."""


class SourceFence:
    """All sources of one migration. `groups` in the order of the sources' names."""

    def __init__(self, groups: Sequence[Group]) -> None:
        self._groups = groups
        for group in groups:
            group.db.make_commits_durable()

    def fence(self, token: int, tables: Mapping[str, Writable]) -> dict[str, Fence]:
        """Raises Transient(SOURCE_BUSY) when a writer holds a lock too long: nothing is fenced then; Superseded when a
        source carries this token or a later one.

        Args:
            tables: source -> what must be fenced; a table made since is noticed under the lock.
        """
        made: dict[str, Fence] = {}
        with ExitStack() as locks:
            for group in self._groups:
                locks.enter_context(group.db.write())
            reach("cutover.locked")
            for group in self._groups:
                for source, schema in group.schemas.items():
                    made[source] = _fence(group.db, schema, source, token, tables[source])
        reach("cutover.fenced")
        self._make_durable()
        return made

    def shut(self, token: int, tables: Mapping[str, Writable]) -> dict[str, int]:
        """For a restore, whatever the sources carry: each is fenced with this token, or is already. What the application did
        to its schema is thrown away with its rows. Returns the head of each log; raises Transient(SOURCE_BUSY), Superseded."""
        heads: dict[str, int] = {}
        with ExitStack() as locks:
            for group in self._groups:
                locks.enter_context(group.db.write())
            for group in self._groups:
                for source, schema in group.schemas.items():
                    carried = carried_of(group.db, schema)
                    if carried.token > token or (carried.token == token and carried.fence is None):
                        raise _superseded(source, carried.token, token)
                    known = carried.fence if carried.token == token else None
                    if known is None and tables[source].schema_version != _schema_version(group.db, schema):
                        raise Transient(Code.FENCE_BUSY, "a table may be new", source=source, hint="it is tried again")
                    heads[source] = (known or _make(group.db, schema, token, tables[source].tables)).head
        self._make_durable()
        return heads

    def lift(self, token: int) -> list[str]:
        """Returns the sources that were fenced. Idempotent for one token; Superseded when a source carries a later one."""
        lifted = []
        for group in self._groups:
            with group.db.write():
                for source, schema in group.schemas.items():
                    carried = carried_of(group.db, schema)
                    if carried.token > token:
                        raise _superseded(source, carried.token, token)
                    if carried.token == token and carried.fence is None:
                        continue
                    version = _schema_version(group.db, schema)
                    _drop(group.db, schema)
                    _store(group.db, schema, token=token, fence="", version_before=version)
                    if carried.fence is not None:
                        lifted.append(source)
        self._make_durable()
        return lifted

    def witness(self, token: int) -> None:
        """Note in each source that the row came so far; nothing else is decided by it (cutover/behind.py)."""
        for group in self._groups:
            for schema in group.schemas.values():
                if carried_of(group.db, schema).witnessed < token:
                    with group.db.write():
                        _put(group.db, schema, "witnessed", token)

    def carried(self) -> dict[str, Carried]:
        """What each source says now."""
        return {
            source: carried_of(group.db, schema) for group in self._groups for source, schema in group.schemas.items()
        }

    def hold(self, fences: Mapping[str, Fence]) -> None:
        """Raises Failed(FENCE_LOST) when a fence is not the one that was made, or the schema moved under it."""
        for group in self._groups:
            with group.db.read_view():
                for source, schema in group.schemas.items():
                    if carried_of(group.db, schema).fence != fences[source]:
                        raise _lost(source, "it carries another fence")
                    if _schema_version(group.db, schema) != fences[source].schema_version:
                        raise _lost(source, "its schema was changed while it was fenced")

    def close(self) -> None:
        for group in self._groups:
            group.db.close()

    def _make_durable(self) -> None:
        """What a process left that was killed in the middle of a commit is seen, and perhaps not on the disk."""
        for group in self._groups:
            group.db.sync_wal()


def _fence(db: SqliteDatabase, schema: str, source: str, token: int, writable: Writable) -> Fence:
    carried = carried_of(db, schema)
    if carried.token >= token:
        raise _superseded(source, carried.token, token)
    known = {int(_meta(db, schema, "schema_version") or 0), writable.schema_version}
    if known != {_schema_version(db, schema)}:
        raise Transient(
            Code.FENCE_BUSY,
            "the application changed its schema, and capture has not taken that in yet",
            source=source,
            hint="try again when tailrace status says consistent",
        )
    return _make(db, schema, token, writable.tables)


def _make(db: SqliteDatabase, schema: str, token: int, tables: Sequence[str]) -> Fence:
    version = _schema_version(db, schema)
    _drop(db, schema)
    for statement in fence_triggers(tables, token, schema=schema):
        db.run(statement)
    head = db.rows(f"SELECT max(seq) FROM {quote(schema)}.{LOG}")[0][0]
    if head is None:
        head = int(_meta(db, schema, "pruned_to") or 0)
    fence = Fence(token, int(head), _schema_version(db, schema))
    text = json.dumps({"token": fence.token, "head": fence.head, "schema_version": fence.schema_version})
    _store(db, schema, token=token, fence=text, version_before=version)
    return fence


def fence_copy(db: SqliteDatabase, token: int, tables: Sequence[str], *, witnessed: int) -> Fence:
    """A copy that takes the place of a source carries its fence from the first moment; in a transaction of its own."""
    with db.write():
        fence = _make(db, "main", token, tables)
        _put(db, "main", "witnessed", witnessed)
    return fence


def _drop(db: SqliteDatabase, schema: str) -> None:
    found = db.rows(
        f"SELECT name FROM {quote(schema)}.sqlite_master WHERE type = 'trigger' AND substr(name, 1, {len(FENCE_PREFIX)}) = ?",
        (FENCE_PREFIX,),
    )
    for (name,) in found:
        db.run(f"DROP TRIGGER {quote(schema)}.{quote(name)}")


def _store(db: SqliteDatabase, schema: str, *, token: int, fence: str, version_before: int) -> None:
    """With the schema version as our own DDL leaves it, so that capture does not take it for a change of the application;
    a change of the application that capture has not seen yet must stay visible to it."""
    values: dict[str, int | str] = {"token": token, "fence": fence}
    if int(_meta(db, schema, "schema_version") or 0) == version_before:
        values["schema_version"] = _schema_version(db, schema)
    for key, value in values.items():
        _put(db, schema, key, value)


def _put(db: SqliteDatabase, schema: str, key: str, value: int | str) -> None:
    db.run(f"INSERT OR REPLACE INTO {quote(schema)}.{META}(key, value) VALUES (?, ?)", (key, str(value)))


def carried_of(db: SqliteDatabase, schema: str = "main") -> Carried:
    text = _meta(db, schema, "fence")
    fence = Fence(**json.loads(text)) if text else None
    witnessed = int(_meta(db, schema, "witnessed") or 0)
    return Carried(int(_meta(db, schema, "token") or 0), fence, witnessed)


def _meta(db: SqliteDatabase, schema: str, key: str) -> str:
    found = db.rows(f"SELECT value FROM {quote(schema)}.{META} WHERE key = ?", (key,))
    return str(found[0][0]) if found else ""


def _schema_version(db: SqliteDatabase, schema: str) -> int:
    return int(db.rows(f"PRAGMA {quote(schema)}.schema_version")[0][0])


def _superseded(source: str, carried: int, token: int) -> Superseded:
    return Superseded(
        Code.AUTHORITY_MOVED,
        f"the source carries token {carried}, this attempt has {token}",
        source=source,
        position=carried,
        hint="somebody else moved the migration: tailrace status",
    )


def _lost(source: str, why: str) -> Failed:
    return Failed(Code.FENCE_LOST, why, source=source, hint="the switch was taken back; tailrace cutover tries again")
