"""Do: the sample application at work on whichever side the router names: processes with threads, each a user with a session.

After every transaction that was acknowledged, one line `NAME KIND SIDE` goes to `routed-N.acks`; whatever must not happen
(an error, an own write that cannot be read, a lost session) goes to `routed-N.errors`.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

from examples.legal_cases import repository
from examples.legal_cases.build import LEDGER_ACCOUNTS, LEDGER_TOTAL, document, title
from examples.legal_cases.repository import PostgresPool, SqliteStore, Store
from tailrace_router import FolderReports, Marker, Router, Side

STOP_FILE = "routed.stop"
URL_VARIABLE = "LEGAL_CASES_POSTGRES"
"""The application's own login: a password does not belong into arguments."""
POOL = 5
"""Connections of one process to PostgreSQL, for all its users."""
LOOK_S = 0.1
Transaction = Callable[[Store], dict[str, int] | None]


class User:
    """One thread."""

    def __init__(self, work: Work, number: int) -> None:
        self.work = work
        self.user = 1 + (work.number * work.threads + number) % 100
        self.key = f"{work.number}-{number}"
        self.rng = random.Random(f"{work.seed}:{self.key}")
        self.stores: dict[Side, Store] = {}
        self.made = 0
        self.token = ""

    def run(self) -> None:
        # Here and not before: a connection of SQLite belongs to the thread that opened it.
        source = SqliteStore(self.work.folder)
        self.stores = {Side.SOURCE: source, Side.TARGET: self.work.pool}
        while not self.work.over.is_set():
            try:
                self.step()
            except Exception as error:  # noqa: BLE001 - it is what a test looks for
                self.work.error(f"{self.key}: {type(error).__name__}: {error}")
            self.work.over.wait(self.rng.expovariate(self.work.rate))
        source.close()

    def step(self) -> None:
        if not self.token or self.rng.random() < 0.1:
            self.token, _ = self.write("login", lambda store: repository.log_in(store, self.name(), self.user))
        name, marker = self.write(*self.chosen())
        with self.work.router.read(self.key, after=marker) as side:
            if repository.times_done(self.stores[side], name) != 1:
                self.work.error(f"{name}: an own write is not at the {side} once")
        with self.work.router.read(self.key) as side:
            if not repository.logged_in(self.stores[side], self.token):
                self.work.error(f"{self.token}: the session is not at the {side}")
        # Somebody who only reads: nothing keeps this one on the side of a write.
        with self.work.router.read(f"reader {self.rng.randrange(1000)}") as side:
            if repository.money(self.stores[side]) != LEDGER_TOTAL:
                self.work.error(f"the ledger at the {side} does not add up")

    def write(self, kind: str, transaction: Transaction) -> tuple[str, Marker]:
        """One transaction to its end; acknowledged when this returns."""
        self.made += 1

        def on(side: Side) -> tuple[Side, dict[str, int] | None]:
            return side, transaction(self.stores[side])

        side, positions = self.work.router.retrying(on, for_s=60.0)
        self.work.acknowledged(f"{self.name()} {kind} {side}")
        return self.name(), self.work.router.wrote(self.key, side, positions)

    def name(self) -> str:
        return f"{self.work.seed}-{self.key}-{self.made:05d}"

    def chosen(self) -> tuple[str, Transaction]:
        chance, rng = self.rng.random(), self.rng
        words, body = title(rng), document(rng)
        accounts, amount = rng.sample(range(1, LEDGER_ACCOUNTS + 1), 2), rng.randrange(-50, 50)
        # One row counts all cases: were they added more often, it would never stand still for a verification.
        kinds: list[tuple[str, Transaction, int]] = [
            ("add", lambda store: repository.add_case(store, self.name(), words), 12),
            ("change", lambda store: repository.change_case(store, self.name(), chance), 30),
            ("remove", lambda store: repository.remove_case(store, self.name(), chance), 3),
            ("replace", lambda store: repository.replace_document(store, self.name(), chance, body), 20),
            ("money", lambda store: repository.move_money(store, self.name(), accounts, amount), 35),
        ]
        kind, transaction, _ = rng.choices(kinds, weights=[weight for *_, weight in kinds])[0]
        return kind, transaction


class Work:
    """One process."""

    def __init__(self, folder: Path, number: int, *, threads: int, rate: float, seed: int, parent: int) -> None:
        self.folder = folder
        self.number = number
        self.threads = threads
        self.rate = rate
        self.seed = seed
        self.pool = PostgresPool(os.environ[URL_VARIABLE], size=POOL)
        self._parent = parent
        self._lock = threading.Lock()
        self.over = threading.Event()
        self._acks = (folder / f"routed-{number}.acks").open("a", buffering=1)
        self._errors = (folder / f"routed-{number}.errors").open("a", buffering=1)
        run = folder / ".tailrace"
        self.router = Router(run / "route.json", reports=[FolderReports(run / "router")])

    def run(self) -> None:
        users = [User(self, number) for number in range(self.threads)]
        threads = [threading.Thread(target=user.run) for user in users]
        for thread in threads:
            thread.start()
        while not self.ended():
            time.sleep(LOOK_S)
        self.over.set()
        for thread in threads:
            thread.join()
        self.router.close()
        self.pool.close()
        self._acks.close()
        self._errors.close()

    def ended(self) -> bool:
        return (self.folder / STOP_FILE).exists() or self._parent not in (0, os.getppid())

    def acknowledged(self, line: str) -> None:
        with self._lock:
            self._acks.write(line + "\n")

    def error(self, text: str) -> None:
        with self._lock:
            self._errors.write(text.replace("\n", " | ") + "\n")


def start(
    folder: Path, url: str, *, processes: int, threads: int, rate: float, seed: int = 1
) -> list[subprocess.Popen[bytes]]:
    """`rate`: steps a second, of all together. They end when `STOP_FILE` is there, or their parent is gone."""
    one = rate / (processes * threads)
    command = [sys.executable, "-m", "examples.legal_cases.routed", str(folder), "--threads", str(threads)]
    command += ["--rate", str(one), "--seed", str(seed), "--parent", str(os.getpid())]
    path = os.pathsep.join(one for one in sys.path if one)
    environment = {**os.environ, URL_VARIABLE: url, "PYTHONPATH": path}
    return [subprocess.Popen([*command, "--number", str(number)], env=environment) for number in range(processes)]


def main() -> None:
    parser = argparse.ArgumentParser(description="Work on the sample databases through the router.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--threads", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1.0, help="Steps a second of each thread.")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--parent", type=int, default=0, help="End when this process is gone; 0: nobody is watched.")
    chosen = parser.parse_args()
    Work(
        chosen.folder,
        chosen.number,
        threads=chosen.threads,
        rate=chosen.rate,
        seed=chosen.seed,
        parent=chosen.parent,
    ).run()


if __name__ == "__main__":
    main()
