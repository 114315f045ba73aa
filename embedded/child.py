"""Do: one server as a child process in a folder of its own, in a session of its own: a terminal's Ctrl-C does not reach it.

Invariant: what it says is in `server.log` of its folder, and `stop` waits until it is gone.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

TAIL_LINES = 3


class Child:
    """Args:
    folder: its log, configuration and data live here.
    stop_signal: what asks this server for a clean shutdown.
    stop_s: how long that may take before it is killed.
    """

    def __init__(self, folder: Path, *, stop_signal: signal.Signals = signal.SIGTERM, stop_s: float) -> None:
        self._folder = folder
        self._stop_signal = stop_signal
        self._stop_s = stop_s
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def stop(self) -> None:
        """Clean shutdown; waits until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(self._stop_signal)
        try:
            process.wait(timeout=self._stop_s)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """kill -9, as a crash would; its own children notice by themselves."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def _launch(self, command: Sequence[str], **options: Any) -> None:
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                **options,
            )

    def _alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _listens(self, *, within_s: float) -> bool:
        """Wait until somebody answers on our port; False: the time has passed, or the process is gone."""
        deadline = time.monotonic() + within_s
        while time.monotonic() < deadline and self._alive():
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return True
            time.sleep(0.02)
        return False

    def _said(self) -> str:
        """The end of its log."""
        return tail((self._folder / "server.log").read_bytes())


def tail(raw: bytes) -> str:
    return " | ".join(raw.decode(errors="replace").strip().splitlines()[-TAIL_LINES:])


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
