"""Do: ask URLs and commands whether they are well, each in a thread of its own, so that one that hangs holds nobody up.

Invariant: an answer is of now or it is none: one that did not come within its time counts as "does not answer", and before
the first could come it is unknown (test_a_probe_that_hangs_is_no_answer). No text of a command's output is kept: it may
hold anything.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from ops.outside import ask_url, run_command

CLOSE_S = 1.0
Ask = Callable[[], str]
"""What is wrong; empty: nothing."""


class Probe:
    """One question, asked every `interval_s`. `timeout_s`: how long its answer may take."""

    def __init__(self, ask: Ask, *, interval_s: float, timeout_s: float) -> None:
        self._ask = ask
        self._interval_s = interval_s
        self._timeout_s = timeout_s
        self._asked_at_s = time.monotonic()
        self._answered_at_s = 0.0
        self._answer: str | None = None
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="probe", daemon=True)
        self._thread.start()

    def answer(self) -> str | None:
        """The last one; None: none yet."""
        waited_s = time.monotonic() - self._asked_at_s
        if self._answered_at_s < self._asked_at_s and waited_s > self._timeout_s + 1.0:
            return f"does not answer for {waited_s:.0f} s"
        return self._answer

    def close(self) -> None:
        """A question that hangs ends by itself, and nobody hears it."""
        self._stopped.set()
        self._thread.join(CLOSE_S)

    def _run(self) -> None:
        while not self._stopped.is_set():
            self._asked_at_s = time.monotonic()
            answer = self._ask()
            self._answer = answer
            self._answered_at_s = time.monotonic()
            self._stopped.wait(self._interval_s)


class Probes:
    """Several, by name."""

    def __init__(self, asks: Mapping[str, Ask], *, interval_s: float, timeout_s: float) -> None:
        self._probes = {name: Probe(ask, interval_s=interval_s, timeout_s=timeout_s) for name, ask in asks.items()}

    def answers(self) -> dict[str, str | None]:
        return {name: probe.answer() for name, probe in self._probes.items()}

    def close(self) -> None:
        for probe in self._probes.values():
            probe.close()


def url(address: Callable[[], str], *, timeout_s: float) -> Ask:
    """200 to 299 is well. `address`: asked each time, since it may hold a secret; no error names it."""
    return partial(ask_url, address, timeout_s=timeout_s)


def command(text: str, *, folder: Path, timeout_s: float) -> Ask:
    """0 is well. Without a shell."""
    return partial(run_command, text, folder=folder, timeout_s=timeout_s)
