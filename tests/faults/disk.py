"""Do: a disk that fills up: a small file system of its own, or, without root, a limit on what processes may write."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def small_file_system(megabytes: int) -> Iterator[Path | None]:
    """A tmpfs; None: this user may not mount one, or TAILRACE_FULL_DISK=limit asks for what is done then."""
    if os.geteuid() != 0 or os.environ.get("TAILRACE_FULL_DISK") == "limit":
        yield None
        return
    folder = Path(tempfile.mkdtemp(prefix="tailrace-disk-"))
    folder.chmod(0o755)  # a server of another user must come through
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        folder.rmdir()
        yield None
        return
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
        folder.rmdir()


def fill(folder: Path) -> Path:
    """Returns the file that takes all the room."""
    junk = folder / "junk"
    # Unbuffered: a buffered file would fail once more when it is closed.
    with junk.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        for size in (65536, 512):
            with contextlib.suppress(OSError):
                while file.write(b"x" * size):
                    pass
    return junk


def limit(pids: Iterable[int], limit_bytes: int | None) -> None:
    """No file of these processes grows above so many bytes (Python ignores SIGXFSZ: the write fails); None: it may."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            soft = hard if limit_bytes is None else limit_bytes
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (soft, hard))
