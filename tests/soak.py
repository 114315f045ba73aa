"""Do: the large numbers of the models, on all cores, with progress, and one summary line a part.

    python -m tests.soak [--runs 5000] [--first 0] [--parts triggers,old,pipeline]

Exit 1 when anything was wrong, or a part ran fewer histories than asked for."""

from __future__ import annotations

import argparse
import atexit
import multiprocessing
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from adapters.postgres import Postgres
from capture.sqlite_triggers import ALL_RULES
from schemas.bookkeeping import statements
from tests.fix_old_sqlite import OldSqlite
from tests.fix_postgres import _database, start_server
from tests.model.application import ApplicationProcess
from tests.model.test_old_sqlite import verdict
from tests.model.test_pipeline import one_run
from tests.model.test_triggers import difference

LIBRARIES = ("sqlite3", "apsw", "several connections", "installed")
CHUNK = 10
SAY_S = 30.0
Task = tuple[str, int, int]
Tally = Counter[str]


class _Worker:
    """What one process keeps open between its tasks."""

    def __init__(self, url: str) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="tailrace-soak-"))
        self.old: OldSqlite | None = None
        self.application: ApplicationProcess | None = None
        self._server = url
        self._databases: Iterator[str] | None = None
        self._url = ""

    def triggers(self, library: str, seed: int) -> tuple[Tally, str]:
        found = difference(self.folder, library, seed, ALL_RULES)
        return Counter(runs=1), found

    def on_old(self, seed: int) -> tuple[Tally, str]:
        self.old = self.old or OldSqlite()
        found = verdict(self.old, self.folder, seed)
        if found is None:
            return Counter({"seeds with a newer schema": 1}), ""
        if found == "library":
            return Counter({"histories that break the library without us": 1}), ""
        return Counter(runs=1), found

    def pipeline(self, seed: int) -> tuple[Tally, str]:
        if self._databases is None:
            self._databases = _database(self._server)
            self._url = next(self._databases)
            target = Postgres(self._url, application_name="soak")
            for statement in statements():
                target.run(statement)
            target.close()
        self.application = self.application or ApplicationProcess()
        try:
            compared = one_run(self.folder, self._url, seed, self.application if seed % 4 >= 2 else None)
        except Exception as error:  # noqa: BLE001 - whatever it is, this seed is wrong and the others go on
            return Counter(runs=1), f"seed {seed}: {type(error).__name__}: {error}"
        return Counter(runs=1, comparisons=compared), ""

    def close(self) -> None:
        """The application's process ends with its parent."""
        if self.old is not None:
            self.old.close()


_worker: _Worker


def _begin(url: str) -> None:
    global _worker
    _worker = _Worker(url)
    atexit.register(_worker.close)


def _work(task: Task) -> tuple[Tally, list[str]]:
    part, first, count = task
    run: Callable[[int], tuple[Tally, str]]
    if part == "pipeline":
        run = _worker.pipeline
    elif part == "SQLite 3.8.7":
        run = _worker.on_old
    else:
        run = lambda seed: _worker.triggers(part, seed)  # noqa: E731
    tally: Tally = Counter()
    wrong = []
    for seed in range(first, first + count):
        one, found = run(seed)
        tally += one
        if found:
            wrong.append(found)
    return tally, wrong


def _part(url: str, part: str, first: int, runs: int) -> bool:
    """Run one part to its number of runs; True if nothing was wrong."""
    begun = said = time.monotonic()
    tally: Tally = Counter()
    wrong: list[str] = []

    def line() -> str:
        counts = ", ".join(f"{count:,} {what}" for what, count in tally.items() if what != "runs")
        minutes = (time.monotonic() - begun) / 60
        more = f", {counts}" if counts else ""
        return (
            f"{part}: {tally['runs']:,} of {runs:,} runs from seed {first}{more}, {len(wrong)} wrong, {minutes:.1f} min"
        )

    # Seeds whose schema 3.8 cannot have do not count as runs: there are more seeds than runs there.
    seeds = range(first, first + runs * (4 if part == "SQLite 3.8.7" else 1), CHUNK)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(os.cpu_count(), mp_context=context, initializer=_begin, initargs=(url,)) as pool:
        for done in as_completed([pool.submit(_work, (part, at, CHUNK)) for at in seeds]):
            one, found = done.result()
            tally += one
            wrong += found
            for text in found:
                print(f"WRONG in {part}: {text}", flush=True)
            if time.monotonic() - said >= SAY_S:
                said = time.monotonic()
                print(line(), flush=True)
            if tally["runs"] >= runs:
                pool.shutdown(cancel_futures=True)
                break
    print(f"= {line()}", flush=True)
    return not wrong and tally["runs"] >= runs


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--runs", type=int, default=5000)
    options.add_argument("--first", type=int, default=0)
    options.add_argument("--parts", default="triggers,old,pipeline")
    chosen = options.parse_args()
    parts: list[str] = []
    for part in chosen.parts.split(","):
        parts += {"triggers": LIBRARIES, "old": ("SQLite 3.8.7",), "pipeline": ("pipeline",)}[part]
    server, url, _ = start_server()
    try:
        right = [_part(url, part, chosen.first, chosen.runs) for part in parts]
    finally:
        server.stop()
    return 0 if all(right) else 1


if __name__ == "__main__":
    sys.exit(main())
