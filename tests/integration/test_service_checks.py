"""`check` looks at the registry and the Redis that are configured, and says nothing of those that are not."""

from __future__ import annotations

import socket
from pathlib import Path

from adapters.registry_server import RegistryServer
from cli.service_checks import service_checks
from ops.config import Config, RegistryConfig, TransportConfig
from ops.config_routing import RouterConfig


def _config(folder: Path, *, registry: str = "", redis: str = "") -> Config:
    return Config(
        {"app": "app.db"},
        folder=str(folder),
        transport=TransportConfig(),
        registry=RegistryConfig(url=registry),
        router=RouterConfig(redis_url=redis),
    )


def _found(config: Config) -> list[tuple[str, str]]:
    return [(one.name, one.verdict) for one in service_checks(config)]


def _closed_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def test_what_is_not_configured_has_no_finding(tmp_path: Path) -> None:
    assert [] == _found(_config(tmp_path))


def test_a_registry_that_answers_and_one_that_does_not(tmp_path: Path) -> None:
    server = RegistryServer("127.0.0.1", 0, dict, lambda action, text: None)
    server.start()
    try:
        assert [("registry answers", "ok")] == _found(_config(tmp_path, registry=server.url))
    finally:
        server.close()
    away = f"http://127.0.0.1:{_closed_port()}"
    assert [("registry answers", "refused")] == _found(_config(tmp_path, registry=away))


def test_a_redis_that_answers_and_one_that_does_not(tmp_path: Path, valkey_url: str) -> None:
    name = "router's Redis answers"
    assert [(name, "ok")] == _found(_config(tmp_path, redis=valkey_url))
    assert [(name, "warning")] == _found(_config(tmp_path, redis=f"redis://127.0.0.1:{_closed_port()}"))
    assert [(name, "refused")] == _found(_config(tmp_path, redis="redis://redis.internal:6379"))
