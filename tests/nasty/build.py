"""Two databases of nothing but hard cases: `nasty.db` (UTF-8) and `wide.db` (UTF-16), both from one seed.

Run as a program it goes on writing into every table of them: `python -m tests.nasty.build write FOLDER SEED SECONDS`.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.nasty.schema import ODD_COLUMNS, ODD_TABLES, WIDE, q, statements
from tests.nasty.values import BAD, INTS, NULS, REALS, TEXTS, Nasty, Raw, any_value, bool_row, date_row, random_real

NAMES = ("nasty", "wide")
MB = 1 << 20


def build(folder: Path, *, seed: int = 1, rows: int = 40) -> list[Path]:
    """Make both files and fill every table."""
    paths = []
    for at, name in enumerate(NAMES):
        path = folder / f"{name}.db"
        with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as db:
            if name == "wide":
                db.execute("PRAGMA encoding = 'UTF-16le'")
            db.execute("PRAGMA journal_mode = WAL")
            db.execute("PRAGMA foreign_keys = OFF")
            for statement in statements():
                # SQLite's own lower() of a BLOB differs from one call to the next in a UTF-16 file: its index is damaged.
                db.execute(statement if name != "wide" else statement.replace("lower(b)", "b").replace("lower(a)", "a"))
            db.execute("BEGIN")
            Filler(db, random.Random(seed + at), bad=name != "wide").fill(rows)
            db.execute("COMMIT")
            db.execute("ANALYZE")
        paths.append(path)
    return paths


class Filler:
    """Rows for every table; a row that a constraint refuses is simply not there."""

    def __init__(self, db: sqlite3.Connection, rng: random.Random, *, bad: bool) -> None:
        self.db = db
        self.rng = rng
        self.bad = bad

    def any(self) -> Nasty:
        return any_value(self.rng, bad=self.bad)

    def put(self, table: str, values: Sequence[Nasty], columns: Iterable[str] = ()) -> bool:
        marks = ", ".join("CAST(? AS TEXT)" if isinstance(value, Raw) else "?" for value in values)
        names = f"({', '.join(map(q, columns))})" if columns else ""
        bound = [bytes(value) if isinstance(value, Raw) else value for value in values]
        try:
            self.db.execute(f"INSERT INTO {q(table)}{names} VALUES ({marks})", bound)
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_CONSTRAINT:
                raise
            return False
        return True

    def fill(self, rows: int) -> None:
        rng, put = self.rng, self.put
        for at in range(rows):
            put("strict_all", (at, rng.choice(INTS), random_real(rng), rng.choice(TEXTS), rng.randbytes(5), self.any()))
            put("strict_any", (self.any(), self.any()))
            put("affinities", (at, *[self.any() for _ in range(7)]))
            put("extremes", (at, rng.choice(INTS), rng.choice(REALS), rng.choice((0.5, 2**53 + 1, 1e20, 7))))
            bad = rng.choice(BAD) if self.bad else "\x00"
            put("texts", (at, rng.choice(TEXTS), rng.choice(NULS), bad, rng.choice((*TEXTS, *NULS))))
            put("null_keys", (None if at % 3 else f"k{at}", self.any()))
            put("null_pair", (at if at % 4 else None, f"b{at % 5}" if at % 3 else None, self.any()))
            put("no_key", (at % 3, "again"))
            put("no_key", (self.any(), None))
            put("pair", (self.any(), rng.choice(TEXTS), rng.choice(INTS)))
            put("pair_bare", (self.any(), rng.choice(TEXTS), rng.choice(INTS), self.any()))
            put("any_key", (self.any(), self.any()))
            put("real_key", (random_real(rng), at))
            put("folded", (at, f"Name{at}É", f"tail{at}" + " " * (at % 4), self.any()))
            put("indexed", (at, rng.choice(TEXTS), at - 20, rng.choice(REALS), f"d{at}"))
            put("untyped_unique", (self.any(), self.any()))
            put("cycle_a", (at, at + 1))
            put("cycle_b", (at, at * 3 if at % 5 else None))
            put("tree", (at, at // 2 if at else None, self.any()))
            put("orphans", (at, at, at, f"nobody{at}"))
            put("self_updating", (at, self.any()), ("id", "v"))
            put("emptied", (at, at))
            put("numbered", (at * at + 1, self.any()))
            put("below_zero", (rng.choice((0, -1, -(2**63), 2**63 - 1, at - 20)), self.any()))
            put("only", (self.any(),))
            put("only_key", (at * 7 - 50,))
            put("bare_key", (rng.choice(TEXTS),))
            put("dates", (at, *date_row(rng)))
            put("bools", (at, *bool_row(rng)))
            put("generated", (at, at, f"B{at}"), ("id", "a", "b"))
            put("documents", (at, '{"b": 1,  "a": [1.0, 1e5], "b": "\\u00e9"}', rng.choice(('{"a":1}', "no json", 5))))
            put("shadowed", (at, "r", "o", None))
            put("nameless", ("r", "o", "x"))
            put("checked", (at, at), ("id", "n"))
            put("names_like_numbers", (f"{at:03d}", f"00{at}", "far too long", rng.choice((7, "seven", "08"))))
            put("search", (rng.choice(TEXTS),))
            put("boxes", (at, 0.0, 1.0, 2.0, 3.0))
            put(
                "wide",
                (at, *[self.any() if at % 4 == 0 else (3, "text", 0.5, b"b", "u")[c % 5] for c in range(WIDE - 1)]),
            )
            put("odd_columns", (at, *[rng.choice(TEXTS) for _ in ODD_COLUMNS]))
            for name in ODD_TABLES:
                put(name, (at, f"value {at}", self.any()))
        for at in range(3):
            put("large", (at, "é" * MB, rng.randbytes(2 * MB)))
        for key in (1, "1", b"1", 0.0, "0"):
            put("untyped_unique", (key, "one of three that look alike"))
        self.db.execute("DELETE FROM numbered WHERE id > 1000")


def writable(db: sqlite3.Connection) -> dict[str, list[str]]:
    """Ordinary tables of the application -> their columns that can be written."""
    found = {}
    for (name,) in db.execute(
        "SELECT name FROM pragma_table_list WHERE schema = 'main' AND type = 'table' AND name NOT LIKE 'sqlite~_%' ESCAPE '~' "
        "AND name NOT LIKE '~_tailrace~_%' ESCAPE '~'"
    ).fetchall():
        found[name] = [row[1] for row in db.execute(f"PRAGMA table_xinfo({q(name)})") if row[6] == 0]
    return found


def write(path: Path, *, seed: int, seconds: float, most: int = 1 << 30, bad: bool = True) -> int:
    """Go on writing nasty values into every table; returns how many statements took effect."""
    rng = random.Random(seed)
    done = 0
    with contextlib.closing(sqlite3.connect(path, timeout=30, isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = NORMAL")
        tables = writable(db)
        db.text_factory = bytes
        until = time.monotonic() + seconds
        turn = list(tables)
        while time.monotonic() < until and done < most:
            rng.shuffle(turn)
            for name in turn:
                done += _one(db, rng, name, tables[name], bad=bad)
            time.sleep(0.01)
    return done


def _one(db: sqlite3.Connection, rng: random.Random, table: str, columns: list[str], *, bad: bool) -> bool:
    """One statement as an application would give it, refused or not."""
    name, chosen = q(table), rng.choice(columns)
    order = f"SELECT {{}} FROM {name} ORDER BY random() LIMIT 1"
    kind = rng.choice(("insert", "insert", "again", "update", "update", "borrow", "delete", "transaction"))
    value = any_value(rng, bad=bad)
    mark = "CAST(? AS TEXT)" if isinstance(value, Raw) else "?"
    bound = [bytes(value) if isinstance(value, Raw) else value]
    # A row is found by all its values: not every table has a rowid that can be named.
    found = db.execute(order.format(", ".join(map(q, columns)))).fetchone()
    try:
        if kind == "insert" or found is None:
            values = [any_value(rng, bad=False) for _ in columns]
            db.execute(
                f"INSERT INTO {name}({', '.join(map(q, columns))}) VALUES ({', '.join('?' * len(columns))})", values
            )
            return True
        if kind == "again":
            verb = rng.choice(("INSERT OR REPLACE", "INSERT OR IGNORE"))
            names = ", ".join(map(q, columns))
            # The key of one row and the rest of another.
            db.execute(f"{verb} INTO {name}({names}) SELECT {names} FROM {name} ORDER BY random() LIMIT 2")
            return True
        where = " AND ".join(f"{q(column)} IS ({order.format(q(column))})" for column in columns[:1])
        if kind == "update":
            changed = db.execute(f"UPDATE OR IGNORE {name} SET {q(chosen)} = {mark} WHERE {where}", bound).rowcount
        elif kind == "borrow":
            changed = db.execute(
                f"UPDATE OR REPLACE {name} SET {q(chosen)} = ({order.format(q(chosen))}) WHERE {where}"
            ).rowcount
        elif kind == "delete":
            changed = db.execute(f"DELETE FROM {name} WHERE {where} AND abs(random()) % 3 = 0").rowcount
        else:
            changed = _transaction(db, rng, name, chosen, bad=bad)
    except sqlite3.Error as error:
        # Full: the largest rowid is taken, and AUTOINCREMENT goes no further.
        if error.sqlite_errorcode & 0xFF not in (
            sqlite3.SQLITE_CONSTRAINT,
            sqlite3.SQLITE_MISMATCH,
            sqlite3.SQLITE_FULL,
        ):
            raise
        return False
    return changed > 0


def _transaction(db: sqlite3.Connection, rng: random.Random, name: str, column: str, *, bad: bool) -> int:
    """Several statements and a savepoint, sometimes taken back."""
    value = any_value(rng, bad=False)
    with contextlib.suppress(sqlite3.IntegrityError):
        db.execute("BEGIN IMMEDIATE")
        try:
            db.execute(f"UPDATE OR IGNORE {name} SET {q(column)} = ? WHERE abs(random()) % 10 = 0", (value,))
            db.execute("SAVEPOINT s")
            db.execute(f"DELETE FROM {name}")
            db.execute("ROLLBACK TO s")
            db.execute(f"UPDATE OR REPLACE {name} SET {q(column)} = {q(column)} WHERE abs(random()) % 5 = 0")
            db.execute("COMMIT" if rng.random() < 0.7 else "ROLLBACK")
            return 1
        finally:
            if db.in_transaction:
                db.execute("ROLLBACK")
    return 0


if __name__ == "__main__":
    _, word, where, number, length = sys.argv
    assert word == "write"
    for path_name in NAMES:
        print(write(Path(where) / f"{path_name}.db", seed=int(number), seconds=float(length), bad=path_name != "wide"))
