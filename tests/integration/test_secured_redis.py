"""The Redis of [router]: a certificate that verifies, ones that do not, logins, and no plain text off the machine."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import redis

from adapters.redis import RedisBoard
from cli.cutover_wiring import board_of
from embedded.valkey import EmbeddedValkey
from ops.config import Config, RouterConfig
from schemas.errors import Code, Refusal, Transient
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


def test_plain_text_to_a_redis_elsewhere_is_refused() -> None:
    board = _board("redis://:hidden@cache.example:6379/0")
    with pytest.raises(Refusal) as caught:
        board.reports()
    assert Code.PLAINTEXT_REFUSED == caught.value.code
    assert "hidden" not in f"{caught.value.message} {caught.value.hint}"
