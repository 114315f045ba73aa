"""Every snippet of the router's README runs."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tailrace_router import Marker, Router, Side

README = Path(__file__).resolve().parents[3] / "router" / "README.md"
PLAIN, POSITIONS, WSGI, ASGI = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


@pytest.fixture
def scope(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """What the application has already."""
    monkeypatch.chdir(tmp_path)
    db = sqlite3.connect("app.db", check_same_thread=False)
    db.executescript(
        "CREATE TABLE cases(id INTEGER PRIMARY KEY, title TEXT); INSERT INTO cases VALUES (1, 'old');"
        "CREATE TABLE _tailrace_log(seq INTEGER PRIMARY KEY); INSERT INTO _tailrace_log VALUES (17);"
    )
    db.commit()
    found: dict[str, Any] = {"connect": lambda side: db, "user_of": lambda request: "u1"}
    exec(PLAIN, found)
    exec(POSITIONS, found)
    yield found
    found["router"].close()
    db.close()


def fence(scope: dict[str, Any]) -> None:
    def fenced(side: Side) -> sqlite3.Connection:
        raise sqlite3.IntegrityError("tailrace-fenced: writes moved away at token 5")

    scope["connect"] = fenced
    scope["router"]._wait_s = 0.01


def test_each_is_ten_lines_or_so() -> None:
    for snippet in (PLAIN, WSGI, ASGI):
        assert len([line for line in snippet.splitlines() if line.strip()]) <= 14


def test_plain(scope: dict[str, Any]) -> None:
    scope["rename"]("u1", 1, "new")
    assert [(1, "new")] == scope["titles"]("u1")
    router: Router = scope["router"]
    assert Side.SOURCE is router.read_side("u1")
    assert 1 == router.state().pins
    fence(scope)
    with pytest.raises(Exception, match=r"takes no writes|are moving"):
        router.retrying(lambda side: scope["connect"](side), for_s=0.1)


def test_wsgi(scope: dict[str, Any]) -> None:
    exec(WSGI, scope)
    answered: list[Any] = []

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        if environ["REQUEST_METHOD"] == "POST":
            with scope["router"].write() as side:
                scope["connect"](side)
        start_response("200 OK", [])
        return [str(environ["side"]).encode()]

    wrapped = scope["routed"](app)
    assert [b"source"] == wrapped({"REQUEST_METHOD": "GET"}, lambda *one: answered.append(one))
    later = Marker(99, Side.TARGET, 0).text()
    assert [b"target"] == wrapped({"REQUEST_METHOD": "GET", "HTTP_X_MARKER": later}, lambda *one: answered.append(one))
    fence(scope)
    assert [b"moving, try again"] == wrapped({"REQUEST_METHOD": "POST"}, lambda *one: answered.append(one))
    assert ("503 Service Unavailable", [("Retry-After", "1")]) == answered[-1]


def test_asgi(scope: dict[str, Any]) -> None:
    exec(ASGI, scope)
    sent: list[dict[str, Any]] = []

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    async def app(request: dict[str, Any], receive: Any, send: Any) -> None:
        def transaction(side: Side) -> tuple[Side, dict[str, int]]:
            return side, scope["positions"](scope["connect"](side), side)

        marker = await scope["save"]("u1", transaction)
        await send({"type": "http.response.body", "body": marker.encode()})

    async def fenced(request: dict[str, Any], receive: Any, send: Any) -> None:
        with scope["router"].write() as side:
            scope["connect"](side)

    asyncio.run(scope["routed"](app)({}, None, send))
    marker = Marker.of(sent[0]["body"].decode())
    assert marker is not None
    assert {"cases": 17} == marker.positions
    fence(scope)
    asyncio.run(scope["routed"](fenced)({}, None, send))
    assert 503 == sent[1]["status"]
