"""Introspection of real files: every way a row can be identified, and everything that is no ordinary table."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import syntaqlite

from adapters.sqlite import SqliteDatabase
from schemas.errors import Code, Refusal
from schemas.introspect import affinity_of, fingerprint, introspect, require_table
from schemas.model import Affinity, Database, ForeignKey, KeyKind, Table
from schemas.profile import profile_table


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    yield one
    one.close()


def table_of(db: SqliteDatabase, sql: str, *more: str) -> Table:
    for statement in (sql, *more):
        db.run(statement)
    return introspect(db).tables["t"]


def key_of(db: SqliteDatabase, sql: str, *more: str) -> tuple[KeyKind, tuple[str, ...], str | None]:
    key = table_of(db, sql, *more).key
    return key.kind, key.columns, key.rowid_name


def test_an_integer_primary_key_is_the_rowid(db: SqliteDatabase) -> None:
    assert (KeyKind.ROWID_ALIAS, ("id",), "rowid") == key_of(db, "CREATE TABLE t(a, id INTEGER PRIMARY KEY)")


def test_integer_primary_key_desc_is_not_the_rowid(db: SqliteDatabase) -> None:
    # SQLite: lang_createtable, the historical exception: such a column may hold NULLs.
    sql = "CREATE TABLE t(id INTEGER PRIMARY KEY DESC)"
    assert (KeyKind.ROWID, (), "rowid") == key_of(db, sql, "INSERT INTO t VALUES (NULL)")


def test_int_primary_key_is_a_declared_key(db: SqliteDatabase) -> None:
    assert (KeyKind.DECLARED, ("id",), "rowid") == key_of(db, "CREATE TABLE t(id INT PRIMARY KEY)")


def test_null_in_a_declared_key_means_rowid(db: SqliteDatabase) -> None:
    sql = "CREATE TABLE t(a TEXT, b TEXT, PRIMARY KEY (b, a))"
    assert (KeyKind.DECLARED, ("b", "a"), "rowid") == key_of(db, sql, "INSERT INTO t VALUES ('x', 'y')")
    db.run("INSERT INTO t VALUES (NULL, 'y')")
    assert KeyKind.ROWID is introspect(db).tables["t"].key.kind


def test_a_column_that_shadows_rowid_leaves_another_name(db: SqliteDatabase) -> None:
    assert (KeyKind.ROWID, (), "_rowid_") == key_of(db, "CREATE TABLE t(RowId TEXT, x)")


def test_all_names_of_the_rowid_shadowed_is_a_whole_row_key(db: SqliteDatabase) -> None:
    table = table_of(db, "CREATE TABLE t(rowid, oid, _ROWID_)")
    assert (KeyKind.WHOLE_ROW, (), None) == (table.key.kind, table.key.columns, table.key.rowid_name)
    assert ("rowid", "oid", "_ROWID_") == table.key_columns


def test_all_names_shadowed_beside_an_integer_primary_key_is_fine(db: SqliteDatabase) -> None:
    sql = "CREATE TABLE t(rowid TEXT, oid TEXT, _rowid_ TEXT, id INTEGER PRIMARY KEY)"
    assert (KeyKind.ROWID_ALIAS, ("id",), "id") == key_of(db, sql)


def test_without_rowid_and_strict(db: SqliteDatabase) -> None:
    table = table_of(db, "CREATE TABLE t(a ANY, b TEXT, PRIMARY KEY (b, a)) STRICT, WITHOUT ROWID")
    assert (KeyKind.DECLARED, ("b", "a"), None) == (table.key.kind, table.key.columns, table.key.rowid_name)
    assert (True, True) == (table.strict, table.without_rowid)
    assert [Affinity.BLOB, Affinity.TEXT] == [column.affinity for column in table.columns]


def test_words_in_names_are_no_options(db: SqliteDatabase) -> None:
    table = table_of(db, 'CREATE TABLE t("STRICT" TEXT, "WITHOUT" TEXT, "AUTOINCREMENT" TEXT)')
    assert (False, False, False) == (table.strict, table.without_rowid, table.autoincrement)


def test_autoincrement_and_its_sequence(db: SqliteDatabase) -> None:
    table = table_of(db, "CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT)", "INSERT INTO t VALUES (41)")
    assert table.autoincrement
    assert {"t": 41} == introspect(db).sequences
    assert ["t"] == list(introspect(db).tables)


def test_generated_columns_are_told_with_their_expression(db: SqliteDatabase) -> None:
    table = table_of(db, "CREATE TABLE t(a INT, b INT GENERATED ALWAYS AS (a * 2) VIRTUAL, c AS (a || ')') STORED)")
    assert [(0, None), (2, "a * 2"), (3, "a || ')'")] == [(c.hidden, c.generated) for c in table.columns]
    assert ["INT", "INT", ""] == [column.declared for column in table.columns]


def test_indexes(db: SqliteDatabase) -> None:
    table = table_of(
        db,
        "CREATE TABLE t(a TEXT UNIQUE, b TEXT COLLATE NOCASE, c INT, UNIQUE (b, c))",
        "CREATE INDEX i ON t(lower(a), b DESC) WHERE c > 0",
    )
    found = {index.name: index for index in table.indexes}
    first, second = found["i"].terms
    assert (None, "lower ( a )") == (first.column, first.expression)
    assert ("b", None, "NOCASE", True) == (second.column, second.expression, second.collation, second.descending)
    assert ("c > 0", "c", False) == (found["i"].where, found["i"].origin, found["i"].unique)
    unique = found["sqlite_autoindex_t_2"]
    assert ("u", True, [("b", "NOCASE"), ("c", "BINARY")]) == (
        unique.origin,
        unique.unique,
        [(term.column, term.collation) for term in unique.terms],
    )


def test_foreign_keys_in_the_order_of_the_text(db: SqliteDatabase) -> None:
    table = table_of(
        db,
        "CREATE TABLE t(a REFERENCES p, b INT REFERENCES p(x) ON DELETE CASCADE ON UPDATE SET NULL DEFERRABLE INITIALLY "
        "DEFERRED, FOREIGN KEY (b, a) REFERENCES q(y, z))",
    )
    assert (
        ForeignKey(("a",), "p", ()),
        ForeignKey(("b",), "p", ("x",), "SET NULL", "CASCADE", True),
        ForeignKey(("b", "a"), "q", ("y", "z")),
    ) == table.foreign_keys


def test_views_triggers_virtual_and_shadow_tables_are_objects(db: SqliteDatabase) -> None:
    table_of(
        db,
        "CREATE TABLE t(a)",
        "CREATE VIEW v AS SELECT a FROM t",
        "CREATE TRIGGER g AFTER INSERT ON t BEGIN SELECT 1; END",
        "CREATE VIRTUAL TABLE docs USING fts5(body)",
        "CREATE VIRTUAL TABLE box USING rtree(id, x0, x1)",
        "CREATE TABLE docs_other(a)",
    )
    database = introspect(db)
    assert ["docs_other", "t"] == sorted(database.tables)
    kinds = {one.name: one.kind for one in database.objects}
    assert ("view", "trigger", "virtual", "virtual") == (kinds["v"], kinds["g"], kinds["docs"], kinds["box"])
    shadows = {f"docs_{word}" for word in ("data", "idx", "content", "docsize", "config")}
    shadows |= {f"box_{word}" for word in ("node", "parent", "rowid")}
    assert shadows == {name for name, kind in kinds.items() if kind == "shadow"}


def test_external_content_is_an_ordinary_table(db: SqliteDatabase) -> None:
    table_of(
        db,
        "CREATE TABLE t(a)",
        "CREATE TABLE docs_content(id INTEGER PRIMARY KEY, body TEXT)",
        "CREATE VIRTUAL TABLE docs USING fts5(body, content='docs_content', content_rowid='id')",
    )
    assert ["docs_content", "t"] == sorted(introspect(db).tables)


def test_our_own_objects_are_left_out(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE t(a)")
    before = fingerprint(db)
    db.run("CREATE TABLE _tailrace_meta(key TEXT PRIMARY KEY, value)")
    db.run("CREATE TRIGGER _tailrace_1 AFTER INSERT ON t BEGIN SELECT 1; END")
    assert before == fingerprint(db)
    assert (["t"], ()) == (list(introspect(db).tables), introspect(db).objects)


def test_analyze_does_not_move_the_fingerprint_but_a_column_does(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE t(a)")
    db.run("CREATE INDEX i ON t(a)")
    db.run("INSERT INTO t VALUES (1)")
    before = fingerprint(db)
    db.run("ANALYZE")
    assert before == fingerprint(db)
    db.run("ALTER TABLE t ADD COLUMN b")
    assert before != fingerprint(db)


def test_names_that_need_quoting(db: SqliteDatabase) -> None:
    db.run("""CREATE TABLE "order's ""x"" [y]"("" TEXT, "select" INT, PRIMARY KEY ("select", ""))""")
    db.run("""CREATE UNIQUE INDEX "i""'" ON "order's ""x"" [y]"("select" DESC)""")
    (table,) = introspect(db).tables.values()
    assert ("select", "") == table.key.columns
    assert {"select"} == {term.column for index in table.indexes if index.origin == "c" for term in index.terms}


def test_affinities_of_declared_types() -> None:
    expected = {
        "INT": Affinity.INTEGER,
        "FLOATING POINT": Affinity.INTEGER,
        "CHARINT": Affinity.INTEGER,
        "VARCHAR(10)": Affinity.TEXT,
        "CLOB": Affinity.TEXT,
        "BLOB": Affinity.BLOB,
        "": Affinity.BLOB,
        "DOUBLE PRECISION": Affinity.REAL,
        "FLOAT": Affinity.REAL,
        "STRING": Affinity.NUMERIC,
        "JSON": Affinity.NUMERIC,
        "UUID": Affinity.NUMERIC,
        "DATETIME": Affinity.NUMERIC,
        "BOOLEAN": Affinity.NUMERIC,
    }
    assert expected == {declared: affinity_of(declared) for declared in expected}


def test_an_unknown_table_is_refused_with_the_names_there_are(db: SqliteDatabase) -> None:
    db.run("CREATE TABLE t(a)")
    with pytest.raises(Refusal) as caught:
        require_table(introspect(db), "T2")
    assert (Code.TABLE_UNSUPPORTED, "one of: t") == (caught.value.code, caught.value.hint)


def real_databases() -> list[Path]:
    import pyproj.datadir

    chinook = Path(os.environ.get("TAILRACE_TEST_CHINOOK", "chinook.sqlite"))
    return [Path(pyproj.datadir.get_data_dir()) / "proj.db", *([chinook] if chinook.exists() else [])]


def constraints_of(node: object) -> Iterator[object]:
    """Nested as the grammar nests them; a CONSTRAINT name is a node of its own."""
    if isinstance(node, list):
        for one in node:
            yield from constraints_of(one)
    elif hasattr(node, "kind"):
        yield node


def grammar_opinion(sql: str) -> tuple[dict[str, str], int]:
    """(collation by column, number of CHECKs), by SQLite's own grammar."""
    collations: dict[str, str] = {}
    with syntaqlite.Syntaqlite() as parser:
        (statement,) = parser.parse(sql)
        found = list(constraints_of(list(statement.table_constraints or ())))
        for column in statement.columns:
            own = list(constraints_of(list(column.constraints or ())))
            found += own
            named = [one.collation_name for one in own if one.kind.name == "COLLATE"]
            collations[column.column_name.source] = named[-1] if named else "BINARY"
        return collations, sum(one.kind.name == "CHECK" for one in found)


