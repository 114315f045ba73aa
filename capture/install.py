"""Do: install, rebuild, verify and uninstall the log, the meta table and the triggers, each in one BEGIN IMMEDIATE.

Invariant: after any commit of ours the triggers, the meta table and the schema fingerprint agree, or nothing changed.
All triggers are dropped and created again together, so that ours are always the last created and fire first.
Trap: an application trigger that is created later would fire before ours and may leave a half-done row behind under
INSERT OR FAIL (test_application_trigger_made_after_ours).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from capture import meta as metas
from capture.cut import MARKER
from capture.drift import Drift, decide
from capture.meta import Meta, MetaTable
from capture.sqlite_triggers import NOW_MS, log_statements, trigger_statements
from ops.points import reach
from schemas.back import PROGRESS, QUARANTINE
from schemas.errors import Code, Refusal
from schemas.fence import is_fence
from schemas.introspect import fingerprint, introspect, read_one
from schemas.model import LOG, META, OWN_PREFIX, BadText, Database, Key, Table, Value
from schemas.names import quote
from schemas.ports import Sqlite, SqliteStatements


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """What a rebuild found and did."""

    meta: Meta
    database: Database
    drift: Drift
    changed: bool


def install(db: Sqlite, identity: str, *, wanted: Iterable[str] | None = None, wal: bool = False) -> Rebuilt:
    """Install or bring up to date. Idempotent: a second call changes nothing.

    Args:
        identity: uuid text used only at the first install.
        wanted: names of the tables to replicate; None: all ordinary tables.
        wal: switch the file to WAL first (the setting is persistent).
    """
    journal = str(db.rows("PRAGMA journal_mode")[0][0])
    if wal:
        db.run("PRAGMA journal_mode=WAL")
    with db.write():
        database = introspect(db)
        if metas.exists(db):
            if metas.fenced(db) and not metas.has_log(db):
                raise Refusal(
                    Code.VERB_ILLEGAL,
                    f"{db.path} is the fenced archive of a completed migration",
                    hint="its rows are in PostgreSQL; another file, or a backup of this one, can be installed",
                )
            before = metas.read(db)
        else:
            db.run(f"CREATE TABLE {META}(key TEXT PRIMARY KEY, value)")
            # What uninstall has to give back.
            db.run(f"INSERT INTO {META}(key, value) VALUES ('journal_mode', ?)", (journal,))
            before = Meta(identity, metas.FORMAT, "", -1, 0, 0)
        return _bring_up_to_date(db, before, database, wanted)


def rebuild(db: Sqlite, *, wanted: Iterable[str] | None = None) -> Rebuilt:
    """After the application changed its schema. Raises Refusal(NOT_INSTALLED) when everything of ours is gone."""
    with db.write():
        return _bring_up_to_date(db, metas.read(db), introspect(db), wanted)


def _bring_up_to_date(db: Sqlite, before: Meta, database: Database, wanted: Iterable[str] | None) -> Rebuilt:
    chosen = set(database.tables) if wanted is None else set(wanted) & set(database.tables)
    tables = {name: table for name, table in database.tables.items() if name in chosen}
    triggers = _own_triggers(db)
    drift = decide(before, tables, _app_triggers(database), triggers, database.schema_version)
    same = before.fingerprint == database.fingerprint and before.schema_version == database.schema_version
    if same and not drift.any and _complete(db, before, tables, triggers):
        return Rebuilt(before, database, drift, changed=False)
    after = _next_meta(before, database, tables, drift)
    width = max([len(table.key_columns) for table in tables.values()], default=1)
    existing = len(db.rows(f"PRAGMA table_info({LOG})")) - 4 if metas.has_log(db) else 0
    if width > existing:
        for statement in log_statements(width, existing):
            db.run(statement)
    for name, _ in triggers:
        db.run(f"DROP TRIGGER {quote(name)}")
    reach("capture.mid_install")
    for number, one in after.tables.items():
        for statement in trigger_statements(tables[one.name], number):
            db.run(statement)
    # Our own DDL moves the schema version: what is stored is the version after it, so that the next look at the
    # pragma is silent until somebody else changes the schema.
    after = replace(after, schema_version=db.schema_version())
    metas.write(db, after)
    _mark(db)
    return Rebuilt(after, database, drift, changed=True)


def _mark(db: Sqlite) -> None:
    """An entry without a key: seq moves, so that the notices owed for this change lie under a new watermark."""
    db.run(f"INSERT INTO {LOG}(ts, tab, op) VALUES ({NOW_MS}, {MARKER}, 'm')")


def _own_triggers(db: Sqlite) -> list[tuple[str, str]]:
    """(trigger name, table name) of the triggers that log; a fence is no business of theirs."""
    found = db.rows(
        "SELECT name, tbl_name FROM sqlite_master WHERE type = 'trigger' AND substr(name, 1, 10) = ? ORDER BY name",
        (OWN_PREFIX,),
    )
    return [(name, table) for name, table in found if not is_fence(name)]


def _app_triggers(database: Database) -> dict[str, str]:
    """table -> names and texts of the application's triggers on it."""
    result: dict[str, list[str]] = {}
    for one in database.objects:
        if one.kind == "trigger":
            result.setdefault(one.table, []).append(f"{one.name}\x1f{one.sql}")
    return {table: "\x1e".join(sorted(texts)) for table, texts in result.items()}


