"""Do: what the triggers cost the application's own writes, as a ratio to the same writes without them.

Both databases are written in turns of one slice each, so that a slow second of the machine hits both.
Run: python -m bench.triggers
"""

from __future__ import annotations

import random
import sqlite3
import statistics
import time
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from bench.rig import COLUMNS, TABLE, fill, folder, row, say
from capture.install import install

ROUNDS = 15
ROWS = 20_000
REACH = {
    ("FULL", "insert", 1): 1.1,
    ("FULL", "update", 1): 1.1,
    ("NORMAL", "insert", 1): 1.4,
    ("NORMAL", "update", 1): 1.6,
    ("NORMAL", "insert", 1000): 1.5,
    ("NORMAL", "update", 1000): 1.5,
}


class Side:
    """One database and the next number to insert."""

    def __init__(self, path: Path, synchronous: str, *, with_triggers: bool) -> None:
        fill(path, ROWS)
        if with_triggers:
            db = SqliteDatabase(path)
            install(db, "bench-identity")
            db.close()
        self.connection = sqlite3.connect(path, isolation_level=None)
        self.connection.execute(f"PRAGMA synchronous={synchronous}")
        self.rng = random.Random(7)
        self.next = ROWS + 1

    def slice(self, kind: str, transactions: int, rows_each: int) -> float:
        """Seconds for that many transactions."""
        made = []
        for _ in range(transactions):
            part = []
            for _ in range(rows_each):
                part.append(row(self.rng, self.next))
                self.next += 1
            made.append(part)
        insert = f"INSERT INTO cases VALUES ({', '.join('?' * COLUMNS)})"
        started = time.perf_counter()
        for part in made:
            self.connection.execute("BEGIN IMMEDIATE")
            for one in part:
                if kind == "insert":
                    self.connection.execute(insert, one)
                else:
                    self.connection.execute(
                        "UPDATE cases SET status = ?, amount = ? WHERE id = ?",
                        (one[3], one[4], one[0] % ROWS + 1),  # type: ignore[operator]
                    )
            self.connection.execute("COMMIT")
        return time.perf_counter() - started


def main() -> None:
    print(TABLE.partition("(")[0], f"- {COLUMNS} columns, {ROUNDS} rounds in turns; ratio of medians")
    for (synchronous, kind, rows_each), reach in REACH.items():
        transactions = 5 if rows_each > 1 else 60 if synchronous == "FULL" else 400
        with folder() as where:
            plain = Side(where / "plain.db", synchronous, with_triggers=False)
            ours = Side(where / "ours.db", synchronous, with_triggers=True)
            times: dict[str, list[float]] = {"plain": [], "ours": []}
            for _ in range(ROUNDS):
                for name, side in (("plain", plain), ("ours", ours)):
                    times[name].append(side.slice(kind, transactions, rows_each))
            before, after = statistics.median(times["plain"]), statistics.median(times["ours"])
            say(
                f"triggers {synchronous} {kind} {rows_each} rows/tx",
                f"{after / before:.2f}x",
                floor=f"plain {before / transactions / rows_each * 1e6:,.1f} us a row",
                reach=f"reach <= {reach}x",
            )
            plain.connection.close()
            ours.connection.close()


if __name__ == "__main__":
    main()
