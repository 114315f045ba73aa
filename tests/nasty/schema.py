"""Every kind of table that the first users of other tools lost something of, as SQL that SQLite takes."""

from __future__ import annotations

LONG = "a very long identifier that shares its first sixty-three bytes with %s"
"""70 bytes with the last word: PostgreSQL would cut both to one name."""
ODD_COLUMNS = (
    *("", " ", "_empty", "ctid", "ctid_", "xmin", "tableoid", "select", "user", "a.b", 'quo"te', "%s", "semi;colon"),
    *("new\nline", "É", "é", "naïve 名前", "MixedCase", LONG % "one", LONG % "two", "$1", "-- no comment", "nan"),
)
ODD_TABLES = (
    *(
        "",
        "Order Details",
        "group",
        'it\'s "x".y',
        "%s",
        "ünï 表",
        " ",
        LONG % "one",
        LONG % "two",
        "pg_class",
        "t",
        "t_pkey",
    ),
    *("t_pkey_", "É", "é", "semi;colon", "a.b", "_empty"),
)
WIDE = 300


def q(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


PLAIN = (
    "CREATE TABLE strict_all(id INTEGER PRIMARY KEY, i INT, r REAL, t TEXT, b BLOB, a ANY) STRICT",
    "CREATE TABLE strict_any(k ANY PRIMARY KEY, v ANY) STRICT",
    "CREATE TABLE affinities(id INTEGER PRIMARY KEY, i INTEGER, n NUMERIC, d DECIMAL(10,2), r REAL, t TEXT, b BLOB, u)",
    "CREATE TABLE extremes(id INTEGER PRIMARY KEY, i INTEGER, r REAL, n NUMERIC)",
    "CREATE TABLE texts(id INTEGER PRIMARY KEY, plain TEXT, nul TEXT, bad TEXT, any TEXT)",
    "CREATE TABLE large(id INTEGER PRIMARY KEY, t TEXT, b BLOB)",
    "CREATE TABLE null_keys(k TEXT PRIMARY KEY, v)",
    "CREATE TABLE null_pair(a INT, b TEXT, v, PRIMARY KEY(b, a))",
    "CREATE TABLE no_key(a, b TEXT)",
    "CREATE TABLE pair(v, b TEXT NOT NULL, a INTEGER NOT NULL, PRIMARY KEY(b, a))",
    "CREATE TABLE pair_bare(v, b TEXT, a INTEGER, c, PRIMARY KEY(b COLLATE NOCASE DESC, c, a)) WITHOUT ROWID",
    "CREATE TABLE any_key(k PRIMARY KEY NOT NULL, v)",
    "CREATE TABLE real_key(k REAL PRIMARY KEY NOT NULL, v) WITHOUT ROWID",
    "CREATE TABLE folded(id INTEGER PRIMARY KEY, name TEXT COLLATE NOCASE UNIQUE, tail TEXT COLLATE RTRIM UNIQUE, v)",
    "CREATE TABLE indexed(id INTEGER PRIMARY KEY, a TEXT, b INTEGER, c REAL, d TEXT, UNIQUE(a, b))",
    "CREATE INDEX indexed_partial ON indexed(a) WHERE b > 0",
    "CREATE UNIQUE INDEX indexed_unique_partial ON indexed(d) WHERE d IS NOT NULL AND b IS NOT NULL",
    "CREATE INDEX indexed_expression ON indexed(lower(a), b + 1)",
    "CREATE INDEX indexed_desc ON indexed(a DESC, b ASC, c DESC)",
    "CREATE INDEX indexed_nocase ON indexed(d COLLATE NOCASE)",
    "CREATE TABLE untyped_unique(k UNIQUE, v)",
    "CREATE TABLE cycle_a(id INTEGER PRIMARY KEY, b INTEGER REFERENCES cycle_b(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE cycle_b(id INTEGER PRIMARY KEY, a INTEGER REFERENCES cycle_a ON DELETE SET NULL)",
    "CREATE TABLE tree(id INTEGER PRIMARY KEY, parent INTEGER REFERENCES tree(id) ON DELETE CASCADE ON UPDATE CASCADE, v)",
    "CREATE TABLE orphans(id INTEGER PRIMARY KEY, gone INTEGER REFERENCES nowhere(id), pa INT, pb TEXT, "
    "FOREIGN KEY(pb, pa) REFERENCES pair(b, a) ON DELETE CASCADE)",
    "CREATE TABLE self_updating(id INTEGER PRIMARY KEY, v, stamp TEXT, times INTEGER DEFAULT 0)",
    "CREATE TRIGGER self_stamp AFTER INSERT ON self_updating BEGIN "
    "UPDATE self_updating SET stamp = 'made ' || NEW.id, times = times + 1 WHERE id = NEW.id; END",
    "CREATE TRIGGER self_touch AFTER UPDATE OF v ON self_updating WHEN NEW.times < 5 BEGIN "
    "UPDATE self_updating SET times = times + 1 WHERE id = NEW.id; END",
    "CREATE TABLE emptied(id INTEGER PRIMARY KEY, v)",
    "CREATE TRIGGER emptied_one AFTER INSERT ON emptied WHEN NEW.id % 7 = 0 BEGIN "
    "DELETE FROM emptied WHERE id = NEW.id - 3; END",
    "CREATE TABLE numbered(id INTEGER PRIMARY KEY AUTOINCREMENT, v)",
    "CREATE TABLE below_zero(id INTEGER PRIMARY KEY, v)",
    "CREATE TABLE only(only)",
    "CREATE TABLE only_key(id INTEGER PRIMARY KEY)",
    "CREATE TABLE bare_key(k TEXT PRIMARY KEY) WITHOUT ROWID",
    "CREATE TABLE dates(id INTEGER PRIMARY KEY, day DATE, at DATETIME, zulu TIMESTAMP, us TEXT, epoch DATETIME, "
    "julian DATETIME, any DATETIME, micro TIMESTAMP)",
    "CREATE TABLE bools(id INTEGER PRIMARY KEY, bits BOOLEAN NOT NULL, words BOOLEAN, letters BOOLEAN, "
    "answers BOOLEAN, any BOOL)",
    "CREATE TABLE generated(id INTEGER PRIMARY KEY, a INTEGER, b TEXT, v GENERATED ALWAYS AS (a || '-' || b) VIRTUAL, "
    "s INTEGER AS (a * 2) STORED, u TEXT AS (lower(b)) UNIQUE)",
    "CREATE TABLE documents(id INTEGER PRIMARY KEY, doc JSON, loose JSON)",
    "CREATE TABLE shadowed(id INTEGER PRIMARY KEY, rowid TEXT, oid TEXT, _rowid_ TEXT)",
    "CREATE TABLE nameless(rowid TEXT, oid TEXT, _rowid_ TEXT)",
    "CREATE TABLE checked(id INTEGER PRIMARY KEY CHECK (id <> 13), n INT NOT NULL DEFAULT 5 CHECK (n < 1000000), "
    "word TEXT DEFAULT \"quoted\", at TEXT DEFAULT CURRENT_TIMESTAMP, made TEXT DEFAULT (datetime('now')), "
    "token BLOB DEFAULT (randomblob(8)), naught TEXT DEFAULT NULL, neg REAL DEFAULT -1.5)",
    "CREATE TABLE empty_one(id INTEGER PRIMARY KEY AUTOINCREMENT, v TEXT)",
    "CREATE TABLE names_like_numbers(id STRING PRIMARY KEY NOT NULL, code UUID, v VARCHAR(3), i INTEGER_OR_TEXT)",
    "CREATE VIEW a_view AS SELECT id, i FROM affinities WHERE i IS NOT NULL",
    "CREATE VIEW broken_view AS SELECT missing FROM nowhere",
    "CREATE TRIGGER view_insert INSTEAD OF INSERT ON a_view BEGIN INSERT INTO affinities(i) VALUES (NEW.i); END",
    "CREATE VIRTUAL TABLE search USING fts5(body)",
    "CREATE VIRTUAL TABLE search_texts USING fts5(plain, content='texts', content_rowid='id')",
    "CREATE VIRTUAL TABLE boxes USING rtree(id, x0, x1, y0, y1)",
)


def statements() -> list[str]:
    wide = ", ".join(f"c{at} {('INTEGER', 'TEXT', 'REAL', 'BLOB', '')[at % 5]}" for at in range(1, WIDE))
    odd = ", ".join(f"{q(name)} {'TEXT' if at % 2 else ''}" for at, name in enumerate(ODD_COLUMNS))
    return [
        *PLAIN,
        f"CREATE TABLE wide(id INTEGER PRIMARY KEY, {wide})",
        f"CREATE TABLE odd_columns(id INTEGER PRIMARY KEY, {odd})",
        *(f"CREATE TABLE {q(name)}(id INTEGER PRIMARY KEY, {q('the value')} TEXT UNIQUE, v)" for name in ODD_TABLES),
        f"CREATE INDEX {q(LONG % 'three')} ON {q(LONG % 'one')}(v)",
        f"CREATE INDEX {q(LONG % 'four')} ON {q(LONG % 'two')}(v)",
    ]
