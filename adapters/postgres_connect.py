"""Decide: where a PostgreSQL URL leads, and why a connection was not made, in words without a secret.

Trap: libpq gives no SQLSTATE for a connection that failed, only a text, which may be in the server's language: what is
not recognised counts as unreachable, which is tried again as well. Its text for a URL that does not parse quotes the URL.
"""

from __future__ import annotations

from collections.abc import Mapping

import psycopg
from psycopg import conninfo, pq

from adapters.kafka_settings import Security
from adapters.tls import distrust, handshake_error
from schemas.errors import Code, ConfigError, TailraceError, Transient
from schemas.transit import ENCRYPTED_SSLMODES

_DENIED = (
    "password authentication failed",
    "authentication failed for user",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "certificate authentication failed",
    "requires a valid client certificate",
    "is not permitted to log in",
    'role "',
)


def connection_parameters(url: str) -> dict[str, str]:
    """libpq's parameters: of the URL, over those of the environment. Raises ConfigError without quoting the URL."""
    try:
        given = {key: str(value) for key, value in conninfo.conninfo_to_dict(url).items() if value is not None}
    except psycopg.Error:
        raise ConfigError(
            Code.CONFIG_INVALID,
            "target_database_url is no connection URL that libpq understands",
            hint="postgresql://user@host/db; a password with @, / or : in it: ${NAME} escapes it",
        ) from None
    defaults = {
        one.keyword.decode(): one.val.decode()
        for one in pq.Conninfo.get_defaults()
        if one.val
        and one.keyword in (b"host", b"hostaddr", b"sslmode", b"sslrootcert", b"service", b"target_session_attrs")
    }
    return {**defaults, **given}


def as_environment(parameters: Mapping[str, str]) -> dict[str, str]:
    """The same for a child that reads libpq's variables: no secret becomes an argument."""
    names = {one.keyword.decode(): one.envvar.decode() for one in pq.Conninfo.get_defaults() if one.envvar}
    return {names[key]: value for key, value in parameters.items() if key in names and value}


def connect_error(error: psycopg.Error, parameters: Mapping[str, str]) -> TailraceError:
    """Why no connection was made."""
    text = without_secrets(" ".join(str(error).split()), parameters)
    where = f"{parameters.get('host') or 'this machine'}:{parameters.get('port') or 5432}"
    if any(words in text for words in _DENIED):
        return Transient(
            Code.TARGET_DENIED,
            f"PostgreSQL at {where} refuses the login of {parameters.get('user') or 'this user'}: {_reason(text)}",
            hint="check the password and pg_hba.conf; secrets are read again at each attempt",
        )
    told = _distrusted(text, parameters)
    if told is not None:
        return Transient(Code.TARGET_UNTRUSTED, f"PostgreSQL at {where}: {told[0]}", hint=told[1])
    return Transient(
        Code.TARGET_UNREACHABLE,
        f"PostgreSQL cannot be reached: {_reason(text)}",
        hint="it is tried again; check that the server runs and target_database_url is right",
    )


def _distrusted(text: str, parameters: Mapping[str, str]) -> tuple[str, str] | None:
    told = distrust(text)
    mode = parameters.get("sslmode", "prefer")
    if told is None or mode not in ENCRYPTED_SSLMODES or "certificate verify failed" not in text:
        return told
    # libpq tells that it does not verify, not why.
    root = parameters.get("sslrootcert", "")
    security = Security(cafile="" if root == "system" else root, check_hostname=mode == "verify-full")
    for host, port in _hosts(parameters):
        exact = distrust(handshake_error(host, port, security, postgres=True))
        if exact is not None:
            return exact
    return told


def may_lead_to_standby(parameters: Mapping[str, str]) -> bool:
    """Several hosts, and nothing that says which of them is meant."""
    return len(_hosts(parameters)) > 1 and parameters.get("target_session_attrs") not in ("read-write", "primary")


def _hosts(parameters: Mapping[str, str]) -> list[tuple[str, int]]:
    hosts = (parameters.get("host") or "").split(",")
    ports = (parameters.get("port") or "5432").split(",")
    if len(ports) < len(hosts):
        ports = [ports[0]] * len(hosts)
    return [
        (host.strip(), int(port or 5432))
        for host, port in zip(hosts, ports, strict=False)
        if host.strip() and not host.strip().startswith(("/", "@"))
    ]


def _reason(text: str) -> str:
    """The server's own words, where there are some."""
    return (text.rpartition("FATAL:")[2].strip() or text)[:300]


def without_secrets(text: str, parameters: Mapping[str, str]) -> str:
    for name in ("password", "sslpassword", "passfile", "oauth_client_secret"):
        value = parameters.get(name)
        if value:
            text = text.replace(value, "***")
    return text
