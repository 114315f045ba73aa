"""The read calls of Confluent's registry: documents, error codes, odd paths; and over HTTP: bodies, health, a stream away."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from adapters.registry_calls import answered
from adapters.registry_server import RegistryServer
from schemas.errors import Code, Transient
from tests.fix_registry import ask, refusal

A, B = '{"type": "long", "p": 1}', '{"type":"string"}'
KNOWN = {1: ("t-value", A), 2: ("versions", B), 3: ("t-value", B), 4: ("t-value", A)}


@pytest.mark.parametrize(
    ("path", "document"),
    [
        ("/", {}),
        ("/schemas/types", ["AVRO"]),
        ("/schemas/ids/1", {"schema": A}),
        ("/schemas/ids/3?subject=t-value&fetchMaxId=false", {"schema": B}),
        ("/schemas/ids/1/schema", {"type": "long", "p": 1}),
        ("/schemas/ids/4/subjects", ["t-value"]),
        ("/schemas/ids/3/versions", [{"subject": "t-value", "version": 2}]),
        ("/subjects", ["t-value", "versions"]),
        ("/subjects/", ["t-value", "versions"]),
        ("/subjects?subjectPrefix=t", ["t-value"]),
        ("/subjects/t-value/versions", [1, 2]),
        ("/subjects/t%2Dvalue/versions/1", {"subject": "t-value", "version": 1, "id": 1, "schema": A}),
        ("/subjects/t-value/versions/latest", {"subject": "t-value", "version": 2, "id": 3, "schema": B}),
        ("/subjects/t-value/versions/-1/schema", {"type": "string"}),
        ("/subjects/versions/versions", [1]),
        ("/config", {"compatibilityLevel": "NONE"}),
        ("/config/t-value?defaultToGlobal=true", {"compatibilityLevel": "NONE"}),
        ("/mode", {"mode": "READONLY"}),
        ("/contexts", ["."]),
    ],
)
def test_what_is_there(path: str, document: Any) -> None:
    assert (200, document) == answered(KNOWN, "GET", path)


@pytest.mark.parametrize(
    ("method", "path", "code"),
    [
        ("GET", "/schemas/ids/9", 40403),
        ("GET", "/schemas/ids/0", 40403),
        ("GET", "/schemas/ids/-1", 404),
        ("GET", "/schemas/ids/1/nosuch", 404),
        ("GET", "/schemas/ids/99999999999", 404),
        ("GET", "/subjects/nosuch/versions", 40401),
        ("GET", "/subjects/nosuch/versions/latest", 40401),
        ("GET", "/subjects/t-value/versions/3", 40402),
        ("GET", "/subjects/t-value/versions/0", 42202),
        ("GET", "/subjects/t-value/versions/one", 42202),
        ("GET", "/config/t-value", 40408),
        ("GET", "/config/nosuch", 40401),
        ("GET", "/nosuch", 404),
        ("GET", "/subjects/*", 404),
        ("POST", "/subjects/t-value/versions", 42205),
        ("PUT", "/config", 42205),
        ("DELETE", "/subjects/t-value", 42205),
        ("POST", "/subjects/t-value", 42201),
    ],
)
def test_what_is_not(method: str, path: str, code: int) -> None:
    status, document = answered(KNOWN, method, path, b"[]")
    assert (code, int(str(code)[:3])) == (document["error_code"], status)
    assert document["message"]


def test_a_schema_is_looked_up_by_what_it_means() -> None:
    body = json.dumps({"schema": '{"p":1,"type":"long"}'}).encode()
    found = answered(KNOWN, "POST", "/subjects/t-value?normalize=False&deleted=false", body)
    assert (200, {"subject": "t-value", "version": 1, "id": 1, "schema": A}) == found
    assert 40403 == answered(KNOWN, "POST", "/subjects/versions", body).document["error_code"]
    assert 40401 == answered(KNOWN, "POST", "/subjects/nosuch", body).document["error_code"]


def test_a_schema_that_was_registered_twice_is_one_version() -> None:
    assert [1, 2] == answered(KNOWN, "GET", "/subjects/t-value/versions").document
    assert answered(KNOWN, "GET", "/schemas/ids/1/versions") == answered(KNOWN, "GET", "/schemas/ids/4/versions")


class Stream:
    """What the schemas topic would give."""

    def __init__(self) -> None:
        self.known = dict(KNOWN)
        self.away = False
        self.said: list[str] = []

    def read(self) -> dict[int, tuple[str, str]]:
        if self.away:
            raise Transient(Code.STREAM_UNREACHABLE, "the broker does not answer")
        return self.known


@pytest.fixture
def stream() -> Stream:
    return Stream()


@pytest.fixture
def server(stream: Stream) -> Iterator[RegistryServer]:
    made = RegistryServer("127.0.0.1", 0, stream.read, lambda _, text: stream.said.append(text))
    made.start()
    yield made
    made.close()


def test_health_and_what_is_known_while_the_stream_is_away(server: RegistryServer, stream: Stream) -> None:
    assert {"status": "ok", "schemas": 4, "subjects": 2} == ask(f"{server.url}/health")
    stream.away = True
    assert {"schema": A} == ask(f"{server.url}/schemas/ids/1")
    assert (500, 50001) == refusal(f"{server.url}/schemas/ids/5")
    assert (500, 50001) == refusal(f"{server.url}/subjects")
    status, document = _raw(server, "GET", "/health")
    assert (503, "stream-away", "stream-unreachable") == (status, document["status"], document["code"])
    stream.away = False
    stream.known[5] = ("new", B)
    assert {"schema": B} == ask(f"{server.url}/schemas/ids/5")


def test_one_line_a_request_whatever_its_path(server: RegistryServer, stream: Stream) -> None:
    refusal(f"{server.url}/a%0Ab")
    _raw(server, "GET", "/\x01\x7f")
    assert 2 == len(stream.said)
    assert all(line.isprintable() and "404" in line for line in stream.said)


def test_a_body_that_is_too_large_or_of_unknown_length_is_not_read(server: RegistryServer) -> None:
    for headers in ({"Content-Length": str(2 << 20)}, {"Transfer-Encoding": "chunked"}, {"Content-Length": "-1"}):
        assert 413 == _raw(server, "POST", "/subjects/t-value", headers)[0]
    assert 422 == _raw(server, "POST", "/subjects/t-value", {"Content-Length": "0"})[0]


def test_connections_are_kept_and_requests_run_beside_each_other(server: RegistryServer) -> None:
    waiting = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=10)
    waiting.connect()  # says nothing, and holds nobody up
    assert ["AVRO"] == ask(f"{server.url}/schemas/types")
    for _ in range(2):
        waiting.request("GET", "/schemas/types")
        assert b'["AVRO"]' == waiting.getresponse().read()
    waiting.close()


def _raw(
    server: RegistryServer, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", int(server.url.rpartition(":")[2]), timeout=10)
    connection._validate_path = lambda _: None  # type: ignore[attr-defined]
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in (headers or {}).items():
        connection.putheader(name, value)
    connection.endheaders()
    response = connection.getresponse()
    document = json.loads(response.read())
    connection.close()
    return response.status, document
