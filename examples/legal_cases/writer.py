"""Do: live writers of the sample application, several processes that know nothing of any replication.

Each acknowledged transaction is written as one line to `writer-N.acks`, after its COMMIT returned.
"""

from __future__ import annotations

import argparse
import os
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from examples.legal_cases.build import LEDGER_ACCOUNTS, document, title

BUSY_TIMEOUT_S = 5.0


class Writer:
    """One process's connections and its random choices."""

    def __init__(self, folder: Path, number: int, seed: int) -> None:
        self.rng = random.Random(f"{seed}:{number}")
        self.number = number
        self.made = 0
        self.cases = self._open(folder / "cases.db")
        self.auth = self._open(folder / "auth.db")

    def _open(self, path: Path) -> sqlite3.Connection:
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        connection.execute("PRAGMA foreign_keys=ON")
        return connection

    def step(self) -> str:
        """One transaction; returns its name."""
        steps: list[tuple[Callable[[], None], sqlite3.Connection, int]] = [
            (self._add_case, self.cases, 25),
            (self._change_case, self.cases, 20),
            (self._remove_case, self.cases, 5),
            (self._move_money, self.cases, 20),
            (self._replace_document, self.cases, 10),
            (self._rename_case, self.cases, 4),
            (self._log_in, self.auth, 12),
            (self._change_user, self.auth, 4),
        ]
        chosen, connection, _ = self.rng.choices(steps, weights=[weight for *_, weight in steps])[0]
        connection.execute("BEGIN IMMEDIATE")
        try:
            chosen()
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise
        return chosen.__name__.strip("_")

    def _some_case(self) -> int:
        """A case that is there; a new one where all were removed."""
        low, high = self.cases.execute("SELECT min(id), max(id) FROM cases").fetchone()
        if low is None:
            self._add_case()
            return self._some_case()
        wanted = self.rng.randrange(low, high + 1)
        return int(self.cases.execute("SELECT id FROM cases WHERE id >= ? LIMIT 1", (wanted,)).fetchone()[0])

    def _add_case(self) -> None:
        self.made += 1
        reference = f"W{self.number}-{self.made:06d}-{self.rng.randrange(10**6)}"
        cursor = self.cases.execute(
            "INSERT INTO cases(reference, title, amount, notes) VALUES (?, ?, ?, ?)",
            (reference, title(self.rng), self.rng.random() * 1000, self.rng.choice([None, 7, "late", b"\x00\x01"])),
        )
        self.cases.execute(
            "INSERT INTO parties VALUES (?, 'claimant', ?, NULL)",
            (cursor.lastrowid, f"Party {self.rng.randrange(500)}"),
        )

    def _change_case(self) -> None:
        status = self.rng.choice(["open", "stayed", "closed"])
        self.cases.execute("UPDATE cases SET status = ?, urgent = 1 - urgent WHERE id = ?", (status, self._some_case()))

    def _remove_case(self) -> None:
        self.cases.execute("DELETE FROM cases WHERE id = ?", (self._some_case(),))

    def _rename_case(self) -> None:
        """A change of case only under NOCASE, and of a key with a cascade now and then."""
        case = self._some_case()
        self.cases.execute("UPDATE OR IGNORE cases SET reference = upper(reference) WHERE id = ?", (case,))
        taken = self.cases.execute("SELECT 1 FROM cases WHERE id = ?", (-case,)).fetchone()
        if not taken and self.rng.random() < 0.3:
            self.cases.execute("UPDATE cases SET id = -id WHERE id = ?", (case,))

    def _move_money(self) -> None:
        amount = self.rng.randrange(1, 50)
        one, other = self.rng.sample(range(1, LEDGER_ACCOUNTS + 1), 2)
        self.cases.execute("UPDATE ledger SET balance = balance - ? WHERE account = ?", (amount, one))
        self.cases.execute("UPDATE ledger SET balance = balance + ? WHERE account = ?", (amount, other))

    def _replace_document(self) -> None:
        """REPLACE that displaces another row through UNIQUE (case_id, title)."""
        self.cases.execute(
            "INSERT OR REPLACE INTO documents(id, case_id, title, sha256, body) VALUES (?, ?, ?, 'x', ?)",
            (self.rng.randbytes(8).hex(), self._some_case(), f"Exhibit {self.rng.randrange(3)}", document(self.rng)),
        )

    def _log_in(self) -> None:
        user = self.rng.randrange(1, 121)
        if self.auth.execute("SELECT 1 FROM users WHERE id = ?", (user,)).fetchone():
            token = self.rng.randbytes(16).hex()
            self.auth.execute("INSERT INTO sessions VALUES (?, ?, 1900000000, NULL)", (token, user))
            self.auth.execute("UPDATE users SET last_login = ? WHERE id = ?", (self.rng.random() * 1e9, user))

    def _change_user(self) -> None:
        self.auth.execute(
            "INSERT INTO users(id, email, password_hash) VALUES (?, ?, 'reset') "
            "ON CONFLICT(email) DO UPDATE SET locked = 1 - locked",
            (None, f"user{self.rng.randrange(1, 140)}@example.invalid"),
        )


def run(folder: Path, number: int, *, seed: int, seconds: float, rate: float, parent: int = 0) -> int:
    """Write for a while at `rate` transactions a second; returns how many were acknowledged."""
    writer = Writer(folder, number, seed)
    ends = time.monotonic() + seconds
    done = 0
    with (folder / f"writer-{number}.acks").open("a", buffering=1) as acks:
        while time.monotonic() < ends and parent in (0, os.getppid()):
            try:
                acks.write(f"{writer.step()}\n")
                done += 1
            except sqlite3.OperationalError as error:
                if "locked" not in str(error):
                    raise
            time.sleep(max(0.0, writer.rng.expovariate(rate)) if rate else 0)
    return done


def start(folder: Path, *, processes: int, seed: int, seconds: float, rate: float) -> list[subprocess.Popen[bytes]]:
    """Start that many writer processes; the caller waits for them."""
    command = [sys.executable, "-m", "examples.legal_cases.writer", str(folder), "--seed", str(seed)]
    command += ["--parent", str(os.getpid())]
    return [
        subprocess.Popen(
            [*command, "--seconds", str(seconds), "--rate", str(rate / processes), "--number", str(number)]
        )
        for number in range(processes)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write to the sample databases as the application would.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--rate", type=float, default=100, help="Transactions a second, 0: as fast as it goes.")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--number", type=int, default=0)
    parser.add_argument("--parent", type=int, default=0, help="End when this process is gone; 0: nobody is watched.")
    chosen = parser.parse_args()
    if chosen.processes > 1:
        children = start(
            chosen.folder, processes=chosen.processes, seed=chosen.seed, seconds=chosen.seconds, rate=chosen.rate
        )
        sys.exit(max(child.wait() for child in children))
    run(
        chosen.folder,
        chosen.number,
        seed=chosen.seed,
        seconds=chosen.seconds,
        rate=chosen.rate,
        parent=chosen.parent,
    )


if __name__ == "__main__":
    main()
