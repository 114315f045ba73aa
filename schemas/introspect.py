"""Decide: read a whole SQLite schema through PRAGMAs and the text of its CREATE statements, in the caller's view.

Invariant: a table's key is one that really identifies its rows: an INTEGER PRIMARY KEY, the key of a WITHOUT ROWID
table, another declared key only while no row has NULL in it, else the rowid under a name that no column shadows.
Trap: proj.db declares keys whose columns hold only NULLs (test_null_in_a_declared_key_means_rowid).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from itertools import pairwise

from schemas.errors import Code, Failed, Refusal
from schemas.model import (
    OWN_PREFIX,
    Affinity,
    Column,
    Database,
    ForeignKey,
    Index,
    IndexTerm,
    KeyKind,
    SchemaObject,
    Table,
    TableKey,
)
from schemas.names import quote
from schemas.ports import Sqlite, SqliteStatements
from schemas.sqltext import TableText, read_index, read_table, tokens

_ROWID_NAMES = ("rowid", "_rowid_", "oid")


def affinity_of(declared: str, *, strict: bool = False) -> Affinity:
    """SQLite: datatype3.html section 3.1, in the order of its rules. STRICT tables have ANY without any conversion."""
    word = declared.upper()
    if strict and word == "ANY":
        return Affinity.BLOB
    if "INT" in word:
        return Affinity.INTEGER
    if any(part in word for part in ("CHAR", "CLOB", "TEXT")):
        return Affinity.TEXT
    if "BLOB" in word or not word:
        return Affinity.BLOB
    if any(part in word for part in ("REAL", "FLOA", "DOUB")):
        return Affinity.REAL
    return Affinity.NUMERIC


def fingerprint(db: SqliteStatements) -> str:
    """SHA-256 over the schema without our own objects."""
    digest = hashlib.sha256()
    rows = db.rows(
        "SELECT type, name, tbl_name, coalesce(sql, '') FROM sqlite_master WHERE substr(name, 1, 10) <> ? "
        # The index of our meta table's key is called sqlite_autoindex_..: only its table's name tells that it is ours.
        # ANALYZE makes statistics tables; the shape of what is replicated stays the same.
        "AND substr(tbl_name, 1, 10) <> ? AND name NOT LIKE 'sqlite~_stat%' ESCAPE '~' ORDER BY type, name",
        (OWN_PREFIX, OWN_PREFIX),
    )
    for row in rows:
        digest.update("\x00".join(map(str, row)).encode("utf-8", "surrogatepass") + b"\x01")
    return digest.hexdigest()


def introspect(db: Sqlite) -> Database:
    """The whole database but our own objects, in the caller's view. What cannot be replicated is an object.

    Raises Refusal(TABLE_UNSUPPORTED) only where the text of a table contradicts what SQLite tells of it."""
    master = db.rows(
        "SELECT type, name, tbl_name, sql FROM sqlite_master WHERE substr(name, 1, 10) <> ?", (OWN_PREFIX,)
    )
    shadows = _shadow_tables(master, _listed_shadows(db))
    tables: dict[str, Table] = {}
    objects: list[SchemaObject] = []
    for kind, name, table, sql in master:
        if kind == "table" and (name.startswith("sqlite_") or name in shadows):
            if name in shadows:
                objects.append(SchemaObject("shadow", name, shadows[name], sql))
        elif kind == "table" and _is_virtual(sql):
            objects.append(SchemaObject("virtual", name, name, sql))
        elif kind == "table":
            tables[name] = read_one(db, name, sql or "")
        elif kind in ("view", "trigger"):
            objects.append(SchemaObject(kind, name, table, sql))
    sequences = {}
    if db.rows("SELECT 1 FROM sqlite_master WHERE name = 'sqlite_sequence'"):
        sequences = {
            name: seq for name, seq in db.rows("SELECT name, seq FROM sqlite_sequence") if isinstance(seq, int)
        }
    return Database(
        tables=tables,
        objects=tuple(objects),
        fingerprint=fingerprint(db),
        schema_version=db.schema_version(),
        page_size=db.rows("PRAGMA page_size")[0][0],
        encoding=db.rows("PRAGMA encoding")[0][0],
        journal_mode=db.rows("PRAGMA journal_mode")[0][0],
        sequences=sequences,
    )


def _is_virtual(sql: str | None) -> bool:
    return bool(sql) and [token.text.upper() for token in tokens(sql or "")[:2]] == ["CREATE", "VIRTUAL"]


_SHADOW_SUFFIXES = {
    "FTS5": ("data", "idx", "content", "docsize", "config"),
    "FTS4": ("content", "segments", "segdir", "docsize", "stat"),
    "FTS3": ("content", "segments", "segdir"),
    "RTREE": ("node", "parent", "rowid"),
    "RTREE_I32": ("node", "parent", "rowid"),
    "GEOPOLY": ("node", "parent", "rowid"),
}
"""Of the modules that SQLite ships, by their documentation: a library without the module cannot tell them."""


def _listed_shadows(db: Sqlite) -> set[str]:
    """What SQLite itself takes for a shadow table (3.37 and up, for the modules that this library has)."""
    return {row[1] for row in db.rows("PRAGMA main.table_list") if row[2] == "shadow"}


def _shadow_tables(master: Sequence[tuple[str, str, str, str | None]], listed: set[str]) -> dict[str, str]:
    """Shadow tables -> name of their virtual table.

    With the option content=.. the rows belong to the application, even in a table called `.._content`, which SQLite
    itself would call a shadow: leaving it out would lose all of it (test_external_content_is_an_ordinary_table).
    """
    names = {name for kind, name, _, _ in master if kind == "table"}
    result: dict[str, str] = {}
    for kind, name, _, sql in master:
        if kind != "table" or not _is_virtual(sql):
            continue
        words = tokens(sql or "")
        using = next((at for at, token in enumerate(words) if token.is_word("USING")), None)
        module = (words[using + 1].name or "").upper() if using is not None else ""
        known = {f"{name}_{suffix}".lower() for suffix in _SHADOW_SUFFIXES.get(module, ())}
        prefix = f"{name}_".lower()
        found = {one for one in names if one.lower() in known or (one in listed and one.lower().startswith(prefix))}
        if any(one.is_word("CONTENT") and after.text == "=" for one, after in pairwise(words)):
            found = {one for one in found if one.lower() != f"{prefix}content"}
        result.update(dict.fromkeys(found, name))
    return result


def read_one(db: SqliteStatements, name: str, sql: str) -> Table:
    """One ordinary table."""
    text = read_table(sql)
    tail = _options(sql)
    strict, without_rowid = "STRICT" in tail, "WITHOUT" in tail
    columns = tuple(
        _column(row, text, strict=strict) for row in db.rows(f"PRAGMA table_xinfo({quote(name)})") if row[6] != 1
    )
    unread = next((column.name for column in columns if column.is_generated and column.generated is None), None)
    if unread is not None:
        # The triggers must expand it where it is part of a unique key: guessing would miss rows.
        raise Refusal(
            Code.TABLE_UNSUPPORTED,
            f"the expression of generated column {unread!r} was not found in the CREATE TABLE text",
            table=name,
            hint="exclude the table, or report its CREATE TABLE statement",
        )
    indexes = _indexes(db, name)
    unreadable = _unreadable(db, name, columns)
    key = (
        TableKey(KeyKind.WHOLE_ROW, (), None, f"it cannot be read here: {unreadable}")
        if unreadable
        else _decide_key(db, name, columns, indexes, without_rowid=without_rowid)
    )
    return Table(
        name=name,
        columns=columns,
        key=key,
        indexes=indexes,
        foreign_keys=_foreign_keys(db, name, text.deferred),
        checks=text.checks,
        without_rowid=without_rowid,
        strict=strict,
        autoincrement=any(token.is_word("AUTOINCREMENT") for token in tokens(sql)),
        sql=sql,
    )


def _unreadable(db: SqliteStatements, name: str, columns: Sequence[Column]) -> str:
    """Why no statement can read this table; empty where it can be read. A collation or a function that only the
    application registers fails when a statement is prepared (test_a_table_that_needs_the_application_is_refused)."""
    declared = ", ".join(quote(c.name) for c in sorted(columns, key=lambda c: c.pk_position) if c.pk_position)
    try:
        db.rows(f"EXPLAIN SELECT * FROM {quote(name)}" + (f" ORDER BY {declared}" if declared else ""))
    except Failed as error:
        if error.code is not Code.SOURCE_IO:
            raise
        return str(error.__cause__ or error.message)
    return ""


def _options(sql: str) -> set[str]:
    """Words after the last closing parenthesis: WITHOUT ROWID, STRICT."""
    parts = tokens(sql)
    last = max((at for at, token in enumerate(parts) if token.text == ")"), default=len(parts))
    return {token.text.upper() for token in parts[last + 1 :]}


def _column(row: tuple[object, ...], text: TableText, *, strict: bool) -> Column:
    name, declared = str(row[1]), str(row[2])
    # table_xinfo appends the words of a generated column to its type.
    plain = declared.upper().replace("GENERATED ALWAYS", "").strip() if row[6] in (2, 3) else declared
    extra = text.columns.get(name)
    return Column(
        name=name,
        declared=plain,
        affinity=affinity_of(plain, strict=strict),
        not_null=bool(row[3]),
        default=None if row[4] is None else str(row[4]),
        pk_position=int(str(row[5])),
        hidden=int(str(row[6])),
        collation=extra.collation if extra else "BINARY",
        generated=extra.generated if extra and row[6] in (2, 3) else None,
    )


def _indexes(db: SqliteStatements, table: str) -> tuple[Index, ...]:
    result = []
    for row in db.rows(f"PRAGMA index_list({quote(table)})"):
        name, unique, origin, partial = row[1], bool(row[2]), row[3], bool(row[4])
        sql_rows = db.rows("SELECT sql FROM sqlite_master WHERE type = 'index' AND name = ?", (name,))
        sql = sql_rows[0][0] if sql_rows else None
        texts, where = read_index(sql) if sql else ([], None)
        terms = []
        for position, cid, column, descending, collation, is_key in db.rows(f"PRAGMA index_xinfo({quote(name)})"):
            if is_key:
                expression = texts[position] if cid == -2 and position < len(texts) else None
                column = "rowid" if cid == -1 else column
                terms.append(IndexTerm(column, expression, collation or "BINARY", bool(descending)))
        result.append(Index(name, unique, origin, tuple(terms), where if partial else None, sql))
    return tuple(result)


def _foreign_keys(db: SqliteStatements, table: str, deferred: Sequence[bool]) -> tuple[ForeignKey, ...]:
    """In the order of the text. SQLite numbers them from the last to the first, and tells no deferral."""
    grouped: dict[int, list[tuple[object, ...]]] = {}
    for row in db.rows(f"PRAGMA foreign_key_list({quote(table)})"):
        grouped.setdefault(row[0], []).append(row)
    flags = deferred if len(deferred) == len(grouped) else (False,) * len(grouped)
    result = []
    for (_, rows), late in zip(sorted(grouped.items(), reverse=True), flags, strict=True):
        rows.sort(key=lambda row: int(str(row[1])))
        columns = tuple(str(row[3]) for row in rows)
        parents = tuple(str(row[4]) for row in rows if row[4] is not None)
        result.append(ForeignKey(columns, str(rows[0][2]), parents, str(rows[0][5]), str(rows[0][6]), late))
    return tuple(result)


def _decide_key(
    db: SqliteStatements, name: str, columns: Sequence[Column], indexes: Sequence[Index], *, without_rowid: bool
) -> TableKey:
    taken = {column.name.lower() for column in columns}
    rowid = None if without_rowid else next((word for word in _ROWID_NAMES if word not in taken), None)
    declared = tuple(c.name for c in sorted(columns, key=lambda c: c.pk_position) if c.pk_position)
    has_index = any(index.origin == "pk" for index in indexes)
    if len(declared) == 1 and not has_index and not without_rowid:
        # No index of origin pk beside a one-column key: that column is the rowid itself.
        return TableKey(KeyKind.ROWID_ALIAS, declared, rowid or declared[0], "INTEGER PRIMARY KEY")
    if without_rowid:
        return TableKey(KeyKind.DECLARED, declared, None, "WITHOUT ROWID")
    if declared:
        nullable = [c.name for c in columns if c.pk_position and not c.not_null]
        test = " OR ".join(f"{quote(column)} IS NULL" for column in nullable)
        if not nullable or not db.rows(f"SELECT 1 FROM {quote(name)} WHERE {test} LIMIT 1"):
            return TableKey(KeyKind.DECLARED, declared, rowid, "declared primary key")
        reason = "the declared key holds NULLs"
    else:
        reason = "no declared key"
    if rowid is not None:
        return TableKey(KeyKind.ROWID, (), rowid, reason)
    return TableKey(KeyKind.WHOLE_ROW, (), None, f"{reason}, and columns shadow every name of the rowid")


def require_table(database: Database, name: str) -> Table:
    """Raises Refusal naming the tables there are."""
    if name not in database.tables:
        known = ", ".join(sorted(database.tables)[:20])
        raise Refusal(Code.TABLE_UNSUPPORTED, f"there is no table {name!r}", table=name, hint=f"one of: {known}")
    return database.tables[name]
