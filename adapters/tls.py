"""Do: find out why a server's certificate is not trusted, or why it will not talk, in words for an operator.

The clients keep that to their logs, or say "certificate verify failed"; so the handshake is done once more here, with
nothing sent on it.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable, Sequence

from adapters.kafka_settings import Security
from schemas.errors import Code, TailraceError, Transient

PROBE_S = 3.0
_SSL_REQUEST = b"\x00\x00\x00\x08\x04\xd2\x16\x2f"
"""PostgreSQL: protocol, message formats, SSLRequest; the server answers S or N."""

_REASONS: Sequence[tuple[tuple[str, ...], str, str]] = (
    (
        ("alert certificate required", "handshake failure", "alert bad certificate", "alert unknown ca"),
        "the server does not accept the certificate of this client",
        "set a certificate and key that its CA signed",
    ),
    (
        ("alert certificate expired", "alert expired"),
        "the certificate of this client has expired",
        "renew it; it is read again at the next attempt",
    ),
    (
        ("certificate has expired",),
        "the server's certificate has expired",
        "renew it on the server; is the clock here right?",
    ),
    (("not yet valid",), "the server's certificate is not valid yet", "look at the clocks of both machines"),
    (
        ("hostname mismatch", "ip address mismatch", "does not match host name", "doesn't match"),
        "the server's certificate is for another host name",
        "connect by a name that the certificate carries, or add this one to it",
    ),
    (
        ("self-signed", "self signed", "unable to get", "unknown ca"),
        "the server's certificate is signed by an unknown CA",
        "name the CA's file (Kafka: transport.client.ssl_cafile; PostgreSQL: sslrootcert=, Redis: ?ssl_ca_certs=)",
    ),
    (("revoked",), "the server's certificate is revoked", "put a new one on the server"),
    (
        ("wrong version number", "record layer failure", "does not support ssl"),
        "the server does not speak TLS on this port",
        "look at the port and at the server's TLS settings",
    ),
    (
        ("root certificate file", "certificate file", "private key file"),
        "a file of certificates cannot be read here",
        "look at the paths and modes of sslrootcert, sslcert, sslkey",
    ),
    (
        ("certificate verify failed", "certificate_verify_failed"),
        "the server's certificate does not verify",
        "look at the CA's file and at the certificate's dates and names",
    ),
)


def distrust(text: str) -> tuple[str, str] | None:
    """(what happened, next step), from what OpenSSL, libpq or a client says; None: it is not about trust."""
    lowered = text.lower()
    for words, what, hint in _REASONS:
        if any(word in lowered for word in words):
            return what, hint
    return None


def why_untrusted(servers: Iterable[str], security: Security) -> TailraceError | None:
    """The first Kafka server whose handshake fails for a reason of trust; None: none does."""
    for server in servers:
        host, _, port = server.rpartition(":")
        text = handshake_error(host.strip("[]"), int(port), security)
        told = distrust(text) if text else None
        if told is not None:
            return Transient(Code.STREAM_UNTRUSTED, f"Kafka at {server}: {told[0]}", hint=told[1])
    return None


def answers(server: str, security: Security) -> bool:
    """Does this Kafka server take a connection, with its TLS handshake where one is wanted?"""
    host, _, port = server.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_S):
            pass
    except OSError:
        return False
    return not security.encrypted or not handshake_error(host.strip("[]"), int(port), security)


def handshake_error(host: str, port: int, security: Security, *, postgres: bool = False) -> str:
    """What the TLS handshake says; empty: it succeeds, or the server cannot be reached at all."""
    try:
        context = ssl.create_default_context(cafile=security.cafile or None)
        context.check_hostname = security.check_hostname
        if security.certfile:
            context.load_cert_chain(security.certfile, security.keyfile or None)
    except (OSError, ValueError) as error:
        return f"certificate file: {error}"
    try:
        with socket.create_connection((host, port), timeout=PROBE_S) as plain:
            if postgres:
                plain.sendall(_SSL_REQUEST)
                if plain.recv(1) != b"S":
                    return "server does not support ssl"
            with context.wrap_socket(plain, server_hostname=host) as wrapped:
                # TLS 1.3: a server that refuses our certificate says so only when something is read.
                wrapped.settimeout(0.2)
                wrapped.recv(1)
    except ssl.SSLError as error:
        return f"{error.reason} {getattr(error, 'verify_message', '')}".replace("_", " ")
    except OSError:
        return ""
    return ""
