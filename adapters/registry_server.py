"""Do: serve the registry's read calls over HTTP, a thread a request, from what a function reads of the schemas topic.

Invariant: the reader is used by one thread at a time; a stream that is away makes calls fail with 50001, except those for
ids that were read before, which never change.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from adapters.registry_calls import Answered, Known, answered, answers_without_looking
from schemas.errors import TailraceError

CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"
MAX_BODY_BYTES = 1 << 20
IDLE_S = 30.0
"""A connection that says nothing for so long gives its thread back."""
POLL_S = 0.1

Read = Callable[[], Known]
Say = Callable[[str, str], None]


class RegistryServer:
    """Listens from construction on. Raises OSError where that cannot be.

    Args:
        read: everything that is registered now; raises TailraceError.
        say: one line a request, health calls left out.
    """

    def __init__(self, host: str, port: int, read: Read, say: Say) -> None:
        self._read = read
        self._say = say
        self._lock = threading.Lock()
        self._known: Known = {}
        self._server = _listen(host, port, self)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(POLL_S,), daemon=True)
        bound = f"[{host}]" if ":" in host else host
        self.url = f"http://{bound}:{self._server.server_port}"

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()

    def forget(self) -> None:
        """What was read before counts no more: the stream was opened anew."""
        with self._lock:
            self._known = {}

    def answer(self, method: str, target: str, body: bytes) -> Answered:
        if target.split("?")[0] == "/health":
            return self._health()
        began_s = time.monotonic()
        try:
            result = answered(self._look(target), method, target, body)
        except TailraceError as error:
            result = Answered(500, {"error_code": 50001, "message": f"[{error.code}] {error.message}"})
        shown = "".join(char if char.isprintable() else "?" for char in target)[:300]
        self._say(
            "serve.answered", f"{method} {shown}: {result.status} in {(time.monotonic() - began_s) * 1000:.1f} ms"
        )
        return result

    def _look(self, target: str = "") -> Known:
        if answers_without_looking(self._known, target):
            return self._known
        with self._lock:
            self._known = dict(self._read())
            return self._known

    def _health(self) -> Answered:
        try:
            known = self._look()
        except TailraceError as error:
            return Answered(503, {"status": "stream-away", "code": str(error.code), "message": error.message})
        return Answered(
            200, {"status": "ok", "schemas": len(known), "subjects": len({name for name, _ in known.values()})}
        )


def _listen(host: str, port: int, server: RegistryServer) -> ThreadingHTTPServer:
    class Calls(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        server_version = "tailrace"
        sys_version = ""
        timeout = IDLE_S

        def _call(self) -> None:
            length = self.headers.get("Content-Length", "0")
            if self.headers.get("Transfer-Encoding") or not length.isdecimal() or int(length) > MAX_BODY_BYTES:
                # The body stays unread: the connection is of no further use.
                self.close_connection = True
                self._send(Answered(413, {"error_code": 413, "message": "a body of known length, at most 1 MiB"}))
                return
            body = self.rfile.read(int(length))
            self._send(server.answer(self.command, self.path, body))

        do_GET = do_POST = do_PUT = do_DELETE = _call  # noqa: N815 - the names are the server's

        def _send(self, result: Answered) -> None:
            raw = json.dumps(result.document).encode()
            self.send_response(result.status)
            self.send_header("Content-Type", CONTENT_TYPE)
            self.send_header("Content-Length", str(len(raw)))
            self.end_headers()
            self.wfile.write(raw)

        def log_message(self, *_: Any) -> None:
            """Said in one place, with the time it took."""

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        address_family = socket.AF_INET6 if ":" in host else socket.AF_INET

        def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is the server's
            server._say("serve.broken", f"a connection of {client_address[0]} ended in the middle")

    return Server((host, port), Calls)
