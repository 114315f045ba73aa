"""Decide: random SQLite schemas and statements that try to move rows behind our triggers' back; seeded, reusable.

Two tables: `t` with every kind of key, and its child `c`, whose rows move by foreign key actions alone.
"""

from __future__ import annotations

from random import Random

VALUES = ("1", "1.0", "2", "3", "'1'", "'Alpha'", "'ALPHA'", "'alpha'", "'b'", "'B'", "x'31'", "NULL", "-1", "0")
COLUMNS = ("k", "j", "u", "v", "w")
CHILD_COLUMNS = ("id", "p", "q", "x")
CONFLICTS = ("", " OR REPLACE", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ABORT", " OR ROLLBACK")
ACTIONS = ("CASCADE", "CASCADE", "SET NULL", "SET DEFAULT", "RESTRICT", "NO ACTION")


def schema(random: Random) -> list[str]:
    """DDL of `t`, of its child, and the application's own triggers, view and indexes."""
    kind = random.randrange(6)
    if kind == 5:
        created = "CREATE TABLE t(k INTEGER PRIMARY KEY, j ANY, u ANY UNIQUE, v ANY, w INTEGER UNIQUE) STRICT"
        return [created, *_indexes(random), *_triggers(random), *_child(random, kind)]
    names = ", ".join(
        f"{name} {random.choice(('', 'TEXT', 'INTEGER', 'NUMERIC', 'BLOB'))}{_rest(random)}" for name in ("u", "v", "w")
    )
    nocase = random.choice(("", "", " COLLATE NOCASE"))
    key, tail = "k INTEGER PRIMARY KEY, j", ""
    if kind == 1:
        key = f"k {random.choice(('', 'TEXT', 'NUMERIC'))} NOT NULL{nocase} PRIMARY KEY, j"
    elif kind == 2:
        key, tail = f"k{nocase}, j", ""
    elif kind == 3:
        key, tail = f"k TEXT NOT NULL{nocase} PRIMARY KEY, j", " WITHOUT ROWID"
    elif kind == 4:
        names, key = names + ", PRIMARY KEY(k, j)", f"k NOT NULL{nocase}, j NOT NULL DEFAULT 2"
    generated = random.random() < 0.3
    if generated:
        parts = names.split(", PRIMARY")
        parts[0] += f", g {random.choice(('', 'TEXT', 'INTEGER'))} AS (coalesce(u, '') || 'x')"
        if random.random() < 0.5:
            parts[0] += f", h {random.choice(('TEXT', 'NUMERIC', ''))} AS (v) UNIQUE"
        names = ", PRIMARY".join(parts)
    statements = [f"CREATE TABLE t({key}, {names}){tail}"]
    if generated and random.random() < 0.6:
        statements.append("CREATE UNIQUE INDEX t_g ON t(g)")
    return [*statements, *_indexes(random), *_triggers(random), *_child(random, kind)]


def _indexes(random: Random) -> list[str]:
    statements = []
    if random.random() < 0.4:
        statements.append("CREATE UNIQUE INDEX t_part ON t(v COLLATE NOCASE) WHERE w IS NOT NULL")
    if random.random() < 0.4:
        statements.append("CREATE UNIQUE INDEX t_expr ON t(lower(u), w)")
    return statements


def _triggers(random: Random) -> list[str]:
    statements = []
    if random.random() < 0.4:
        statements.append(
            "CREATE TRIGGER app_ai AFTER INSERT ON t WHEN NEW.w = 3 BEGIN UPDATE t SET v = 'b' WHERE u = 1; END"
        )
    if random.random() < 0.3:
        statements.append("CREATE TRIGGER app_au AFTER UPDATE ON t WHEN NEW.w = 2 BEGIN SELECT RAISE(FAIL, 'no'); END")
    if random.random() < 0.3:
        statements.append("CREATE TRIGGER app_ad AFTER DELETE ON t BEGIN DELETE FROM t WHERE j = OLD.j; END")
    if random.random() < 0.3:
        statements += [
            "CREATE VIEW seen AS SELECT k, j, u FROM t",
            "CREATE TRIGGER app_view INSTEAD OF INSERT ON seen BEGIN "
            "INSERT OR REPLACE INTO t(k, j, u) VALUES (NEW.k, NEW.j, NEW.u); END",
        ]
    return statements


def _child(random: Random, kind: int) -> list[str]:
    """Rows that come, change and go through foreign keys; none where `t` has no key that can be referred to."""
    if kind == 2:
        return ["CREATE TABLE c(id INTEGER PRIMARY KEY, p, q, x UNIQUE)"]
    actions = f"ON DELETE {random.choice(ACTIONS)} ON UPDATE {random.choice(ACTIONS)}"
    if random.random() < 0.3:
        actions += " DEFERRABLE INITIALLY DEFERRED"
    columns = ("p, q", "k, j") if kind == 4 else ("p", "k")
    key = random.choice(("id INTEGER PRIMARY KEY", "id PRIMARY KEY NOT NULL", "id"))
    return [
        f"CREATE TABLE c({key}, p DEFAULT 1, q DEFAULT 2, x UNIQUE, "
        f"FOREIGN KEY({columns[0]}) REFERENCES t({columns[1]}) {actions})"
    ]


def late_trigger(random: Random) -> str:
    """An application trigger that is created while we are installed already."""
    return random.choice(
        (
            "CREATE TRIGGER late AFTER INSERT ON t WHEN NEW.j = 2 BEGIN UPDATE t SET v = 'b' WHERE u = 2; END",
            "CREATE TRIGGER late AFTER UPDATE ON t WHEN NEW.j = 3 BEGIN SELECT RAISE(FAIL, 'late'); END",
            "CREATE TRIGGER late AFTER INSERT ON t WHEN NEW.w = 1 BEGIN SELECT RAISE(FAIL, 'late'); END",
            "CREATE TRIGGER late AFTER DELETE ON c BEGIN DELETE FROM t WHERE u = OLD.x; END",
        )
    )


def _rest(random: Random) -> str:
    return random.choice(
        (
            "",
            "",
            " UNIQUE",
            " COLLATE NOCASE UNIQUE",
            " NOT NULL DEFAULT 2",
            " NOT NULL DEFAULT '1' UNIQUE",
            " CHECK (typeof(j) <> 'blob')",
        )
    )


def statement(random: Random) -> str:
    """One statement of the application; many fail, some of them half-way."""
    conflict = random.choice(CONFLICTS)
    draw = random.random()
    if draw < 0.36:
        return _insert(random, conflict)
    if draw < 0.62:
        return _update(random, conflict)
    if draw < 0.69:
        return f"DELETE FROM t WHERE {_where(random)}"
    if draw < 0.75:
        return _upsert(random)
    if draw < 0.87:
        return _on_child(random, conflict)
    return random.choice(
        (
            "BEGIN",
            "BEGIN IMMEDIATE",
            "COMMIT",
            "COMMIT",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT s",
            "SAVEPOINT inner",
            "ROLLBACK TO inner",
            "ROLLBACK TO s",
            "RELEASE inner",
            "RELEASE s",
            f"PRAGMA recursive_triggers={random.randrange(2)}",
            f"PRAGMA foreign_keys={random.randrange(2)}",
        )
    )


def _insert(random: Random, conflict: str) -> str:
    draw = random.random()
    if draw < 0.08:
        return f"INSERT{conflict} INTO t(rowid, j, u) VALUES ({random.randrange(-2, 5)}, {_value(random)}, {_value(random)})"
    if draw < 0.16:
        shuffled = ", ".join(random.sample(COLUMNS, len(COLUMNS)))
        return f"INSERT{conflict} INTO t({', '.join(COLUMNS)}) SELECT {shuffled} FROM t WHERE {_where(random)}"
    if draw < 0.20:
        return f"INSERT INTO seen VALUES ({_value(random)}, {_value(random)}, {_value(random)})"
    if draw < 0.24:
        return f"REPLACE INTO t(u, j) VALUES ({_value(random)}, {_value(random)})"
    rows = ", ".join(f"({', '.join(_value(random) for _ in COLUMNS)})" for _ in range(random.choice((1, 1, 3))))
    return f"INSERT{conflict} INTO t({', '.join(COLUMNS)}) VALUES {rows}"


def _update(random: Random, conflict: str) -> str:
    one, other = random.sample(COLUMNS, 2)
    draw = random.random()
    if draw < 0.08:
        return f"UPDATE{conflict} t SET rowid = {random.randrange(-2, 5)} WHERE {_where(random)}"
    if draw < 0.18:
        first, second = _value(random), _value(random)
        return (
            f"UPDATE{conflict} t SET {one} = CASE WHEN {one} IS {first} THEN {second} ELSE {first} END "
            f"WHERE {one} IS {first} OR {one} IS {second}"
        )
    if draw < 0.24:
        return f"UPDATE{conflict} t SET {one} = s.{other} FROM t AS s WHERE s.j = t.{other}"
    if draw < 0.34:
        return f"UPDATE{conflict} t SET {one} = {_value(random)}, {other} = {one} WHERE {_where(random)}"
    return f"UPDATE{conflict} t SET {one} = {random.choice((*VALUES, other))} WHERE {_where(random)}"


def _upsert(random: Random) -> str:
    aim = random.choice(("", "(k)", "(k)", "(k, j)", "(u)", "(v)", "(w)"))
    one, other = random.sample(COLUMNS, 2)
    setting = random.choice((f"excluded.{other}", _value(random), "NULL"))
    guard = f" WHERE t.{_where(random)}" if random.random() < 0.3 else ""
    action = "NOTHING" if random.random() < 0.25 else f"UPDATE SET {one} = {setting}{guard}"
    row = ", ".join(_value(random) for _ in COLUMNS)
    return f"INSERT INTO t({', '.join(COLUMNS)}) VALUES ({row}) ON CONFLICT{aim} DO {action}"


def _on_child(random: Random, conflict: str) -> str:
    draw = random.random()
    if draw < 0.6:
        row = ", ".join(_value(random) for _ in CHILD_COLUMNS)
        return f"INSERT{conflict} INTO c({', '.join(CHILD_COLUMNS)}) VALUES ({row})"
    column = random.choice(CHILD_COLUMNS)
    if draw < 0.85:
        return f"UPDATE{conflict} c SET {column} = {_value(random)} WHERE {random.choice(CHILD_COLUMNS)} = {_value(random)}"
    return f"DELETE FROM c WHERE {column} = {_value(random)}"


def _value(random: Random) -> str:
    return random.choice(VALUES)


def _where(random: Random) -> str:
    return f"{random.choice(COLUMNS)} {random.choice(('=', 'IS', '<', '>='))} {random.choice(VALUES)}"
