"""Decide: does what travels to these hosts leave the machine unencrypted? Pure.

Invariant: unknown is not encrypted: a setting that only *prefers* encryption, or a host that cannot be told, counts as
plain text off this machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from urllib.parse import urlsplit

from schemas.errors import Code, Refusal

ENCRYPTED_SSLMODES = frozenset({"require", "verify-ca", "verify-full"})
ENCRYPTED_PROTOCOLS = frozenset({"SSL", "SASL_SSL"})
ENCRYPTED_SCHEMES = frozenset({"https", "rediss", "valkeys"})


def loopback(host: str) -> bool:
    """Is this host surely this machine? A name is only `localhost`: what another one resolves to may change."""
    bare = host.strip().strip("[]").rstrip(".").lower()
    if bare == "localhost":
        return True
    try:
        address = ipaddress.ip_address(bare.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def plain_servers(servers: Sequence[str], security_protocol: str) -> list[str]:
    """Those of Kafka's host:port that would get plain text."""
    if security_protocol.upper() in ENCRYPTED_PROTOCOLS:
        return []
    return [server.strip() for server in servers if not loopback(_host(server.strip()))]


def plain_postgres(parameters: Mapping[str, str]) -> list[str]:
    """Those of the hosts of libpq's connection parameters that could get plain text. Unix sockets stay on the machine."""
    if parameters.get("sslmode", "prefer") in ENCRYPTED_SSLMODES:
        return []
    if parameters.get("service"):
        # Its file may name any host.
        return [f"service {parameters['service']}"]
    hosts = (parameters.get("host") or "").split(",")
    addresses = (parameters.get("hostaddr") or "").split(",")
    count = max(len(hosts), len(addresses))
    pairs = zip(_padded(hosts, count), _padded(addresses, count), strict=True)
    return [host or address for host, address in pairs if not _stays(host.strip(), address.strip())]


def plain_url(url: str) -> list[str]:
    """The host of an HTTP registry or a Redis server that would get plain text."""
    parts = urlsplit(url)
    if parts.scheme.lower() in ENCRYPTED_SCHEMES or parts.scheme.lower() in ("unix", "redis+unix"):
        return []
    return [] if loopback(parts.hostname or "") else [parts.hostname or url.partition("?")[0].rpartition("@")[2]]


def refuse_plaintext(what: str, hosts: Sequence[str], *, hint: str) -> None:
    """Raises Refusal(PLAINTEXT_REFUSED) naming the hosts, if there are any."""
    if hosts:
        raise Refusal(
            Code.PLAINTEXT_REFUSED,
            f"{what} {', '.join(hosts)} would be reached in plain text",
            hint=f"{hint}; allow_plaintext = true allows it",
        )


def _stays(host: str, address: str) -> bool:
    if address:
        # libpq connects to hostaddr; host is then only a name to verify.
        return loopback(address)
    return host == "" or host.startswith(("/", "@")) or loopback(host)


def _padded(values: Sequence[str], count: int) -> list[str]:
    return [*values, *[""] * (count - len(values))]


def _host(server: str) -> str:
    if server.startswith("["):
        return server[1:].partition("]")[0]
    host, colon, port = server.rpartition(":")
    return host if colon and port.isdigit() else server
