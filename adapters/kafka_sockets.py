"""Do: close every socket that a client of kafka-python opened and forgot (3.0.12: those of handshakes that fail, and of writes
that are cancelled when it is closed).

Invariant: whatever the client's selector or its TLS context has seen is closed with the client, also with one that was never
made whole (test_no_socket_stays_open_behind_a_client).
"""

from __future__ import annotations

import selectors
import ssl
from collections.abc import Mapping
from typing import Any

from kafka.net.transport import KafkaSSLTransport


class Sockets:
    """Of one client; used by the client's own thread alone."""

    def __init__(self) -> None:
        self._watched: list[Any] = []

    def selector(self) -> selectors.BaseSelector:
        watch, close_all = self._watch, self._close_all

        class Watching(selectors.DefaultSelector):
            def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
                watch(fileobj)
                return super().register(fileobj, events, data)

            def close(self) -> None:
                super().close()
                close_all()

        return Watching()

    def context(self, settings: Mapping[str, Any]) -> ssl.SSLContext:
        """The client's own context: a handshake that fails at once never reaches the selector."""
        watch = self._watch

        class Watched(ssl.SSLSocket):
            def do_handshake(self, block: bool = False) -> None:
                watch(self)
                super().do_handshake(block)

        known = {name: settings[name] for name in KafkaSSLTransport.DEFAULT_CONFIG if name in settings}
        made: ssl.SSLContext = KafkaSSLTransport._build_ssl_context({**KafkaSSLTransport.DEFAULT_CONFIG, **known})
        made.sslsocket_class = Watched
        return made

    def _watch(self, fileobj: Any) -> None:
        if not any(one is fileobj for one in self._watched):
            self._watched = [*(one for one in self._watched if one.fileno() != -1), fileobj]

    @property
    def open(self) -> bool:
        return any(one.fileno() != -1 for one in self._watched)

    def close(self) -> None:
        """Also of a client whose making failed: it never came to close its selector."""
        self._close_all()

    def _close_all(self) -> None:
        watched, self._watched = self._watched, []
        for one in watched:
            one.close()
