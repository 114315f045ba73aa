"""Do: a TCP proxy on loopback that a test slows down, cuts or swallows what goes through."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
import time
from urllib.parse import urlsplit, urlunsplit


class Proxy:
    """Forwards to one port. `delay_s` holds every piece back, `blackhole` keeps it until it is over, `cut` ends what is
    open (new connections come through, unless `refuse` ends them, too)."""

    def __init__(self, *, port: int = 0) -> None:
        self.delay_s = 0.0
        self.blackhole = False
        self.refuse = False
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]
        self._target = 0
        self._open: set[socket.socket] = set()
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self, target: int) -> None:
        self._target = target
        self._run(self._accept)

    def in_front_of(self, url: str) -> str:
        """Starts in front of the server of a URL; the URL that leads through."""
        parts = urlsplit(url)
        self.start(parts.port or 0)
        return urlunsplit(parts._replace(netloc=f"{parts.username}:{parts.password}@127.0.0.1:{self.port}"))

    def heal(self) -> None:
        self.delay_s, self.blackhole, self.refuse = 0.0, False, False

    def cut(self) -> None:
        for one in list(self._open):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._ended.set()
        self._listener.close()
        self.cut()
        for thread in self._threads:
            thread.join(timeout=5)

    def _run(self, function: object, *arguments: object) -> None:
        thread = threading.Thread(target=function, args=arguments, daemon=True)  # type: ignore[arg-type]
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ended.is_set():
            try:
                ready, _, _ = select.select([self._listener], [], [], 0.2)
                if not ready:
                    continue
                here, _ = self._listener.accept()
            except (OSError, ValueError):
                return
            if self.refuse:
                here.close()
                continue
            try:
                there = socket.create_connection(("127.0.0.1", self._target), timeout=5)
            except OSError:
                here.close()
                continue
            there.settimeout(None)  # of the connecting alone: a session that rests is no session that is cut
            self._open |= {here, there}
            self._run(self._forward, here, there)
            self._run(self._forward, there, here)

    def _forward(self, one: socket.socket, other: socket.socket) -> None:
        try:
            while not self._ended.is_set():
                piece = one.recv(65536)
                if not piece:
                    break
                if self.delay_s:
                    time.sleep(self.delay_s)
                while self.blackhole and not self._ended.is_set():
                    time.sleep(0.05)
                other.sendall(piece)
        except OSError:
            pass
        for side in (one, other):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)
            self._open.discard(side)
            side.close()
