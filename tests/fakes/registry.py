"""Do: a small schema registry over HTTP, written from Confluent's documentation of the calls and sharing no code with the
adapter, for what a real one cannot be told to do: refuse, be away, drop properties, present a certificate.

It asks for compatibility BACKWARD in the narrowest sense: a subject takes only the schema that it has.
"""

from __future__ import annotations

import base64
import json
import re
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit


class FakeRegistry:
    """`password`, `away`, `forbidden` (no change of levels) and `forgetful` (drops properties) may change at any time."""

    def __init__(self, *, certificate: Path | None = None, level: str = "BACKWARD") -> None:
        self.schemas: list[str] = []
        self.subjects: dict[str, list[int]] = {}
        self.levels: dict[str, str] = {}
        self.level = level
        self.password = ""
        self.away = self.forbidden = self.forgetful = False
        self.asked: list[str] = []
        fake = self

        class Calls(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                fake.answer(self, None)

            def do_POST(self) -> None:
                fake.answer(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            do_PUT = do_POST  # noqa: N815 - the name is the server's

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Calls)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, call: BaseHTTPRequestHandler, body: Any) -> None:
        path = unquote(urlsplit(call.path).path)
        self.asked.append(f"{call.command} {path}")
        status, document = self._allowed(call) or self._answered(call.command, path, body)
        raw = json.dumps(document).encode()
        call.send_response(status)
        call.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        call.send_header("Content-Length", str(len(raw)))
        call.end_headers()
        call.wfile.write(raw)

    def _allowed(self, call: BaseHTTPRequestHandler) -> tuple[int, Any] | None:
        expected = "Basic " + base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and call.headers["Authorization"] != expected:
            return 401, {"error_code": 401, "message": "Unauthorized"}
        return (503, {"error_code": 50301, "message": "away"}) if self.away else None

    def _answered(self, verb: str, path: str, body: Any) -> tuple[int, Any]:
        if found := re.fullmatch(r"/schemas/ids/(\d+)", path):
            number = int(found[1])
            if not 0 < number <= len(self.schemas):
                return 404, {"error_code": 40403, "message": "Schema not found"}
            return 200, {"schema": self.schemas[number - 1]}
        if found := re.fullmatch(r"/config(?:/(.+))?", path):
            if verb == "PUT" and self.forbidden:
                return 403, {"error_code": 40301, "message": "only readers may"}
            if verb == "PUT":
                self.levels[found[1]] = body["compatibility"]
                return 200, body
            return 200, {"compatibilityLevel": self.levels.get(found[1], self.level)}
        if (found := re.fullmatch(r"/subjects/(.+)/versions", path)) and verb == "POST":
            return self._registered(found[1], body["schema"])
        if (found := re.fullmatch(r"/subjects/(.+)/versions/latest", path)) and found[1] in self.subjects:
            number = self.subjects[found[1]][-1]
            return 200, {"subject": found[1], "id": number, "schema": self.schemas[number - 1]}
        return 404, {"error_code": 40401, "message": "Subject not found"}

    def _registered(self, subject: str, schema: str) -> tuple[int, Any]:
        text = json.dumps(json.loads(schema), indent=1)
        if self.forgetful:
            text = json.dumps({name: one for name, one in json.loads(schema).items() if "." not in name})
        have = self.subjects.setdefault(subject, [])
        number = self.schemas.index(text) + 1 if text in self.schemas else len(self.schemas) + 1
        if have and number not in have and self.levels.get(subject, self.level) != "NONE":
            return 409, {"error_code": 409, "message": "incompatible with an earlier schema"}
        if number > len(self.schemas):
            self.schemas.append(text)
        if number not in have:
            have.append(number)
        return 200, {"id": number}
