"""Do: from the return of COMMIT in SQLite until a reader of PostgreSQL sees the row, at a steady rate, two daemons between.

Run: python -m bench.latency [TRANSACTIONS_A_SECOND]
"""

from __future__ import annotations

import multiprocessing
import random
import sqlite3
import statistics
import sys
import threading
import time
from pathlib import Path

import psycopg

from adapters.postgres import Postgres
from bench.rig import COLUMNS, Line, Stream, fill, row, say, stages
from bench.stream import capture_process, sink_process, through

SECONDS = 10


def main() -> None:
    rate = float(sys.argv[1]) if len(sys.argv) > 1 else 100.0
    for where, url, stream in stages():
        _measure(where, url, stream, rate)


def _measure(where: Path, url: str, stream: Stream, rate: float) -> None:
    database = where / "source.db"
    fill(database, 1000)
    line = Line(where, database, url, stream)
    line.settle(line.capture(), line.sink(), line.copy())
    line.close()
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    workers = [
        context.Process(target=work, args=(where, database, url, stream, stop))
        for work in (capture_process, sink_process)
    ]
    for one in workers:
        one.start()
    target = Postgres(url, application_name="bench")
    through(database, target)
    target.close()
    committed: dict[int, float] = {}
    writing = threading.Event()
    thread = threading.Thread(target=_write, args=(database, rate, committed, writing))
    thread.start()
    seen = _watch(url, committed, writing)
    thread.join()
    stop.set()
    for one in workers:
        one.join()
    delays_ms = sorted((seen[number] - at) * 1000 for number, at in committed.items() if number in seen)
    p50, p99 = statistics.median(delays_ms), delays_ms[int(len(delays_ms) * 0.99)]
    say(
        f"commit -> visible, {rate:.0f} tx/s, {stream.name}",
        f"p50 {p50:.1f} p99 {p99:.1f} ms",
        floor=f"{len(delays_ms)} of {len(committed)} rows seen",
        reach="reach p50 <= 10, p99 <= 25 ms",
    )


def _write(database: object, rate: float, committed: dict[int, float], writing: threading.Event) -> None:
    connection = sqlite3.connect(database, isolation_level=None, timeout=5)  # type: ignore[call-overload]
    connection.execute("PRAGMA synchronous=NORMAL")
    rng = random.Random(1)
    insert = f"INSERT INTO cases VALUES ({', '.join('?' * COLUMNS)})"
    ends = time.perf_counter() + SECONDS
    number = 10_000_000
    while time.perf_counter() < ends:
        number += 1
        connection.execute(insert, row(rng, number))
        committed[number] = time.perf_counter()
        time.sleep(1 / rate)
    connection.close()
    writing.set()


def _watch(url: str, committed: dict[int, float], writing: threading.Event) -> dict[int, float]:
    """When each row was first seen; the look itself costs about half a millisecond."""
    seen: dict[int, float] = {}
    last = 10_000_000
    with psycopg.connect(url, autocommit=True) as connection:
        gives_up = None
        while True:
            found = connection.execute("SELECT id FROM bench.cases WHERE id > %s ORDER BY id", (last,)).fetchall()
            now = time.perf_counter()
            for (number,) in found:
                seen[number] = now
                last = number
            if writing.is_set():
                gives_up = gives_up or now + 5
                if len(seen) == len(committed) or now > gives_up:
                    return seen
            time.sleep(0.0005)


if __name__ == "__main__":
    main()
