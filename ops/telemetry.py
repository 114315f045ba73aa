"""Do: events with a stable action name, as lines that carry the level word, to files and to the terminal.

Invariant: an event's text comes from our own errors and names, never from row values or connection strings; passwords in
URLs are masked once more here, where everything passes.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path

WAITING_LINES = 1000
"""Kept while the log cannot be written; the oldest go first."""
MAX_LOG_BYTES = 64 << 20
"""Weeks of following write a line a second; a log must not be what fills the disk."""
KEPT_LOGS = 3
"""Of each log, besides the one that is written: NAME.1 is the youngest."""
PERFORMANCE = "performance.log"
_PASSWORD = re.compile(r"(://[^:/@\s]+:)[^@\s]+@")


def masked(text: str) -> str:
    return _PASSWORD.sub(r"\1***@", text)


class Telemetry:
    """Writes events of one process. `folder` None: only the terminal.

    `migration.log` has every event, `error.log` those of level error, `rollback.log` what brings back; figures that come
    every few seconds have `performance.log` to themselves.
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

    def event(self, action: str, text: str, *, level: str = "info", log: str = "", **context: object) -> None:
        """`log`: a file of its kind, beside `migration.log`; of performance instead of it."""
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
            files = [log] if log == PERFORMANCE else ["migration.log", *([log] if log else [])]
            self._waiting += [(name, line) for name in (*files, *(["error.log"] if level == "error" else []))]
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

    def bound(self, **context: object) -> Callable[[str, str], None]:
        """The same, with a context that every event of it carries."""

        def say(action: str, text: str) -> None:
            self.event(action, text, level="info", log="", **context)

        return say


def _append(path: Path, line: str, *, torn: bool) -> bool:
    """False: it is not there as a whole. `torn`: half a line may stand at the end, and gets an end of its own."""
    raw = (("\n" if torn else "") + line + "\n").encode(errors="backslashreplace")
    try:
        if path.exists() and path.stat().st_size >= MAX_LOG_BYTES:
            _step_aside(path)
        with path.open("ab", buffering=0) as file:
            return file.write(raw) == len(raw)
    except OSError:
        return False


def _step_aside(path: Path) -> None:
    """NAME becomes NAME.1, and so on. Several daemons write the file, each opening it anew for a line."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        # Another process may have been quicker: then this is no longer the file of that name.
        if not path.exists() or os.fstat(file.fileno()).st_ino != path.stat().st_ino:
            return
        for number in range(KEPT_LOGS - 1, 0, -1):
            older = path.with_name(f"{path.name}.{number}")
            if older.exists():
                older.replace(path.with_name(f"{path.name}.{number + 1}"))
        path.replace(path.with_name(f"{path.name}.1"))


def _word(value: object) -> str:
    """A value behind `name=`, in one word: names of tables may hold anything."""
    text = str(value)
    return text if re.fullmatch(r"[^\s\"=]+", text) else json.dumps(text)


class NewErrors:
    """What `error.log` gets from now on, each text once: a loop that fails every second says the same for ever."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "error.log"
        self._at, self._inode = 0, 0
        if self._path.exists():
            self._at, self._inode = self._path.stat().st_size, self._path.stat().st_ino
        self._said: set[str] = set()

    def look(self) -> list[str]:
        former = self._path.with_name(f"{self._path.name}.1")
        lines: list[str] = []
        if former.exists() and former.stat().st_ino == self._inode:
            lines += self._rest(former)  # it stepped aside since the last look
            self._at, self._inode = 0, 0
        if self._path.exists():
            self._inode = self._path.stat().st_ino
            lines += self._rest(self._path)
        texts = [line.partition(" ")[2] for line in lines]
        fresh = [text for text in dict.fromkeys(texts) if text not in self._said]
        self._said.update(fresh)
        return fresh

    def _rest(self, path: Path) -> list[str]:
        with path.open("rb") as file:
            file.seek(self._at)
            whole, newline, _ = file.read().rpartition(b"\n")
        self._at += len(whole) + len(newline)
        return whole.decode(errors="replace").splitlines()
