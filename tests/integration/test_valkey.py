"""The throw-away Valkey: alive, closed without its password, gone and back on the same port."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from embedded.valkey import EmbeddedValkey


def test_the_sessions_server_answers(valkey_url: str) -> None:
    with redis.Redis.from_url(valkey_url) as client:
        client.set("tailrace-test", "1")
        assert b"1" == client.get("tailrace-test")


def test_it_is_closed_without_its_password_and_comes_back_on_its_port(tmp_path: Path) -> None:
    server = EmbeddedValkey(tmp_path / "valkey")
    url = server.start()
    try:
        with redis.Redis(port=server.port) as stranger, pytest.raises(redis.AuthenticationError):
            stranger.ping()
        arguments = Path(f"/proc/{server.pid}/cmdline").read_bytes() if Path("/proc").exists() else b""
        assert url.split(":")[2].split("@")[0].encode() not in arguments
        server.kill()
        with redis.Redis.from_url(url) as client, pytest.raises(redis.ConnectionError):
            client.ping()
        assert url == server.start()
        with redis.Redis.from_url(url) as client:
            assert client.ping()
    finally:
        server.stop()
