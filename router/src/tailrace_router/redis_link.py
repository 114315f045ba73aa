"""Do: routes from Redis or Valkey, and reports to it (extra `redis`); the only importer of the client.

Invariant: Redis only distributes: no write is ever decided by it. Every call has a short time-out, and all are made from
the router's own thread, so a Redis that hangs delays no request.
What is routed and reported is readable on the wire, and so is the password: plain text off this machine is refused, as
Tailrace refuses it (test_both_sides_call_the_same_hosts_plain).
"""

from __future__ import annotations

import ipaddress
import time
from typing import Any, Callable, Union
from urllib.parse import urlsplit

import redis

from tailrace_router.errors import PlaintextRefused
from tailrace_router.route import Route, parse

PREFIX = "tailrace"
TIMEOUT_S = 0.5
REPORT_TTL_S = 600
"""An instance that said nothing for so long is gone."""
Url = Union[str, Callable[[], str]]
"""The address, or where it is asked at every connect, so that a rotated password is found."""
_ENCRYPTED = ("rediss", "valkeys")
_LOCAL = ("unix", "redis+unix")


def plain_host(url: str) -> str:
    """The host that would get plain text off this machine; empty: none. A name is only `localhost`: what another one
    resolves to may change."""
    parts = urlsplit(url)
    if parts.scheme.lower() in _ENCRYPTED + _LOCAL:
        return ""
    host = (parts.hostname or "").rstrip(".").lower()
    if host == "localhost":
        return ""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host or "an unnamed host"
    mapped = getattr(address, "ipv4_mapped", None)
    return "" if (mapped or address).is_loopback else host


def client(url: str, *, allow_plaintext: bool = False) -> redis.Redis:
    """Raises PlaintextRefused. With rediss:// the certificate and its host name are verified; `?ssl_ca_certs=FILE` names the
    authority."""
    host = plain_host(url)
    if host and not allow_plaintext:
        raise PlaintextRefused(
            f"Redis at {host} would be reached in plain text: use rediss://, or allow_plaintext=True"
        )
    # redis-py below 6 verifies no host name by itself; what the URL says comes after these and overrides them.
    secured: dict[str, Any] = {"ssl_check_hostname": True} if urlsplit(url).scheme.lower() in _ENCRYPTED else {}
    return redis.Redis.from_url(
        url, socket_timeout=TIMEOUT_S, socket_connect_timeout=TIMEOUT_S, retry_on_timeout=False, **secured
    )


class _Link:
    """A client that is made anew, with the address asked again, after whatever went wrong."""

    def __init__(self, url: Url, *, allow_plaintext: bool) -> None:
        self._url = url
        self._allow_plaintext = allow_plaintext
        # A fixed address that is refused is a fault of the code that names it, and told there.
        self._client = client(url, allow_plaintext=allow_plaintext) if isinstance(url, str) else None

    def ask(self, what: Callable[[redis.Redis], Any]) -> Any:
        if self._client is None:
            url = self._url if isinstance(self._url, str) else self._url()
            self._client = client(url, allow_plaintext=self._allow_plaintext)
        try:
            return what(self._client)
        except redis.RedisError:
            self._client.close()
            self._client = None
            raise


class RedisRoute:
    """The key `<prefix>:route`. `url` holds the password, so it is never shown."""

    def __init__(self, url: Url, *, prefix: str = PREFIX, allow_plaintext: bool = False) -> None:
        self._link = _Link(url, allow_plaintext=allow_plaintext)
        self._key = f"{prefix}:route"
        self._last: bytes | None = None

    @property
    def name(self) -> str:
        return f"redis {self._key}"

    def read(self) -> Route | None:
        found = self._link.ask(lambda one: one.get(self._key))
        if not isinstance(found, bytes):
            raise LookupError(f"there is no {self._key}")
        if found == self._last:
            return None
        route = parse(found)
        self._last = found
        return route


class RedisReports:
    """A key for each instance that expires by itself, and a sorted set of their names."""

    def __init__(self, url: Url, *, prefix: str = PREFIX, allow_plaintext: bool = False) -> None:
        self._link = _Link(url, allow_plaintext=allow_plaintext)
        self._prefix = prefix

    def send(self, instance: str, document: str) -> None:
        def work(one: redis.Redis) -> None:
            pipe = one.pipeline()
            pipe.set(f"{self._prefix}:report:{instance}", document, px=REPORT_TTL_S * 1000)
            pipe.zadd(f"{self._prefix}:instances", {instance: int(time.time())})
            pipe.execute()

        self._link.ask(work)

    def gone(self, instance: str) -> None:
        def work(one: redis.Redis) -> None:
            pipe = one.pipeline()
            pipe.delete(f"{self._prefix}:report:{instance}")
            pipe.zrem(f"{self._prefix}:instances", instance)
            pipe.execute()

        self._link.ask(work)
