"""Do: routes from Redis or Valkey, and reports to it (extra `redis`); the only importer of the client.

Invariant: Redis only distributes: no write is ever decided by it. Every call has a short time-out, and all are made from
the router's own thread, so a Redis that hangs delays no request.
"""

from __future__ import annotations

import time

import redis

from tailrace_router.route import Route, parse

PREFIX = "tailrace"
TIMEOUT_S = 0.5
REPORT_TTL_S = 600
"""An instance that said nothing for so long is gone."""


def client(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry_on_timeout=False)


class RedisRoute:
    """The key `<prefix>:route`. `url` holds the password, so it is never shown."""

    def __init__(self, url: str, *, prefix: str = PREFIX) -> None:
        self._redis = client(url)
        self._key = f"{prefix}:route"
        self._last: bytes | None = None

    @property
    def name(self) -> str:
        return f"redis {self._key}"

    def read(self) -> Route | None:
        found = self._redis.get(self._key)
        if not isinstance(found, bytes):
            raise LookupError(f"there is no {self._key}")
        if found == self._last:
            return None
        route = parse(found)
        self._last = found
        return route


class RedisReports:
    """A key for each instance that expires by itself, and a sorted set of their names."""

    def __init__(self, url: str, *, prefix: str = PREFIX) -> None:
        self._redis = client(url)
        self._prefix = prefix

    def send(self, instance: str, document: str) -> None:
        pipe = self._redis.pipeline()
        pipe.set(f"{self._prefix}:report:{instance}", document, px=REPORT_TTL_S * 1000)
        pipe.zadd(f"{self._prefix}:instances", {instance: int(time.time())})
        pipe.execute()

    def gone(self, instance: str) -> None:
        pipe = self._redis.pipeline()
        pipe.delete(f"{self._prefix}:report:{instance}")
        pipe.zrem(f"{self._prefix}:instances", instance)
        pipe.execute()
