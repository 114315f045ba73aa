"""Do: an exclusive lock on a file of its own, with the holder's pid in it; freed by the kernel when the holder dies."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

from schemas.errors import Code, Refusal


class FileLock:
    """Held from `take` until `release` or the end of the process.

    Args:
        code: of the refusal.
        what: what another process already does, for its text.
    """

    def __init__(
        self, path: Path, *, code: Code = Code.CAPTURE_LOCKED, what: str = "another capture already tails this database"
    ) -> None:
        self._path = path
        self._code = code
        self._what = what
        self._descriptor: int | None = None

    def take(self, *, source: str | None = None, wait_s: float = 0.0) -> None:
        """Raises Refusal(code) naming the pid that still holds it after `wait_s`."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _locked(descriptor, time.monotonic() + wait_s):
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Refusal(
                self._code,
                f"{self._what} (pid {holder})",
                source=source,
                hint=f"stop process {holder} first",
            )
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        self._descriptor = descriptor

    def release(self, *, remove: bool = False) -> None:
        """`remove`: the file goes too, while the lock is still held, when nothing will be captured here any more."""
        if self._descriptor is not None:
            if remove:
                self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def _locked(descriptor: int, deadline_s: float) -> bool:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            if time.monotonic() >= deadline_s:
                return False
            time.sleep(0.05)
