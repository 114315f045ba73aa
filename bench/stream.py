"""Do: capture alone, the sink alone, and both at once in two processes, over the local log and both drivers of Kafka.

The floor of capture is reading the rows and sending ready bytes; the floor of the sink is a temporary table by binary COPY
and one merge of rows that are ready. Run: [PROFILE=1] python -m bench.stream [CHANGES]
PROFILE=1 adds, for both at once, where the working thread of either process spends its processor time; the figures of such a
run are those of a profiled program.
"""

from __future__ import annotations

import cProfile
import multiprocessing
import os
import pstats
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from adapters.postgres import Postgres
from bench.rig import COLUMNS, Line, Stream, fill, say, scaled, seconds, stages
from sink.progress import read_progress

BATCH_ROWS = 1000


# Capture, sink, both at once: changes a second. Capture into the local log must at least keep up with both at once.
REACH = {"": (50_000, 55_000, 50_000), "kafka-python": (30_000, 55_000, 28_000), "confluent": (80_000, 70_000, 55_000)}


def main() -> None:
    changes = int(sys.argv[1]) if len(sys.argv) > 1 else scaled(100_000)
    for where, url, stream in stages():
        _measure(where, url, stream, changes)


def _measure(where: Path, url: str, stream: Stream, changes: int) -> None:
    database = where / "source.db"
    fill(database, 1000)
    line = Line(where, database, url, stream)
    capture, sink, copy = line.capture(batch_rows=BATCH_ROWS), line.sink(), line.copy()
    line.settle(capture, sink, copy)

    fill(database, changes, first=10_001)
    head = line.head()
    reach = REACH[stream.driver]
    took = seconds(lambda: _captured(capture))
    say(
        f"capture: log -> Avro -> {stream.name}",
        f"{changes / took:,.0f} changes/s",
        floor=f"read the rows {changes / _read(database):,.0f}/s",
        reach=f"reach >= {reach[0]:,}",
    )
    took = seconds(lambda: _applied(sink, url, head))
    say(
        f"sink: {stream.name} -> collapse -> apply",
        f"{changes / took:,.0f} changes/s",
        floor=f"merge of ready rows {changes / _merge(database, url):,.0f}/s",
        reach=f"reach >= {reach[1]:,}",
    )
    line.close()
    _both(where, database, url, stream, changes, reach[2])


def _captured(capture: object) -> None:
    while capture.step():  # type: ignore[attr-defined]
        pass


def _applied(sink: object, url: str, head: int) -> None:
    target = Postgres(url, application_name="bench")
    while True:
        sink.step()  # type: ignore[attr-defined]
        found = read_progress(target, "bench")
        if found is not None and found.applied >= head:
            target.close()
            return


def _read(database: Path) -> float:
    """Seconds to read the rows of the keys that the log names, in chunks."""
    connection = sqlite3.connect(database)

    def read() -> None:
        after = 0
        while keys := [
            one[0] for one in connection.execute("SELECT id FROM cases WHERE id > ? LIMIT 900", (max(after, 10_000),))
        ]:
            after = keys[-1]
            connection.execute(f"SELECT * FROM cases WHERE id IN ({', '.join('?' * len(keys))})", keys).fetchall()

    took = seconds(read)
    connection.close()
    return took


def _merge(database: Path, url: str) -> float:
    """Seconds to merge rows that are ready as Python values, 5,000 at a time, into a table with its key."""
    connection = sqlite3.connect(database)
    rows = connection.execute("SELECT * FROM cases WHERE id > 10000").fetchall()
    connection.close()
    target = Postgres(url, application_name="bench")
    types = ["int8", "text", "text", "text", "float8", "float8", "text", "int8", "int8", "text"]
    columns = ", ".join(f"c{at} {kind}" for at, kind in enumerate(types))
    target.run(f"CREATE TABLE floor({columns}, PRIMARY KEY (c0))")
    updates = ", ".join(f"c{at} = EXCLUDED.c{at}" for at in range(1, COLUMNS))

    def merge() -> None:
        for start in range(0, len(rows), 5000):
            with target.transaction():
                target.run(f"CREATE TEMP TABLE part({columns}) ON COMMIT DROP")
                target.copy_in("COPY part FROM STDIN (FORMAT BINARY)", types, rows[start : start + 5000])
                target.run(f"INSERT INTO floor SELECT * FROM part ON CONFLICT (c0) DO UPDATE SET {updates}")

    took = seconds(merge)
    target.run("DROP TABLE floor")
    target.close()
    return took


