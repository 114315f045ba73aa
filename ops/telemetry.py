"""Do: events with a stable action name, as lines that carry the level word, to files and to the terminal.

Invariant: an event's text comes from our own errors and names, never from row values or connection strings; passwords in
URLs are masked once more here, where everything passes.
"""

from __future__ import annotations

import contextlib
import json
import re
import sys
import time
from collections import deque
from pathlib import Path

WAITING_LINES = 1000
"""Kept while the log cannot be written; the oldest go first."""

_PASSWORD = re.compile(r"(://[^:/@\s]+:)[^@\s]+@")


def masked(text: str) -> str:
    return _PASSWORD.sub(r"\1***@", text)


class Telemetry:
    """Writes events of one process. `folder` None: only the terminal.

    `migration.log` has every event, `error.log` those of level error.
    """

    def __init__(
        self, process: str, *, folder: Path | None = None, terminal: bool = True, as_json: bool = False
    ) -> None:
        self._process = process
        self._folder = folder
        self._terminal = terminal
        self._json = as_json
        self._waiting: deque[tuple[str, str]] = deque()
        self._dropped = 0
        self._torn = False
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)

    def event(self, action: str, text: str, *, level: str = "info", **context: object) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000_000 % 1000:03d}Z"
        text = text.replace("\n", " | ")
        if self._json:
            line = json.dumps(
                {"at": stamp, "level": level, "process": self._process, "action": action, "text": text, **context},
                default=str,
            )
        else:
            words = [text, *(f"{name}={_word(value)}" for name, value in context.items())]
            line = f"{stamp} {level.upper()} {self._process} {action}: {' '.join(word for word in words if word)}"
        line = masked(line)
        if self._terminal:
            with contextlib.suppress(OSError):  # a terminal that was closed; the files have the line, too
                print(line, file=sys.stderr, flush=True)
        if self._folder is not None:
            self._waiting += [(name, line) for name in ("migration.log", *(("error.log",) if level == "error" else ()))]
            self._write(self._folder)

    def _write(self, folder: Path) -> None:
        """Whatever waits, oldest first. A log that cannot be written must not end what it tells of: on a full disk it waits
        here for room, and how much was too old to wait longer is said (test_a_full_disk_under_the_log_ends_nothing)."""
        while self._waiting and _append(folder / self._waiting[0][0], self._waiting[0][1], torn=self._torn):
            self._waiting.popleft()
            self._torn = False
        if not self._waiting and self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.event("telemetry.gap", f"{dropped} lines could not be written here", level="warning")
            return
        self._torn = self._torn or bool(self._waiting)
        while len(self._waiting) > WAITING_LINES:
            self._waiting.popleft()
            self._dropped += 1

    def say(self, action: str, text: str) -> None:
        """The two-argument form that steppers take."""
        self.event(action, text)


def _append(path: Path, line: str, *, torn: bool) -> bool:
    """False: it is not there as a whole. `torn`: half a line may stand at the end, and gets an end of its own."""
    raw = (("\n" if torn else "") + line + "\n").encode(errors="backslashreplace")
    try:
        with path.open("ab", buffering=0) as file:
            return file.write(raw) == len(raw)
    except OSError:
        return False


def _word(value: object) -> str:
    """A value behind `name=`, in one word: names of tables may hold anything."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text)


class NewErrors:
    """What `error.log` gets from now on, each text once: a loop that fails every second says the same for ever."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "error.log"
        self._at = self._path.stat().st_size if self._path.exists() else 0
        self._said: set[str] = set()

    def look(self) -> list[str]:
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        texts = [line.partition(" ")[2] for line in whole.decode(errors="replace").splitlines()]
        fresh = [text for text in dict.fromkeys(texts) if text not in self._said]
        self._said.update(fresh)
        return fresh
