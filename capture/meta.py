"""Decide: what `_tailrace_meta` says, as a value, and how it is written.

Invariant: a table keeps its number as long as it keeps its key, no number is given twice, and generations only rise; a
COPY notice is owed for every (table, generation) that the stream does not know yet.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace

from schemas.errors import Code, Refusal
from schemas.formats import SOURCE, refuse_unreadable
from schemas.model import LOG, META, Database, KeyKind, Table, TableKey
from schemas.ports import Sqlite, SqliteStatements

FORMAT = SOURCE.current


@dataclass(frozen=True, slots=True)
class MetaTable:
    """One replicated table as our triggers know it."""

    name: str
    generation: int
    key_kind: str
    key_columns: tuple[str, ...]
    shape: str
    """Text that changes with anything but added columns: see `shape_of`."""
    column_count: int
    objects: str = ""
    """Application triggers on the table when ours were made."""


@dataclass(frozen=True, slots=True)
class Meta:
    """All of `_tailrace_meta`."""

    identity: str
    format: int
    fingerprint: str
    schema_version: int
    plan_generation: int
    pruned_to: int
    tables: Mapping[int, MetaTable] = field(default_factory=dict)
    gone: Mapping[str, int] = field(default_factory=dict)
    """Tables that were dropped since install -> last generation."""
    last_number: int = 0
    """Highest table number ever given: none is given twice, since the log may still hold entries of the former."""

    void: str = ""
    """Stamp of the watermark whose ends and topics were given up by a reset: see `stamp_of`."""

    def number_of(self, table: str) -> int | None:
        return next((number for number, one in self.tables.items() if one.name == table), None)


def shape_of(table: Table, columns: int | None = None) -> str:
    """Names, declared types and flags of the first `columns` columns, with the key: equal shapes need no resync."""
    taken = table.columns[:columns]
    parts = [f"{c.name}\x1f{c.declared}\x1f{c.affinity}\x1f{c.pk_position}\x1f{c.hidden}" for c in taken]
    return "\x1e".join((*parts, table.key.kind, *table.key.columns))


def keys_agree(meta: Meta, tables: Mapping[str, Table]) -> bool:
    """Do the triggers log the keys that the tables have now? A NULL that came into a declared key or left it changes the
    key without moving the schema version."""
    return all(
        one.name in tables
        and (one.key_kind, one.key_columns) == (tables[one.name].key.kind, tables[one.name].key_columns)
        for one in meta.tables.values()
    )


def as_logged(meta: Meta, database: Database) -> Database:
    """The tables with the keys that the triggers log. A declared key whose NULLs went away identifies rows again, but until
    the triggers are made anew everything else (copy, verification, touch) must name rows as they do
    (test_a_null_that_went_away_again)."""
    by_rowid = {one.name for one in meta.tables.values() if one.key_kind == KeyKind.ROWID}
    tables = dict(database.tables)
    for name, table in database.tables.items():
        if name in by_rowid and table.key.kind is KeyKind.DECLARED and table.key.rowid_name is not None:
            key = TableKey(KeyKind.ROWID, (), table.key.rowid_name, "the declared key held NULLs")
            tables[name] = replace(table, key=key)
    return replace(database, tables=tables)


def exists(db: SqliteStatements) -> bool:
    return has_table(db, META)


def has_table(db: SqliteStatements, name: str) -> bool:
    return bool(db.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (name,)))


def read(db: SqliteStatements) -> Meta:
    """Raises Refusal(NOT_INSTALLED | FORMAT_NEWER)."""
    if not exists(db):
        raise Refusal(Code.NOT_INSTALLED, f"{db.path} carries no Tailrace triggers", hint="tailrace up")
    values = dict(db.rows(f"SELECT key, value FROM {META}"))
    written = int(values["format"])
    refuse_unreadable(SOURCE, written, db.path)
    tables = {
        int(n): MetaTable(**{**one, "key_columns": tuple(one["key_columns"])})
        for n, one in json.loads(values["tables"]).items()
    }
    return Meta(
        identity=values["identity"],
        format=written,
        fingerprint=values["fingerprint"],
        schema_version=int(values["schema_version"]),
        plan_generation=int(values["plan_generation"]),
        pruned_to=int(values["pruned_to"]),
        tables=tables,
        gone=json.loads(values["gone"]),
        last_number=int(values.get("last_number", 0)),
        void=values.get("void_watermark", ""),
    )


def write(db: SqliteStatements, meta: Meta) -> None:
    """Store everything but `pruned_to`, which only pruning moves. Inside the caller's write transaction."""
    values = {
        "identity": meta.identity,
        "format": str(meta.format),
        "fingerprint": meta.fingerprint,
        "schema_version": str(meta.schema_version),
        "plan_generation": str(meta.plan_generation),
        "tables": json.dumps({str(number): asdict(one) for number, one in meta.tables.items()}),
        "gone": json.dumps(dict(meta.gone)),
        "last_number": str(max([meta.last_number, *meta.tables])),
        "void_watermark": meta.void,
    }
    for key, value in values.items():
        db.run(f"INSERT OR REPLACE INTO {META}(key, value) VALUES (?, ?)", (key, value))
    db.run(f"INSERT OR IGNORE INTO {META}(key, value) VALUES ('pruned_to', '0')")


def has_log(db: Sqlite) -> bool:
    """The archive of a completed migration has a meta table, and no log any more."""
    return has_table(db, LOG)


def head_of(db: Sqlite) -> int:
    """Seq of the last entry of the log; 0: there is none."""
    return int(db.rows(f"SELECT coalesce(max(seq), 0) FROM {LOG}")[0][0]) if has_log(db) else 0


def fenced(db: Sqlite) -> bool:
    return exists(db) and bool(db.rows(f"SELECT 1 FROM {META} WHERE key = 'fence' AND value <> ''"))


def refuse_fenced(db: Sqlite, what: str) -> None:
    """What asks this source to send rows again would be waited for until writes come back, and may overwrite newer ones."""
    if fenced(db):
        raise Refusal(
            Code.VERB_ILLEGAL,
            f"{what}: {db.path} is fenced, writes do not belong to it now",
            hint="tailrace status; tailrace rollback brings writes back",
        )
