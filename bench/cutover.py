"""Do: flip writes to PostgreSQL and back again and again under load on two files, with real daemons; count what was lost.

Every writer knows both sides and nothing of Tailrace: it tries the side that took its last write, and the other one when
that refuses. A write counts once its COMMIT has returned.

Run: python -m bench.cutover [FLIPS] [TRANSACTIONS_A_SECOND]
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import sqlite3
import statistics
import subprocess
import sys
import time
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg

from adapters.postgres import Postgres
from bench.rig import folder, postgres, say
from cli.beginning import install_source, prepare_target
from cli.content import verify_source
from cli.cutover import prepare
from cli.cutover_wiring import BackLook, actor, fence_of, rollback_of, switch_of
from cli.final import final_of
from cli.look import Looker
from cli.up import Settling
from cutover.authority import AuthorityRow
from cutover.source_fence import SourceFence
from ops.config import Config, load, sample
from schemas.errors import TailraceError

NAMES = ("auth", "cases")
WRITERS = 4
ROLES = ("capture", "sink", "snapshot")


def _write(where: str, url: str, number: int, rate: float, stop: Event, results: Any) -> None:
    """One writer process: unique rows, alternately into both sources."""
    sides: dict[str, Any] = {}
    for name in NAMES:
        sides[f"sqlite {name}"] = sqlite3.connect(f"{where}/{name}.db", isolation_level=None, timeout=1)
    sides["postgres"] = psycopg.connect(url, autocommit=True)
    at_target = False
    acked: list[tuple[str, str]] = []
    refused, strange, longest_s, serial = 0, [], 0.0, 0
    while not stop.is_set():
        serial += 1
        name, key = NAMES[serial % 2], f"{number}-{serial}"
        begun = time.perf_counter()
        while True:
            try:
                if at_target:
                    sides["postgres"].execute(f"INSERT INTO {name}.w VALUES (%s, %s)", (key, serial))
                else:
                    sides[f"sqlite {name}"].execute("INSERT INTO w VALUES (?, ?)", (key, serial))
                break
            except (sqlite3.Error, psycopg.Error) as error:
                text = str(error)
                if "tailrace-fenced" in text or getattr(error, "sqlstate", "") == "TR001":
                    refused += 1
                    at_target = not at_target
                elif "locked" in text:
                    refused += 1
                else:
                    strange.append(text)
                    break
                time.sleep(0.002)
        acked.append((name, key))
        longest_s = max(longest_s, time.perf_counter() - begun)
        time.sleep(max(0.0, 1 / rate - (time.perf_counter() - begun)))
    results.put((acked, refused, strange, longest_s))


def _daemons(config_path: Path) -> list[subprocess.Popen[bytes]]:
    command = [sys.executable, "-m", "cli.main", "-c", str(config_path)]
    return [subprocess.Popen([*command, role, "--quiet"]) for role in ROLES]


def _settle(config: Config) -> None:
    looker, settling = Looker(config, list(NAMES)), Settling()
    deadline = time.monotonic() + 120
    while not settling.look(document := looker.look()):
        if time.monotonic() > deadline:
            raise SystemExit(f"not settled: {document['blocking_reasons']}")
        time.sleep(0.1)
    looker.close()


class Flipper:
    """Switches and returns in this process, as the verbs do."""

    def __init__(self, config: Config, url: str) -> None:
        self.config = config
        self.session = Postgres(url, application_name="bench")
        self.row = AuthorityRow(self.session, actor=actor())
        self.fence: SourceFence = fence_of(config)
        self.look = BackLook(config)
        self.taken_back: list[str] = []
        self.compared_s: list[float] = []
        """Of each pause, the final verification."""

    def there(self) -> float:
        """Seconds in which nobody could write."""
        while True:
            try:
                with final_of(self.config, _quiet) as final:
                    final.catch_up()
                    switch = switch_of(self.config, self.session, self.row, self.fence, _quiet, final=final)
                    outcome = switch.run(self.row.read())
                self.compared_s.append(outcome.parts_s["verify"])
                return outcome.pause_s
            except TailraceError as error:
                self.taken_back.append(str(error.code))
                time.sleep(0.2)

    def back(self) -> float:
        rollback = rollback_of(self.config, self.session, self.row, self.fence, self.look, _quiet)
        return rollback.run(reason="bench").pause_s


def _quiet(action: str, text: str) -> None:
    del action, text


def _flips(where: Path, url: str, flips: int, rate: float) -> None:
    for name in NAMES:
        with contextlib.closing(sqlite3.connect(where / f"{name}.db")) as made:
            made.execute("PRAGMA journal_mode=WAL")
            made.execute("CREATE TABLE w(id TEXT PRIMARY KEY NOT NULL, n INTEGER)")
            made.execute("INSERT INTO w VALUES ('first', 0)")
            made.commit()
    config_path = where / "tailrace.toml"
    text = sample({name: f"{name}.db" for name in NAMES}, target_url="${TAILRACE_BENCH_TARGET}")
    config_path.write_text(f"{text}\n")
    os.environ["TAILRACE_BENCH_TARGET"] = url
    config = load(config_path)
    prepare_target(config)
    for name in NAMES:
        install_source(config, name, wal=True)
    daemons = _daemons(config_path)
    context = multiprocessing.get_context("spawn")
    stop, results = context.Event(), context.Queue()
    writers = []
    try:
        _settle(config)
        application = _application(url)
        flipper = Flipper(config, url)
        prepare(config, flipper.session)
        for name in NAMES:
            verify_source(config, name)
        for number in range(WRITERS):
            arguments = (str(where), application, number, rate / WRITERS, stop, results)
            writers.append(context.Process(target=_write, args=arguments))
            writers[-1].start()
        time.sleep(2)
        there, back = [], []
        for _ in range(flips):
            there.append(flipper.there() * 1000)
            time.sleep(0.3)
            back.append(flipper.back() * 1000)
            time.sleep(0.5)
        stop.set()
        told = [results.get(timeout=30) for _ in writers]
        for one in writers:
            one.join()
        _report(where, there, back, told, flipper.taken_back)
        compared = [seconds * 1000 for seconds in flipper.compared_s]
        say(
            "of it the final verification",
            f"p50 {statistics.median(compared):.0f} p99 {_p99(compared):.0f} max {max(compared):.0f} ms",
        )
    finally:
        stop.set()
        for one in daemons:
            one.terminate()
        for one in daemons:
            one.wait(timeout=20)


def _application(url: str) -> str:
    """A role of the application's own: the guard lets the sink's role pass."""
    with psycopg.connect(url, autocommit=True) as admin:
        admin.execute("CREATE ROLE application LOGIN PASSWORD 'application'")
        for name in NAMES:
            admin.execute(f"GRANT USAGE ON SCHEMA {name} TO application")
            admin.execute(f"GRANT ALL ON ALL TABLES IN SCHEMA {name} TO application")
    return "postgresql://application:application@" + url.split("@")[1]


def _report(where: Path, there: list[float], back: list[float], told: list[Any], taken_back: list[str]) -> None:
    acked = [one for own, *_ in told for one in own]
    strange = [text for _, _, texts, _ in told for text in texts]
    present: set[tuple[str, str]] = set()
    for name in NAMES:
        with contextlib.closing(sqlite3.connect(where / f"{name}.db")) as source:
            present |= {(name, key) for (key,) in source.execute("SELECT id FROM w WHERE id <> 'first'")}
    lost = set(acked) - present
    say(
        f"{len(there)} switches under load: pause",
        f"p50 {statistics.median(there):.0f} p99 {_p99(there):.0f} max {max(there):.0f} ms",
        floor=f"{len(taken_back)} taken back and tried again",
        reach="reach p99 <= 1000 ms",
    )
    say(
        f"{len(back)} rollbacks under load",
        f"p50 {statistics.median(back):.0f} p99 {_p99(back):.0f} max {max(back):.0f} ms",
        reach="reach <= 2000 ms",
    )
    refused, longest = sum(one for _, one, _, _ in told), max(one for *_, one in told)
    say(
        "acknowledged writes lost / unknown / doubled",
        f"{len(lost)} / {len(present - set(acked))} / {len(acked) - len(set(acked))}",
        floor=f"of {len(acked):,}; {refused:,} refused and tried again",
        reach="reach 0 / 0 / 0",
    )
    say("longest time one write took", f"{longest * 1000:.0f} ms", floor=f"{len(strange)} other errors {strange[:1]}")
    if lost or present - set(acked):
        raise SystemExit("writes were lost or came from nowhere")


def _p99(values: list[float]) -> float:
    return sorted(values)[min(len(values) - 1, int(len(values) * 0.99))]


def main() -> None:
    flips = int(sys.argv[1]) if len(sys.argv) > 1 else 50
    rate = float(sys.argv[2]) if len(sys.argv) > 2 else 200.0
    with folder() as where, postgres(where) as url:
        _flips(where, url, flips, rate)


if __name__ == "__main__":
    main()
