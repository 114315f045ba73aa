"""Decide: random SQLite schemas and statements that try to move rows behind our triggers' back; seeded, reusable."""

from __future__ import annotations

from random import Random

VALUES = ("1", "1.0", "2", "3", "'1'", "'Alpha'", "'ALPHA'", "'alpha'", "'b'", "'B'", "x'31'", "NULL", "-1", "0")
COLUMNS = ("k", "j", "u", "v", "w")


def schema(random: Random) -> list[str]:
    """DDL of one table `t`, with every kind of key, and the application's own triggers and child table."""
    names = ", ".join(
        f"{name} {random.choice(('', 'TEXT', 'INTEGER', 'NUMERIC', 'BLOB'))}{_rest(random)}" for name in ("u", "v", "w")
    )
    nocase = random.choice(("", "", " COLLATE NOCASE"))
    kind = random.randrange(5)
    key, tail = "k INTEGER PRIMARY KEY, j", ""
    if kind == 1:
        key = f"k {random.choice(('', 'TEXT', 'NUMERIC'))} NOT NULL{nocase} PRIMARY KEY, j"
    elif kind == 2:
        key, tail = f"k{nocase}, j", ""
    elif kind == 3:
        key, tail = f"k TEXT NOT NULL{nocase} PRIMARY KEY, j", " WITHOUT ROWID"
    elif kind == 4:
        names, key = names + ", PRIMARY KEY(k, j)", f"k NOT NULL{nocase}, j NOT NULL DEFAULT 2"
    generated = random.random() < 0.4
    if generated:
        parts = names.split(", PRIMARY")
        parts[0] += f", g {random.choice(('', 'TEXT', 'INTEGER'))} AS (coalesce(u, '') || 'x')"
        if random.random() < 0.5:
            parts[0] += f", h {random.choice(('TEXT', 'NUMERIC', ''))} AS (v) UNIQUE"
        names = ", PRIMARY".join(parts)
    statements = [f"CREATE TABLE t({key}, {names}){tail}"]
    if generated and random.random() < 0.6:
        statements.append("CREATE UNIQUE INDEX t_g ON t(g)")
    if random.random() < 0.4:
        statements.append("CREATE UNIQUE INDEX t_part ON t(v COLLATE NOCASE) WHERE w IS NOT NULL")
    if random.random() < 0.4:
        statements.append("CREATE UNIQUE INDEX t_expr ON t(lower(u), w)")
    if random.random() < 0.4:
        statements.append(
            "CREATE TRIGGER app_ai AFTER INSERT ON t WHEN NEW.w = 3 BEGIN UPDATE t SET v = 'b' WHERE u = 1; END"
        )
    if random.random() < 0.3:
        statements.append("CREATE TRIGGER app_au AFTER UPDATE ON t WHEN NEW.w = 2 BEGIN SELECT RAISE(FAIL, 'no'); END")
    if random.random() < 0.3:
        statements.append("CREATE TRIGGER app_ad AFTER DELETE ON t BEGIN DELETE FROM t WHERE j = OLD.j; END")
    return statements


def _rest(random: Random) -> str:
    return random.choice(
        ("", "", " UNIQUE", " COLLATE NOCASE UNIQUE", " NOT NULL DEFAULT 2", " NOT NULL DEFAULT '1' UNIQUE")
    )


def statement(random: Random) -> str:
    """One statement of the application; many fail, some of them half-way."""
    conflict = random.choice(("", " OR REPLACE", " OR REPLACE", " OR IGNORE", " OR FAIL", " OR ABORT", " OR ROLLBACK"))
    one, other = random.sample(COLUMNS, 2)
    draw = random.random()
    if draw < 0.45:
        rows = ", ".join(
            "(" + ", ".join(random.choice(VALUES) for _ in COLUMNS) + ")" for _ in range(random.choice((1, 1, 3)))
        )
        return f"INSERT{conflict} INTO t({', '.join(COLUMNS)}) VALUES {rows}"
    if draw < 0.75:
        return f"UPDATE{conflict} t SET {one} = {random.choice((*VALUES, other))} WHERE {_where(random)}"
    if draw < 0.82:
        return f"DELETE FROM t WHERE {_where(random)}"
    if draw < 0.86:
        return "INSERT INTO t(k, j, u) VALUES (1, 2, 3) ON CONFLICT DO NOTHING"
    return random.choice(
        (
            "BEGIN",
            "COMMIT",
            "COMMIT",
            "ROLLBACK",
            "SAVEPOINT s",
            "ROLLBACK TO s",
            "RELEASE s",
            "PRAGMA recursive_triggers=1",
        )
    )


def _where(random: Random) -> str:
    return f"{random.choice(COLUMNS)} {random.choice(('=', 'IS', '<', '>='))} {random.choice(VALUES)}"
