"""Do: ask URLs and commands whether they are well, each in a thread of its own, so that one that hangs holds nobody up.

Invariant: an answer is of now or it is none: one that did not come within its time counts as "does not answer", and before
the first could come it is unknown (test_a_probe_that_hangs_is_no_answer). No text of a command's output is kept: it may
hold anything.
"""

from __future__ import annotations

import shlex
import subprocess
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from schemas.errors import TailraceError

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

    def ask() -> str:
        try:
            with urllib.request.urlopen(address(), timeout=timeout_s) as answer:
                return "" if 200 <= answer.status < 300 else f"answers {answer.status}"
        except urllib.error.HTTPError as error:
            return f"answers {error.code}"
        except TailraceError as error:
            return f"cannot be asked ({error.code})"
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None)
            return f"does not answer ({type(reason if isinstance(reason, Exception) else error).__name__})"

    return ask


def command(text: str, *, folder: Path, timeout_s: float) -> Ask:
    """0 is well. Without a shell."""

    def ask() -> str:
        try:
            done = subprocess.run(
                shlex.split(text), cwd=folder, timeout=timeout_s, check=False, stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            return f"does not end within {timeout_s:g} s"
        except (OSError, ValueError) as error:
            return f"cannot be run ({type(error).__name__})"
        return "" if done.returncode == 0 else f"ends with {done.returncode}"

    return ask
