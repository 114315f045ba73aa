"""Do: an exclusive lock on a file of its own, with the holder's pid in it; freed by the kernel when the holder dies."""

from __future__ import annotations

import fcntl
import os
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

    def take(self, *, source: str | None = None) -> None:
        """Raises Refusal(code) naming the pid that holds it."""
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(descriptor, 32).decode(errors="replace").strip() or "unknown"
            os.close(descriptor)
            raise Refusal(
                self._code,
                f"{self._what} (pid {holder})",
                source=source,
                hint=f"stop process {holder} first",
            ) from None
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