def whole(path: Path) -> Database:
    one = SqliteDatabase(path, read_only=True)
    try:
        with one.read_view():
            return introspect(one)
    finally:
        one.close()


def test_no_table_of_proj_db_is_refused() -> None:
    database = whole(real_databases()[0])
    assert KeyKind.ROWID is database.tables["usage"].key.kind
    assert "the declared key holds NULLs" == database.tables["usage"].key.reason
    assert set() == {name for name, table in database.tables.items() if table.key.kind is KeyKind.WHOLE_ROW}
    assert 30 < len(database.tables)


def test_the_text_is_read_as_the_grammar_reads_it() -> None:
    for path in real_databases():
        for name, table in whole(path).tables.items():
            collations, checks = grammar_opinion(table.sql)
            assert checks == len(table.checks), name
            assert collations == {column.name: column.collation for column in table.columns}, name


def test_a_table_that_needs_the_application_is_refused_and_no_other(tmp_path: Path) -> None:
    """A key in a collation that only the application registers cannot even be looked up from here."""
    path = tmp_path / "app.db"
    with closing(sqlite3.connect(path)) as app:
        app.create_collation("german", lambda a, b: (a > b) - (a < b))
        app.execute("CREATE TABLE k (k TEXT COLLATE german PRIMARY KEY)")
        app.execute("CREATE TABLE v (id INTEGER PRIMARY KEY, v TEXT COLLATE german)")
        app.execute("INSERT INTO v VALUES (1, 'x'), (2, 3)")
        app.commit()
    with closing(SqliteDatabase(path, read_only=True)) as reader, reader.read_view():
        tables = introspect(reader).tables
        assert (KeyKind.WHOLE_ROW, KeyKind.ROWID_ALIAS) == (tables["k"].key.kind, tables["v"].key.kind)
        assert "no such collation sequence: german" in tables["k"].key.reason
        assert 2 == profile_table(reader, tables["v"]).columns["v"].texts
