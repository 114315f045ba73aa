"""Do: run the daemons as child processes, start them again when they die, and take them along when we end.

Invariant: a child that ends with a refusal (exit 3) or a wrong configuration (exit 2) is not started again; its reason is
kept. Children watch their parent through a pipe: when the parent is killed they stop by themselves.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import IO

PARENT_FD = "TAILRACE_PARENT_FD"
RESTART_MIN_S = 0.2
RESTART_MAX_S = 10.0
STOP_S = 10.0
LAST_WORDS_BYTES = 4096


@dataclass(slots=True)
class Child:
    name: str
    argv: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0
    due_s: float = 0.0
    ended: int | None = None
    """Exit code of a child that is not started again."""
    last_words: IO[bytes] | None = None
    """What it writes to stderr: a child that dies before its log is open has no other place to say why."""
    environment: dict[str, str] = field(default_factory=dict)


class Supervisor:
    """Children by name. `look` is called regularly by the parent's own loop."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self._read_end, self._write_end = os.pipe()
        os.set_inheritable(self._read_end, True)

    def start(self) -> None:
        for child in self.children:
            self._start(child)

    def _start(self, child: Child) -> None:
        if child.last_words is not None:
            child.last_words.close()
        child.last_words = tempfile.TemporaryFile()  # noqa: SIM115 - read when the child has ended
        child.process = subprocess.Popen(
            list(child.argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=child.last_words,
            env={**os.environ, **child.environment, PARENT_FD: str(self._read_end)},
            pass_fds=(self._read_end,),
        )

    def look(self) -> list[str]:
        """Start dead children again; returns a line for each that died."""
        lines = []
        now_s = time.monotonic()
        for child in self.children:
            process = child.process
            if process is not None and (code := process.poll()) is not None:
                child.process = None
                if code in (2, 3):
                    child.ended = code
                    lines.append(f"{child.name} refused to go on (exit {code})")
                    continue
                child.restarts += 1
                child.due_s = now_s + min(RESTART_MAX_S, RESTART_MIN_S * 2 ** min(child.restarts - 1, 8))
                lines.append(f"{child.name} ended with {code}{_why(child)}; it is started again")
            if child.process is None and child.ended is None and child.due_s <= now_s:
                self._start(child)
        return lines

    @property
    def refused(self) -> Child | None:
        return next((child for child in self.children if child.ended is not None), None)

    def stop(self) -> None:
        """SIGTERM to all, SIGKILL to those that do not follow; only processes started here."""
        running = [child.process for child in self.children if child.process is not None]
        for process in running:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        for process in running:
            try:
                process.wait(timeout=max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for child in self.children:
            if child.last_words is not None:
                child.last_words.close()
        for descriptor in (self._read_end, self._write_end):
            os.close(descriptor)


def _why(child: Child) -> str:
    """The last line that it wrote."""
    if child.last_words is None:
        return ""
    child.last_words.seek(max(0, os.fstat(child.last_words.fileno()).st_size - LAST_WORDS_BYTES))
    said = [line.strip() for line in child.last_words.read().decode(errors="replace").splitlines() if line.strip()]
    return f" ({said[-1][:200]})" if said else ""


def supervised() -> bool:
    """Was this process started by a supervisor?"""
    return PARENT_FD in os.environ


def parent_alive() -> bool:
    """In a child: does the supervisor that started us still hold its end of the pipe? True without a supervisor."""
    descriptor = os.environ.get(PARENT_FD)
    if descriptor is None:
        return True
    readable, _, _ = select.select([int(descriptor)], [], [], 0)
    return not readable


__all__ = ["Child", "Supervisor", "parent_alive", "supervised"]