def _complete(db: Sqlite, meta: Meta, tables: dict[str, Table], triggers: Sequence[tuple[str, str]]) -> bool:
    expected = sum(len(trigger_statements(tables[one.name], n)) for n, one in meta.tables.items() if one.name in tables)
    return metas.has_log(db) and expected == len(triggers) and {one.name for one in meta.tables.values()} == set(tables)


def _next_meta(before: Meta, database: Database, tables: dict[str, Table], drift: Drift) -> Meta:
    numbers = {one.name: number for number, one in before.tables.items()}
    app = _app_triggers(database)
    free = max([*before.tables, before.last_number]) + 1
    gone = {**before.gone, **{name: before.tables[numbers[name]].generation for name in drift.gone}}
    after: dict[int, MetaTable] = {}
    for name, table in tables.items():
        number = numbers.get(name)
        if number is None:
            number, free = free, free + 1
            generation = gone.pop(name, 0) + 1
        else:
            known = before.tables[number]
            generation = known.generation + (name in drift.resync)
            if (known.key_kind, known.key_columns) != (table.key.kind, table.key_columns):
                # Entries already in the log name rows by the former key: under a number that means the new one they
                # would be tombstones of keys that never were. The copy that is owed covers what they stand for.
                number, free = free, free + 1
        after[number] = MetaTable(
            name,
            generation,
            table.key.kind,
            table.key_columns,
            metas.shape_of(table),
            len(table.columns),
            app.get(name, ""),
        )
    return replace(
        before,
        fingerprint=database.fingerprint,
        tables=after,
        gone=gone,
        plan_generation=before.plan_generation + 1,
        last_number=free - 1,
    )


def add_columns(db: SqliteStatements, table: str, statements: Sequence[str]) -> None:
    """Columns that were added on the target, in the caller's transaction. Where the schema was the known one before, it is
    afterwards: capture finds nothing that it would copy the table for, nor the fence that its schema moved. What the
    application changed and capture has not seen yet stays visible to it."""
    meta = metas.read(db)
    version = db.schema_version()
    known = (meta.schema_version, meta.fingerprint) == (version, fingerprint(db))
    for statement in statements:
        db.run(statement)
    fence = str(dict(db.rows(f"SELECT key, value FROM {META} WHERE key = 'fence'")).get("fence") or "")
    if fence and json.loads(fence)["schema_version"] == version:
        moved = json.dumps({**json.loads(fence), "schema_version": db.schema_version()})
        db.run(f"UPDATE {META} SET value = ? WHERE key = 'fence'", (moved,))
    number = meta.number_of(table)
    if not known or number is None:
        return
    one = meta.tables[number]
    found = read_one(db, table, str(db.rows("SELECT sql FROM sqlite_master WHERE name = ?", (table,))[0][0]))
    if (one.key_kind, one.key_columns) == (found.key.kind, found.key_columns):
        taken = replace(one, shape=metas.shape_of(found), column_count=len(found.columns))
        after = replace(meta, fingerprint=fingerprint(db), schema_version=db.schema_version())
        metas.write(db, replace(after, plan_generation=meta.plan_generation + 1, tables={**meta.tables, number: taken}))


def request_resync_of_all(db: Sqlite, *, void: str) -> dict[str, int]:
    """Make a copy of every table owed, and give up in the same transaction what the watermark of this stamp says was
    acknowledged. Returns table -> new generation."""
    with db.write():
        meta = metas.read(db)
        raised = {n: replace(one, generation=one.generation + 1) for n, one in meta.tables.items()}
        metas.write(db, replace(meta, tables=raised, plan_generation=meta.plan_generation + 1, void=void))
        _mark(db)
        return {one.name: one.generation for one in raised.values()}


def request_resync(db: Sqlite, table: str) -> int:
    """Raise the generation of one table, so that capture owes the stream a COPY notice. Returns the new generation."""
    with db.write():
        meta = metas.read(db)
        number = meta.number_of(table)
        if number is None:
            raise Refusal(Code.TABLE_UNSUPPORTED, f"{table!r} is not replicated", table=table, hint="tailrace plan")
        one = meta.tables[number]
        raised = replace(one, generation=one.generation + 1)
        metas.write(
            db,
            replace(meta, tables={**meta.tables, number: raised}, plan_generation=meta.plan_generation + 1),
        )
        _mark(db)
        return raised.generation


