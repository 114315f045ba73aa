"""Generated DDL on a real PostgreSQL: guard, indexes that mean the same, foreign keys for the switch, roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pglast import parse_sql

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from schemas.bookkeeping import statements as bookkeeping
from schemas.ddl import IndexDdl, create_table, foreign_keys, grants, indexes, not_nulls
from schemas.errors import Failed, TailraceError
from schemas.introspect import introspect
from schemas.model import Table
from schemas.plan import TablePlan, build_table_plan
from schemas.profile import profile_table


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "one.db", create=True)
    yield one
    one.close()


@pytest.fixture
def target(database_url: str) -> Iterator[Postgres]:
    one = Postgres(database_url, application_name="tests")
    yield one
    one.close()


Planned = dict[str, tuple[Table, TablePlan]]


def planned(db: SqliteDatabase, *statements: str) -> Planned:
    for statement in statements:
        db.run(statement)
    return {
        name.lower(): (
            table,
            build_table_plan(table, profile_table(db, table), source="s", prefix="p", target_schema="public"),
        )
        for name, table in introspect(db).tables.items()
    }


def made(target: Postgres, tables: Planned) -> None:
    """The tables without guards (their function belongs to the bookkeeping)."""
    for _, plan in tables.values():
        run(target, create_table(plan, sink_role="s", name=plan.target_table))


def run(target: Postgres, statements: list[str]) -> None:
    for statement in statements:
        parse_sql(statement)
        target.run(statement)


def of(tables: Planned, name: str = "t", longest: dict[str, int] | None = None) -> dict[str, IndexDdl]:
    table, plan = tables[name]
    return {one.name: one for one in indexes(table, plan, longest=longest)}


def test_only_the_sink_writes_from_the_first_moment(db: SqliteDatabase, target: Postgres, database_url: str) -> None:
    run(target, bookkeeping())
    _, plan = planned(db, "CREATE TABLE t(id INTEGER PRIMARY KEY)")["t"]
    run(target, create_table(plan, sink_role="somebody_else"))
    for statement in ("INSERT INTO t VALUES (1)", "UPDATE t SET id = 2", "DELETE FROM t", "TRUNCATE t"):
        with pytest.raises(TailraceError) as caught:
            target.run(statement)
        assert "belongs to a migration that has not switched yet" in str(caught.value)
    target.run("DROP TABLE t")
    run(target, create_table(plan, sink_role=target.session_user()))
    assert 1 == target.run("INSERT INTO t VALUES (1)")


def test_names_of_the_key_are_ours(db: SqliteDatabase, target: Postgres) -> None:
    long = "t" * 70
    tables = planned(db, f"CREATE TABLE {long}(b TEXT, a TEXT, PRIMARY KEY (b, a)) WITHOUT ROWID")
    made(target, tables)
    (name,) = target.rows(
        "SELECT conname::text FROM pg_constraint WHERE contype = 'p' AND connamespace = 'public'::regnamespace"
    )[0]
    assert len(name) <= 63
    assert name in create_table(tables[long][1], sink_role="s")[0]


def test_every_kind_of_index_is_built_or_reported(db: SqliteDatabase, target: Postgres) -> None:
    tables = planned(
        db,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT UNIQUE, b TEXT COLLATE NOCASE UNIQUE, c INT, d TEXT COLLATE RTRIM)",
        "INSERT INTO t VALUES (1, 'x', 'y', 2, 'z')",
        "CREATE INDEX plain ON t(a, c DESC)",
        "CREATE UNIQUE INDEX some ON t(c) WHERE a IS NOT NULL AND c > 1",
        "CREATE INDEX folded ON t(lower(a))",
        "CREATE INDEX strange ON t(hex(c))",
        "CREATE INDEX strange_part ON t(c) WHERE hex(c) = 1",
        "CREATE INDEX trimmed ON t(d)",
    )
    made(target, tables)
    found = of(tables)
    assert {
        "t_a_key": "carried",
        "t_b_key": "translated",
        "t_plain_idx": "carried",
        "t_some_key": "translated",
        "t_folded_idx": "translated",
        "t_strange_idx": "reported",
        "t_strange_part_idx": "reported",
        "t_trimmed_idx": "reported",
    } == {name: one.verdict for name, one in found.items()}
    assert all(bool(one.sql) != (one.verdict == "reported") and (one.reason or one.sql) for one in found.values())
    for _ in range(2):
        run(target, [one.sql for one in found.values() if one.sql])
    built = {row[0] for row in target.rows("SELECT indexname::text FROM pg_indexes WHERE tablename = 't'")}
    assert {name for name, one in found.items() if one.sql} | {"t_pkey"} == built


def test_unique_indexes_refuse_what_sqlite_refuses(db: SqliteDatabase, target: Postgres) -> None:
    tables = planned(
        db,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, b TEXT COLLATE NOCASE UNIQUE, c TEXT)",
        "CREATE UNIQUE INDEX some ON t(lower(c)) WHERE id < 100",
    )
    made(target, tables)
    run(target, [one.sql for one in of(tables).values()])
    rows = [
        (1, "a", "x"), (2, "A", "y"), (3, "ä", "z"), (4, "Ä", "q"), (5, None, None),
        (6, None, None), (7, "b", "X"), (101, "c", "x"), (102, "d", "x"),
    ]  # fmt: skip
    for row in rows:
        here = accepted(lambda row=row: db.run("INSERT INTO t VALUES (?, ?, ?)", row))
        assert here == accepted(lambda row=row: target.run("INSERT INTO t VALUES (%s, %s, %s)", row)), row
    assert 7 == target.rows("SELECT count(*) FROM t")[0][0]


def accepted(attempt: Callable[[], int]) -> bool:
    try:
        return attempt() == 1
    except TailraceError:
        return False


def test_two_indexes_never_share_a_name(db: SqliteDatabase) -> None:
    tables = planned(
        db,
        "CREATE TABLE t(a TEXT, b TEXT, a_b TEXT, UNIQUE (a_b), UNIQUE (a, b), UNIQUE (a), UNIQUE (a COLLATE NOCASE))",
        "CREATE UNIQUE INDEX a ON t(b)",
    )
    table, plan = tables["t"]
    names = [one.name for one in indexes(table, plan)]
    assert 5 == len(names)
    assert len(set(names)) == len(names)
    assert names == [one.name for one in indexes(table, plan)]


def test_columns_that_fit_alone_but_not_together_are_digested(db: SqliteDatabase, target: Postgres) -> None:
    tables = planned(
        db,
        "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, b TEXT, c TEXT COLLATE NOCASE)",
        "INSERT INTO t VALUES (1, 'x', 'y', 'z')",
        "CREATE INDEX pair ON t(a, b, id)",
        "CREATE UNIQUE INDEX folded ON t(c)",
    )
    made(target, tables)
    found = of(tables, longest={"a": 2000, "b": 2100, "c": 5000})
    assert '("a", md5("b"), "id")' in found["t_pair_idx"].sql
    assert 'md5(lower("c" COLLATE "C"))' in found["t_folded_key"].sql
    run(target, [one.sql for one in found.values()])
    # Random text does not compress: as it is, it would not fit.
    noise = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, {}) g)"
    target.run(f"INSERT INTO t SELECT 1, {noise.format(62)}, {noise.format(65)}, {noise.format(150)}")


def test_a_column_the_source_has_dropped_is_no_matter(db: SqliteDatabase) -> None:
    tables = planned(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT, gone TEXT)", "CREATE INDEX i ON t(a)")
    plan = tables["t"][1]
    db.run("ALTER TABLE t DROP COLUMN gone")
    assert ["carried"] == [one.verdict for one in indexes(introspect(db).tables["t"], plan)]


def test_not_null_where_the_profile_found_it_kept(db: SqliteDatabase, target: Postgres) -> None:
    tables = planned(db, "CREATE TABLE t(id INTEGER PRIMARY KEY, a TEXT NOT NULL, b TEXT)")
    made(target, tables)
    run(target, not_nulls(tables["t"][1]))
    with pytest.raises(Failed):
        target.run("INSERT INTO t(id) VALUES (1)")


def test_foreign_keys_wait_for_the_switch(db: SqliteDatabase, target: Postgres) -> None:
    tables = planned(
        db,
        'CREATE TABLE "Parent"(id INTEGER PRIMARY KEY, code TEXT UNIQUE, folded TEXT COLLATE NOCASE UNIQUE, plain TEXT)',
        """CREATE TABLE t(id INTEGER PRIMARY KEY, a INT REFERENCES parent ON DELETE CASCADE,
            b TEXT REFERENCES parent(CODE) ON UPDATE SET NULL DEFERRABLE INITIALLY DEFERRED,
            c TEXT REFERENCES parent(folded), d TEXT REFERENCES parent(plain), e TEXT REFERENCES parent(id),
            f INT REFERENCES nowhere)""",
        "INSERT INTO t VALUES (1, 99, 'x', 'x', 'x', 'x', 1)",
    )
    made(target, tables)
    run(target, [one.sql for one in of(tables, "parent").values()])
    target.run("INSERT INTO t(id, a) VALUES (1, 99)")
    found = foreign_keys(*tables["t"], tables)
    assert ["carried", "carried", *["reported"] * 4] == [one.verdict for one in found]
    assert "different forms: text and long" in found[4].reason
    run(target, [one.sql for one in found if one.sql])
    # NOT VALID: the orphan that was there stays, the next one is refused.
    with pytest.raises(Failed):
        target.run("INSERT INTO t(id, a) VALUES (2, 99)")
    target.run("INSERT INTO parent(id) VALUES (7)")
    target.run("INSERT INTO t(id, a) VALUES (2, 7)")
    target.run("DELETE FROM parent")
    assert [(1,)] == target.rows("SELECT id FROM t")
    assert [(True,)] == target.rows("SELECT condeferred FROM pg_constraint WHERE conname LIKE '%\\_b\\_2\\_fkey'")


def test_roles_can_do_their_work_and_no_more(db: SqliteDatabase, target: Postgres, database_url: str) -> None:
    names = {"owner": "tr_owner", "sink": "tr_sink", "application": "tr_app", "read_only": "tr_read"}
    sql = grants(["app"], **names)
    try:
        for _ in range(2):
            run(target, sql)
        assert not any("PASSWORD" in one.upper() for one in sql)
        assert [(0,)] == target.rows("SELECT count(*) FROM pg_roles WHERE rolname LIKE 'tr\\_%' AND rolsuper")
        as_role(target, "tr_owner", "CREATE TABLE app.t(id int)")
        as_role(target, "tr_app", "INSERT INTO app.t VALUES (1)")
        as_role(target, "tr_read", "SELECT * FROM app.t")
        for role, statement in (("tr_read", "DELETE FROM app.t"), ("tr_app", "DROP TABLE app.t")):
            with pytest.raises(TailraceError):
                as_role(target, role, statement)
        assert [(True,)] == target.rows("SELECT pg_has_role('tr_sink', 'tr_owner', 'MEMBER')")
    finally:
        target.run("RESET ROLE")
        for role in names.values():
            target.run(f"DROP OWNED BY {role} CASCADE")
            target.run(f"DROP ROLE {role}")


def as_role(target: Postgres, role: str, statement: str) -> None:
    target.run("RESET ROLE")
    with target.transaction():
        target.run(f"SET LOCAL ROLE {role}")
        target.run(statement)


def test_pglast_is_a_check_that_can_fail() -> None:
    with pytest.raises(Exception, match="syntax"):
        parse_sql("CREATE TABEL t()")
