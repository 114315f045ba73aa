"""What tables get when they have caught up and when they open: keys that make themselves, defaults, generated columns,
CHECKs, foreign keys, views; each behaves there as it did in SQLite."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pglast import parse_sql

from schemas.ddl import full_name
from schemas.errors import Failed
from schemas.introspect import introspect
from schemas.model import Table
from schemas.names import quote
from schemas.objects import parents_of, wanted_views
from schemas.opening import after_switch, at_switch
from schemas.plan import TablePlan, plan_from_json
from snapshot.finalise import open_objects, set_sequence
from tests.small import Small

LAST = 2**63 - 1
Make = Callable[..., Small]


@pytest.fixture
def small(tmp_path: Path, database_url: str) -> Iterator[Make]:
    made: list[Small] = []

    def make(*ddl: str) -> Small:
        made.append(Small(tmp_path, database_url, *ddl))
        return made[-1]

    yield make
    for one in made:
        one.close()


def tables(one: Small) -> dict[str, tuple[Table, TablePlan]]:
    database = introspect(one.app)
    found = one.rows('SELECT "table", plan::text FROM tailrace.tables')
    return dict(parents_of(database, {str(name): plan_from_json(str(plan)) for name, plan in found}))


def said(action: str, text: str) -> None:
    pass


KEYS = (
    "CREATE TABLE plain(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE empty(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE auto(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE TABLE emptied(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE TABLE never(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE TABLE nokey(v)",
    "CREATE TABLE nullkey(k TEXT PRIMARY KEY, v)",
    "CREATE TABLE negative(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE zero(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE full_up(id INTEGER PRIMARY KEY, v)",
    'CREATE TABLE "Odd ""Name"(" Id %s" INTEGER PRIMARY KEY, v)',
    "CREATE TABLE declared(k TEXT PRIMARY KEY NOT NULL, v)",
    "INSERT INTO plain VALUES (1, 1), (7, 1)",
    "INSERT INTO auto VALUES (5, 1), (900, 1)",
    "DELETE FROM auto WHERE id = 900",
    "INSERT INTO emptied VALUES (41, 1)",
    "DELETE FROM emptied",
    "INSERT INTO nokey(rowid, v) VALUES (3, 1), (-2, 1)",
    "INSERT INTO nullkey VALUES (NULL, 1), (NULL, 2), ('a', 3)",
    "INSERT INTO negative VALUES (-9, 1), (-5, 1)",
    "INSERT INTO zero VALUES (0, 1)",
    f"INSERT INTO full_up VALUES (1, 1), ({LAST - 1}, 1), ({LAST}, 1)",
    'INSERT INTO "Odd ""Name" VALUES (12, 1)',
)
SAME_NEXT = ("plain", "empty", "auto", "emptied", "never", "nokey", "nullkey", "zero", 'Odd "Name')


def test_an_insert_without_a_key_never_collides(small: Make) -> None:
    one = small(*KEYS)
    one.settle()
    assert [] == one.rows("SELECT \"table\", reason FROM tailrace.tables WHERE reason <> ''")
    for name, (table, plan) in tables(one).items():
        if name == "declared":
            continue
        key, target = quote(plan.target_key[0]), full_name(plan)
        before = {row[0] for row in one.rows(f"SELECT {key} FROM {target}")}
        new = [one.rows(f"INSERT INTO {target}(v) VALUES (NULL) RETURNING {key}")[0][0] for _ in range(3)]
        assert 3 == len(set(new) - before), name
        if table.name in SAME_NEXT:
            one.app.run(f"INSERT INTO {quote(table.name)}(v) VALUES (NULL)")
            assert one.app.rows("SELECT last_insert_rowid()")[0][0] == new[0], name


def test_a_sequence_is_set_again_and_never_goes_back(small: Make) -> None:
    one = small("CREATE TABLE t(id INTEGER PRIMARY KEY AUTOINCREMENT, v)", "INSERT INTO t VALUES (3, 1)")
    one.settle()
    one.run("INSERT INTO t VALUES (50, 1)", "INSERT INTO t VALUES (60, 1)", "DELETE FROM t WHERE id = 60")
    one.settle()
    table, plan = tables(one)["t"]
    for _ in range(2):
        assert [] == set_sequence(one.target, table, plan, used=lambda: introspect(one.app).sequences["t"], say=said)
        assert [(60,)] == one.rows("SELECT last_value FROM s.t_id_seq")
    one.target.run("SELECT setval('s.t_id_seq', 100)")
    assert [] == set_sequence(one.target, table, plan, used=lambda: 60, say=said)
    assert [(101,)] == one.rows("INSERT INTO s.t(v) VALUES (1) RETURNING id")


DDL = (
    "CREATE TABLE parent(id INTEGER PRIMARY KEY, name TEXT NOT NULL DEFAULT 'none', made TEXT DEFAULT CURRENT_TIMESTAMP, "
    "active BOOLEAN DEFAULT 1, score REAL DEFAULT (1.5 * 2), blob BLOB DEFAULT x'00ff')",
    "CREATE TABLE child(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent ON DELETE CASCADE, n INTEGER CHECK (n > 0), "
    "word TEXT, loud TEXT AS (upper(word)) STORED, louder TEXT AS (loud || '!'), half INTEGER AS (n / 2), "
    "hexed TEXT AS (hex(word)), CHECK (word IS NULL OR length(word) < 5 OR word LIKE 'LONG%'))",
    "CREATE TABLE ring(id INTEGER PRIMARY KEY, next INTEGER REFERENCES ring(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE VIEW sums AS SELECT p.name AS who, count(c.id) AS children, sum(c.n) total FROM parent p LEFT JOIN child c "
    "ON c.parent = p.id WHERE p.active = 1 GROUP BY p.id, p.name ORDER BY who DESC",
    "CREATE VIEW plain AS SELECT * FROM child WHERE word LIKE 'a%' LIMIT 5",
    "CREATE VIEW strange AS SELECT julianday(made) AS day FROM parent",
    # More columns than a SELECT of PostgreSQL may have.
    f"CREATE VIEW refused AS SELECT {', '.join(f'id AS c{at}' for at in range(1700))} FROM parent",
    "CREATE VIEW picked AS SELECT DISTINCT name FROM parent ORDER BY score",
    "CREATE VIEW sorted AS SELECT DISTINCT upper(name) AS loud, active FROM parent ORDER BY loud DESC, active LIMIT 3",
    "CREATE VIEW bare AS SELECT name, max(score) AS best FROM parent GROUP BY active",
    "CREATE VIEW held AS SELECT active FROM parent GROUP BY active HAVING score > 1",
    "CREATE VIEW twice AS SELECT p.id, c.id FROM parent p JOIN child c ON c.parent = p.id",
    "CREATE VIEW by_key AS SELECT p.id, p.name, count(c.id) + p.score AS n FROM parent p JOIN child c ON c.parent = p.id "
    "GROUP BY p.id ORDER BY p.made",
    "CREATE VIEW by_term AS SELECT upper(name) AS up, count(*) AS n FROM parent GROUP BY upper(name) ORDER BY up",
    "INSERT INTO parent(id, name) VALUES (1, 'ann'), (2, 'bob')",
    "INSERT INTO child(id, parent, n, word) VALUES (1, 1, 5, 'abc'), (2, 9, 7, 'Abd'), (3, 1, NULL, NULL)",
    "PRAGMA ignore_check_constraints = 1",
    "INSERT INTO child(id, parent, n, word) VALUES (4, 2, -5, 'old')",
    "PRAGMA ignore_check_constraints = 0",
    "INSERT INTO ring VALUES (1, 2), (2, 1)",
)


def opened(one: Small) -> dict[str, str]:
    found = tables(one)
    views, failed = wanted_views(introspect(one.app), found, "all", schema="s")
    assert {"strange", "bare", "held", "twice", "picked"} == set(failed)
    assert "two of its columns are called 'id'" == failed["twice"]
    assert "neither grouped by" in failed["bare"]
    assert "ordered by what it does not show" in failed["picked"]
    steps = at_switch(found, views)
    for step in [*steps, *after_switch(found)]:
        for statement in step.statements:
            parse_sql(statement)
    return dict(open_objects(one.target, steps, said))


def test_checks_are_added_not_valid_and_validated_after(small: Make) -> None:
    one = small(*DDL)
    one.settle()
    assert {"view refused of refused"} == set(opened(one))
    # Again, as a resumed switch does it.
    assert {"view refused of refused"} == set(opened(one))
    with pytest.raises(Failed, match="child_1_check"):
        one.target.run("INSERT INTO s.child(parent, n) VALUES (1, 0)")
    with pytest.raises(Failed, match="child_2_check"):
        one.target.run("INSERT INTO s.child(parent, word) VALUES (1, 'five!')")
    one.target.run("INSERT INTO s.child(parent, word) VALUES (1, 'longer')")
    failed = open_objects(one.target, after_switch(tables(one)), said)
    assert {"constraint child_1_check of child", "constraint child_parent_1_fkey of child"} == set(failed)
    with pytest.raises(Failed, match="child_parent_1_fkey"):
        one.target.run("INSERT INTO s.child(parent) VALUES (77)")
    with one.target.transaction():
        one.target.run("INSERT INTO s.ring VALUES (8, 9)")
        one.target.run("INSERT INTO s.ring VALUES (9, 8)")
    assert {
        ("child_1_check", False),
        ("child_2_check", True),
        ("child_parent_1_fkey", False),
        ("ring_next_1_fkey", True),
    } == set(
        one.rows(
            "SELECT conname::text, convalidated FROM pg_constraint WHERE contype IN ('c', 'f') AND "
            "connamespace = 's'::regnamespace"
        )
    )


def test_a_generated_column_is_computed_after_the_switch(small: Make) -> None:
    one = small(*DDL)
    one.settle()
    opened(one)
    for statement in (
        "INSERT INTO {}child(id, parent, n, word) VALUES (10, 1, 9, 'ab')",
        "UPDATE {}child SET word = 'cd', n = 3 WHERE id = 1",
    ):
        one.app.run(statement.format(""))
        one.target.run(statement.format("s."))
    sql = "SELECT id, n, word, loud, louder, half FROM {}child WHERE id IN (1, 10) ORDER BY id"
    assert one.app.rows(sql.format("")) == one.rows(sql.format("s."))
    assert "AB!" in one.rows(sql.format("s."))[1]


def test_defaults_and_views_are_those_of_the_source(small: Make) -> None:
    one = small(*DDL)
    one.settle()
    opened(one)
    one.app.run("INSERT INTO parent(id) VALUES (5)")
    one.target.run("INSERT INTO s.parent(id) VALUES (5)")
    sql = "SELECT name, length(made), score, {} FROM {}parent WHERE id = 5"
    (here,), (there,) = one.app.rows(sql.format("active, blob", "")), one.rows(sql.format("active::int, blob", "s."))
    assert here == there
    for view in (
        "SELECT who, children, total FROM {}sums",
        "SELECT id, word, louder FROM {}plain ORDER BY id",
        "SELECT loud FROM {}sorted",
    ):
        assert one.app.rows(view.format("")) == one.rows(view.format("s."))
    one.target.run("DELETE FROM s.parent WHERE id = 1")
    assert [(2,), (4,)] == one.rows("SELECT id FROM s.child ORDER BY id")