def accept_history(
    db: Sqlite, known_seq: int, *, identity: str | None = None, generations: Mapping[str, int] | None = None
) -> None:
    """After a refused fork: go on from this file as it is. Seq jumps above everything the stream has seen (labels of the
    lost history must not outrank the rows of this one) and every table is copied again.

    Args:
        known_seq: highest seq that the stream or the target has seen.
        identity: what the stream calls this source; a file that was installed anew goes on under it.
        generations: table -> generation that the target knows; a copy under a lower one would be taken for done.
    """
    known = generations or {}
    with db.write():
        meta = metas.read(db)
        top = db.rows(f"SELECT coalesce(max(seq), 0) FROM {LOG}")[0][0]
        beyond = max(known_seq, top) + 1
        db.run(f"DELETE FROM {LOG}")
        db.run(f"INSERT INTO {LOG}(seq, ts, tab, op) VALUES (?, {NOW_MS}, {MARKER}, 'm')", (beyond,))
        db.run(f"UPDATE {META} SET value = ? WHERE key = 'pruned_to'", (str(beyond - 1),))
        raised = {
            number: replace(one, generation=max(one.generation, known.get(one.name, 0)) + 1)
            for number, one in meta.tables.items()
        }
        metas.write(
            db,
            replace(
                meta,
                identity=identity or meta.identity,
                tables=raised,
                plan_generation=meta.plan_generation + 1,
            ),
        )


def accept_fork(
    db: Sqlite,
    known_seq: int,
    *,
    since: int,
    tables: Mapping[str, Table],
    keys: Mapping[str, Sequence[Key]],
    copied: Mapping[str, int],
) -> int:
    """After a refused fork of which it is known what differs: go on from this file as it is, and send these keys again.

    What the file logged since both histories were one is kept, moved above everything that the stream has seen: labels of the
    lost history must not outrank the rows of this one. All of it is one transaction: without the touches behind the jump,
    rows of the lost history would stay on the target for ever. Returns the head that all of it lies under.

    Args:
        known_seq: highest seq that the stream or the target has seen.
        since: both histories are one up to this entry.
        keys: table -> what was published since.
        copied: table -> generation of the copy that is owed.
    """
    with db.write():
        meta = metas.read(db)
        owed = {n: replace(one, generation=copied.get(one.name, one.generation)) for n, one in meta.tables.items()}
        metas.write(db, replace(meta, tables=owed, plan_generation=meta.plan_generation + bool(copied)))
        top = db.rows(f"SELECT coalesce(max(seq), 0) FROM {LOG}")[0][0]
        beyond = max(known_seq, top) + 1
        db.run(f"DELETE FROM {LOG} WHERE seq <= ?", (since,))
        db.run(f"UPDATE {LOG} SET seq = seq + ?", (beyond - since,))
        db.run(f"INSERT INTO {LOG}(seq, ts, tab, op) VALUES (?, {NOW_MS}, {MARKER}, 'm')", (beyond,))
        db.run(f"UPDATE {META} SET value = ? WHERE key = 'pruned_to'", (str(beyond - 1),))
        for table, told in keys.items():
            number = meta.number_of(table)
            assert number is not None
            _touch(db, tables[table], number, told)
        return int(db.rows(f"SELECT max(seq) FROM {LOG}")[0][0])


def touch(db: Sqlite, table: Table, number: int, keys: Iterable[Key]) -> int:
    """Log keys, so that capture reads and sends their rows again: the only repair there is. Returns how many."""
    with db.write():
        return _touch(db, table, number, keys)


def _touch(db: Sqlite, table: Table, number: int, keys: Iterable[Key]) -> int:
    columns = ", ".join(f"k{at}" for at in range(len(table.key_columns)))
    count = 0
    for key in keys:
        values: Sequence[Value] = key
        # Bytes of a TEXT would be bound, and logged, as a BLOB: another key.
        marks = ", ".join("CAST(? AS TEXT)" if type(value) is BadText else "?" for value in values)
        db.run(f"INSERT INTO {LOG}(ts, tab, op, {columns}) VALUES (NULL, ?, 't', {marks})", (number, *values))
        count += 1
    return count


def uninstall(db: Sqlite) -> None:
    """Take everything of ours out of the source, in one transaction. Does nothing when nothing is there. Refused while
    the source is fenced: without its fence, writes that belong to the other side would come in."""
    with db.write():
        if metas.fenced(db):
            raise Refusal(
                Code.VERB_ILLEGAL,
                f"{db.path} is fenced: writes belong to PostgreSQL",
                hint="tailrace rollback first; after tailrace complete the file is an archive",
            )
        _drop_log(db)
        db.run(f"DROP TABLE IF EXISTS {META}")


def archive(db: Sqlite) -> bool:
    """The same for a source whose migration is completed: the fence stays for good, with the meta table that says what this
    file is. Returns whether something was there to take out."""
    with db.write():
        if not metas.fenced(db):
            raise Refusal(Code.VERB_ILLEGAL, f"{db.path} is not fenced", hint="tailrace uninstall")
        present = metas.has_log(db)
        _drop_log(db)
    return present


def _drop_log(db: Sqlite) -> None:
    for name, _ in _own_triggers(db):
        db.run(f"DROP TRIGGER {quote(name)}")
    for table in (LOG, PROGRESS, QUARANTINE):
        db.run(f"DROP TABLE IF EXISTS {table}")


def detach(db: Sqlite) -> None:
    """Drop only the triggers: the application lives without us, the log keeps what it has, a resync is needed."""
    with db.write():
        for name, _ in _own_triggers(db):
            db.run(f"DROP TRIGGER {quote(name)}")
