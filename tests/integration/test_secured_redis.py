"""The Redis of [router]: a certificate that verifies, ones that do not, logins, and no plain text off the machine."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from adapters.redis import RedisBoard
from cli.cutover_wiring import board_of
from embedded.valkey import EmbeddedValkey
from ops.config import Config, RouterConfig
from schemas.errors import Code, Refusal, Transient
from schemas.transit import plain_url
from tailrace_router import PlaintextRefused, Route, Router, Side
from tailrace_router.redis_link import RedisReports, RedisRoute, plain_host
from tests.fix_tls import TlsRedis


def _board(url: str) -> RedisBoard:
    return RedisBoard(lambda: url, prefix="tests", allow_plaintext=False)


def _refused(url: str, words: str) -> None:
    board = _board(url)
    with pytest.raises(Transient) as caught:
        board.put_route('{"epoch": 1, "published_at_ms": 1}', epoch=1, published_at_ms=1)
    board.close()
    told = f"{caught.value.message} {caught.value.hint}"
    assert (Code.ROUTE_UNPUBLISHED, True) == (caught.value.code, words in told), told
    assert url.partition("@")[0].rpartition(":")[2] not in told


def test_redis_is_verified_by_its_certificate(tls_redis: TlsRedis) -> None:
    url = tls_redis.start()
    trusted = f"{url}?ssl_ca_certs={tls_redis.ca}"
    board = _board(trusted)
    assert board.put_route('{"epoch": 1, "published_at_ms": 1}', epoch=1, published_at_ms=1)
    assert [] == board.reports()
    board.close()
    _refused(url, "signed by an unknown CA")
    _refused(trusted.replace("rediss://:", "rediss://:x"), "refuses the login")
    _refused(f"{tls_redis.start(days=-1)}?ssl_ca_certs={tls_redis.ca}", "certificate has expired")
    _refused(f"{tls_redis.start('redis.example')}?ssl_ca_certs={tls_redis.ca}", "is for another host name")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[EmbeddedValkey]:
    made = EmbeddedValkey(tmp_path / "valkey")
    yield made
    made.stop()


def test_a_rotated_password_heals_the_board(tmp_path: Path, server: EmbeddedValkey) -> None:
    """Valkey logs nobody out when its password changes: the old one is found out at the next connect."""
    url = server.start()
    (tmp_path / "password").write_text(url.split(":")[2].split("@")[0])
    router = RouterConfig(redis_url=f"redis://:${{file:password}}@127.0.0.1:{server.port}/0")
    board = board_of(Config({"app": "app.db"}, folder=str(tmp_path), router=router))
    assert board is not None
    assert board.put_route('{"epoch": 1, "published_at_ms": 1}', epoch=1, published_at_ms=1)
    with redis.Redis.from_url(url) as admin:
        admin.config_set("requirepass", "second")
        admin.client_kill_filter(_type="normal", skipme=True)
    told = []
    for _ in range(2):
        with pytest.raises(Transient) as caught:
            board.reports()
        told.append(caught.value.message)
    assert "refuses the login" in told[-1]
    (tmp_path / "password").write_text("second")
    assert [] == board.reports()
    board.close()


def test_the_router_verifies_the_certificate(tls_redis: TlsRedis) -> None:
    url = tls_redis.start()
    trusted = f"{url}?ssl_ca_certs={tls_redis.ca}"
    board = _board(trusted)
    now_ms = time.time_ns() // 1_000_000
    board.put_route(Route(4, "source", 5000, 1, now_ms, True, 10).text(), epoch=4, published_at_ms=now_ms)
    route, reports = RedisRoute(trusted, prefix="tests"), RedisReports(trusted, prefix="tests")
    found = route.read()
    assert (4, 5000) == (found and found.epoch, found and found.read_share)
    reports.send("web-1", "{}")
    assert ["web-1"] == [name for name, _, _ in board.reports()]
    reports.gone("web-1")
    assert [] == board.reports()
    board.close()
    others = [f"{tls_redis.start(days=-1)}?ssl_ca_certs={tls_redis.ca}"]
    others += [f"{tls_redis.start('redis.example')}?ssl_ca_certs={tls_redis.ca}", url]
    for other in others:
        with pytest.raises(redis.ConnectionError, match=r"(?i)certificate"):
            RedisRoute(other, prefix="tests").read()
    # Over a bad link no request waits, and the state names the source without its address.
    router = Router([RedisRoute(others[0], prefix="tests")])
    assert (True, Side.SOURCE) == (router.state().gone, router.read_side(1))
    assert "rediss" not in str(router.state())
    router.close()


def test_a_rotated_password_heals_the_router(tmp_path: Path, server: EmbeddedValkey) -> None:
    url = server.start()
    known = [url]
    route, reports = RedisRoute(lambda: known[0], prefix="p"), RedisReports(lambda: known[0], prefix="p")
    with redis.Redis.from_url(url) as admin:
        admin.set("p:route", Route(4, "source", 5000, 1, 1, True, 10).text())
        assert route.read() is not None
        admin.config_set("requirepass", "second")
        admin.client_kill_filter(_type="normal", skipme=True)
    for _ in range(2):
        with pytest.raises(redis.RedisError):
            reports.send("web-1", "{}")
    known[0] = f"redis://:second@127.0.0.1:{server.port}/0"
    reports.send("web-1", "{}")
    reports.gone("web-1")


@pytest.mark.parametrize("make", [RedisRoute, RedisReports])
def test_the_router_sends_no_plain_text_off_the_machine(make: type[RedisRoute] | type[RedisReports]) -> None:
    with pytest.raises(PlaintextRefused, match=r"cache\.example would be reached in plain text") as caught:
        make("redis://:hidden@cache.example:6379/0")
    assert "hidden" not in str(caught.value)
    make("redis://:hidden@cache.example:6379/0", allow_plaintext=True)
    asked = make(lambda: "redis://:hidden@10.0.0.1:6379/0")
    with pytest.raises(PlaintextRefused):
        asked.read() if isinstance(asked, RedisRoute) else asked.gone("web-1")


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"redis://:p@{host}:6379/0"
            for host in ("localhost", "LOCALHOST.", "127.0.0.1", "127.9.9.9", "[::1]", "10.0.0.1")
        ),
        *(
            f"redis://:p@{host}:6379/0"
            for host in ("[::ffff:127.0.0.1]", "[fe80::1%25eth0]", "localhost.evil", "0.0.0.0")
        ),
        *(
            "redis:///0",
            "rediss://cache/0",
            "valkeys://cache/0",
            "unix:///run/redis.sock",
            "valkey://cache/0",
            "REDISS://a/0",
        ),
    ],
)
def test_both_sides_call_the_same_hosts_plain(url: str) -> None:
    assert bool(plain_url(url)) == bool(plain_host(url))


def test_plain_text_to_a_redis_elsewhere_is_refused() -> None:
    board = _board("redis://:hidden@cache.example:6379/0")
    with pytest.raises(Refusal) as caught:
        board.reports()
    assert Code.PLAINTEXT_REFUSED == caught.value.code
    assert "hidden" not in f"{caught.value.message} {caught.value.hint}"
