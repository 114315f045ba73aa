"""What `plan` reads of a database beside one SELECT that computes typeof of every column: at most twice its time.

python -m bench.plan [MEGABYTES]     default 200; the figure is asked for at 1000
"""

from __future__ import annotations

import random
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

from adapters.sqlite import SqliteDatabase
from schemas.introspect import introspect
from schemas.names import quote
from schemas.profile import profile_table

ROW_BYTES = 330
ROUNDS = 5


def build(path: Path, megabytes: int) -> None:
    rng = random.Random(1)
    words = [f"word{at}" for at in range(999)]
    with closing(SqliteDatabase(path, create=True)) as db:
        db.run("PRAGMA journal_mode = OFF")
        db.run("PRAGMA synchronous = OFF")
        db.run(
            "CREATE TABLE cases(id INTEGER PRIMARY KEY, number INTEGER, title TEXT, opened DATETIME, closed INTEGER, "
            "worth REAL, court TEXT, notes TEXT, judge INTEGER, party TEXT, digest BLOB, version INTEGER)"
        )
        rows = megabytes * 1_000_000 // ROW_BYTES
        for start in range(0, rows, 20_000):
            some = [
                (
                    *(at, rng.randrange(1 << 40), " ".join(rng.choices(words, k=6)), "2024-02-03 12:00:00", None),
                    *(rng.random(), rng.choice(words), " ".join(rng.choices(words, k=24)), at % 97, rng.choice(words)),
                    *(rng.randbytes(16), 3),
                )
                for at in range(start, min(start + 20_000, rows))
            ]
            with db.write():
                db.run_many(f"INSERT INTO cases VALUES ({', '.join('?' * 12)})", some)


def main() -> None:
    megabytes = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "big.db"
        build(path, megabytes)
        with closing(SqliteDatabase(path)) as db:
            table = introspect(db).tables["cases"]
            every = ", ".join(f"count(typeof({quote(column.name)}))" for column in table.columns)
            base_s: list[tuple[float, float]] = []
            profile_s: list[tuple[float, float]] = []
            for _ in range(ROUNDS):  # in turns: another process then weighs on both
                for work, times in (
                    (lambda: db.rows(f"SELECT {every} FROM cases"), base_s),
                    (lambda: profile_table(db, table), profile_s),
                ):
                    started, used = time.perf_counter(), time.process_time()
                    work()
                    times.append((time.perf_counter() - started, time.process_time() - used))
        (base, base_cpu), (profile, profile_cpu) = (
            (statistics.median(wall for wall, _ in times), statistics.median(cpu for _, cpu in times))
            for times in (base_s, profile_s)
        )
        print(
            f"{path.name}: {megabytes} MB, one SELECT of typeof {base:.2f} s, profile {profile:.2f} s: "
            f"{profile / base:.2f} times, {profile_cpu / base_cpu:.2f} by processor time (wanted: at most 2)"
        )


if __name__ == "__main__":
    main()