def capture_process(where: Path, database: Path, url: str, stream: Stream, stop: object, worked: object = None) -> None:
    line = Line(where, database, url, stream)
    _stepped(f"capture, {stream.name}", line.capture(batch_rows=BATCH_ROWS).step, stop, worked)
    line.close()


def sink_process(where: Path, database: Path, url: str, stream: Stream, stop: object, worked: object = None) -> None:
    line = Line(where, database, url, stream)
    _stepped(f"sink, {stream.name}", line.sink().step, stop, worked)
    line.close()


def _stepped(name: str, step: Callable[[], bool], stop: object, worked: object) -> None:
    with _profiled(name):
        while not stop.is_set():  # type: ignore[attr-defined]
            if not step():
                time.sleep(0.002)
            if worked is not None:
                worked.value = time.process_time()  # type: ignore[attr-defined]


@contextmanager
def _profiled(name: str) -> Iterator[None]:
    if not os.environ.get("PROFILE"):
        yield
        return
    profile = cProfile.Profile(time.thread_time)
    profile.enable()
    try:
        yield
    finally:
        profile.disable()
        print(f"--- {name}")
        pstats.Stats(profile).sort_stats("tottime").print_stats(16)


def _both(where: Path, database: Path, url: str, stream: Stream, changes: int, reach: int) -> None:
    """Capture and sink at once in two processes, beside PostgreSQL, on whatever cores there are."""
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    arguments = (where, database, url, stream, stop)
    worked = [context.Value("d", 0.0, lock=False) for _ in range(2)]
    workers = [
        context.Process(target=work, args=(*arguments, own))
        for work, own in zip((capture_process, sink_process), worked, strict=True)
    ]
    target = Postgres(url, application_name="bench")
    for one in workers:
        one.start()
    through(database, target)
    connection = sqlite3.connect(database)
    before = connection.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0]
    spent = [one.value for one in worked] + [time.process_time(), busy_s()]
    started = time.perf_counter()
    for burst in range(10):
        fill(database, changes // 10, first=10_001 + changes + burst * changes // 10, each=500)
        while before + (burst + 1) * changes // 10 - _applied_seq(target) > changes // 5:
            time.sleep(0.002)
    head = connection.execute("SELECT max(seq) FROM _tailrace_log").fetchone()[0]
    while _applied_seq(target) < head:
        time.sleep(0.002)
    took = time.perf_counter() - started
    now = [one.value for one in worked] + [time.process_time(), busy_s()]
    connection.close()
    stop.set()
    for one in workers:
        one.join()
    target.close()
    say(
        f"capture and sink at once, {stream.name}",
        f"{changes / took:,.0f} changes/s",
        floor="in bursts, two of ten outstanding",
        reach=f"reach >= {reach:,}",
    )
    capture, sink, writer, all_ = ((after - at) * 1e6 / changes for at, after in zip(spent, now, strict=True))
    say(
        "  processor time a change",
        f"capture {capture:.1f}, sink {sink:.1f} \u00b5s",
        floor=f"writer and this bench {writer:.1f}, the whole machine {all_:.1f}",
        reach=f"{os.cpu_count()} cores do no more than {(os.cpu_count() or 1) * 1e6 / all_:,.0f}/s" if all_ else "",
    )


def through(database: Path, target: Postgres) -> None:
    """One row goes all the way: both processes are at work, and no start of theirs is measured."""
    fill(database, 1, first=9_999_999)
    connection = sqlite3.connect(database)
    (head,) = connection.execute("SELECT max(seq) FROM _tailrace_log").fetchone()
    connection.close()
    while _applied_seq(target) < head:
        time.sleep(0.01)


def busy_s() -> float:
    """Processor time of the whole machine; 0 where its kernel does not tell."""
    try:
        user, nice, system, _, _, irq, softirq = Path("/proc/stat").read_text(encoding="ascii").split()[1:8]
    except OSError:
        return 0.0
    return sum(map(int, (user, nice, system, irq, softirq))) / os.sysconf("SC_CLK_TCK")


def _applied_seq(target: Postgres) -> int:
    found = read_progress(target, "bench")
    return found.applied if found is not None else 0


if __name__ == "__main__":
    main()
