"""Do: tell systemd how a daemon is: a datagram to NOTIFY_SOCKET (sd_notify(3)); without that variable nothing happens.

Invariant: a daemon never fails because nobody listens: systemd then ends it by its own time-out, with its own message.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time


class Notifier:
    """States of one daemon.

    Args:
        step_s: how long one step of this daemon may take; the unit's WatchdogSec is stretched to it.
    """

    def __init__(self, *, step_s: float) -> None:
        self._address = os.environ.get("NOTIFY_SOCKET", "")
        self._watched_us = int(os.environ.get("WATCHDOG_USEC", "0") or "0")
        self._step_us = int(step_s * 1_000_000)

    def ready(self, status: str) -> None:
        watch = [f"WATCHDOG_USEC={self._step_us}"] if 0 < self._watched_us < self._step_us else []
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}", *watch)

    def alive(self, status: str) -> None:
        self._send(*(["WATCHDOG=1"] if self._watched_us else []), f"STATUS={status}")

    def reloading(self) -> None:
        self._send("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        # '@' stands for the zero byte of an abstract address.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as said:
            said.sendto("\n".join(lines).encode(), address)
