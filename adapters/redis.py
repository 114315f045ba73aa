"""Do: put the route where applications on other machines look, and read what they report; the only importer of redis.

Invariant: Redis only distributes. An older route never replaces a newer one, whoever publishes late: the comparison is a
script, so nothing comes between (test_an_older_route_does_not_replace_a_newer_one). Time-outs are short, since a switch
publishes in the pause of the writers.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from adapters.tls import distrust
from schemas.errors import Code, Transient
from schemas.transit import plain_url, refuse_plaintext

TIMEOUT_S = 0.3
T = TypeVar("T")
LISTED_S = 3600
"""An instance whose report expired longer ago is forgotten."""

_PUT = """
local known = redis.call('GET', KEYS[1])
if known then
    local ok, old = pcall(cjson.decode, known)
    if ok and old.epoch and (old.epoch > tonumber(ARGV[2])
        or (old.epoch == tonumber(ARGV[2]) and old.published_at_ms > tonumber(ARGV[3]))) then
        return 0
    end
end
redis.call('SET', KEYS[1], ARGV[1])
return 1
"""


class RedisBoard:
    """Args:
    url: asked at every connect, so that a rotated password is found.
    """

    def __init__(self, url: Callable[[], str], *, prefix: str, allow_plaintext: bool) -> None:
        self._url = url
        self._prefix = prefix
        self._allow_plaintext = allow_plaintext
        self._client: redis.Redis | None = None

    def put_route(self, document: str, *, epoch: int, published_at_ms: int) -> bool:
        """False: a newer one is there. Raises Transient(ROUTE_UNPUBLISHED)."""
        return bool(
            self._ask(
                lambda client: client.eval(_PUT, 1, f"{self._prefix}:route", document, epoch, published_at_ms),
            )
        )

    def reports(self) -> list[tuple[str, bytes, float]]:
        """(instance, document, age in seconds by the server's own clock) of every router that reported lately."""

        def read(client: redis.Redis) -> list[tuple[str, bytes, float]]:
            found = []
            now_s = int(client.time()[0])
            client.zremrangebyscore(f"{self._prefix}:instances", "-inf", now_s - LISTED_S)
            names = client.zrange(f"{self._prefix}:instances", 0, -1)
            assert isinstance(names, list)
            for name in names:
                assert isinstance(name, bytes)
                instance = name.decode(errors="replace")
                key = f"{self._prefix}:report:{instance}"
                pipe = client.pipeline()
                pipe.get(key)
                pipe.pttl(key)
                document, left_ms = pipe.execute()
                if document is not None and left_ms >= 0:
                    found.append((instance, document, REPORT_TTL_S - left_ms / 1000))
            return found

        return self._ask(read)

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _ask(self, what: Callable[[redis.Redis], T]) -> T:
        try:
            if self._client is None:
                self._client = self._connect()
            return what(self._client)
        except redis.RedisError as error:
            self.close()
            raise _told(error) from error

    def _connect(self) -> redis.Redis:
        url = self._url()
        if not self._allow_plaintext:
            refuse_plaintext("Redis at", plain_url(url), hint="use rediss://")
        return redis.Redis.from_url(
            url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry=Retry(NoBackoff(), 0)
        )


def _told(error: redis.RedisError) -> Transient:
    """The driver's own text may hold the address with its password: only what is known of it is said."""
    if isinstance(error, redis.AuthenticationError):
        return Transient(
            Code.ROUTE_UNPUBLISHED,
            "Redis of [router] refuses the login",
            hint="check user and password of router.redis_url; it is read again at the next attempt",
        )
    if told := distrust(str(error)):
        return Transient(Code.ROUTE_UNPUBLISHED, f"Redis of [router]: {told[0]}", hint=told[1])
    return Transient(
        Code.ROUTE_UNPUBLISHED,
        f"Redis of [router] does not answer: {type(error).__name__}",
        hint="routers follow route.json and the last route they know; tailrace check",
    )


REPORT_TTL_S = 600
"""What the router gives its reports; a test compares both."""
