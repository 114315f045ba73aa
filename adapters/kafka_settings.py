"""Decide: what [transport.client] means to each Kafka client; pure.

Settings carry kafka-python's names; where librdkafka is the client they are given its own names, and its dotted ones are
taken as they are. What decides whether anything is lost (acks, offsets, order) is ours and not to be set.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from schemas.errors import Code, ConfigError

Settings = Mapping[str, str | int | float | bool]

OURS = frozenset(
    {
        "bootstrap_servers",
        "acks",
        "enable_idempotence",
        "retries",
        "max_in_flight_requests_per_connection",
        "partitioner",
        "transactional_id",
        "transaction_timeout_ms",
        "group_id",
        "group_instance_id",
        "enable_auto_commit",
        "auto_commit_interval_ms",
        "auto_offset_reset",
        "isolation_level",
        "allow_auto_create_topics",
        "exclude_internal_topics",
        "consumer_timeout_ms",
        "max_block_ms",
        "delivery_timeout_ms",
        "max_request_size",
    }
)
"""By kafka-python's names; librdkafka's are these with dots, or are refused below."""
_OURS_DOTTED = frozenset({"bootstrap.servers", "metadata.broker.list", "enable.auto.offset.store", "error_cb"})
_RENAMED = {
    "ssl_cafile": "ssl.ca.location",
    "ssl_certfile": "ssl.certificate.location",
    "ssl_keyfile": "ssl.key.location",
    "ssl_password": "ssl.key.password",
    "ssl_crlfile": "ssl.crl.location",
    "ssl_ciphers": "ssl.cipher.suites",
    "sasl_plain_username": "sasl.username",
    "sasl_plain_password": "sasl.password",
    "sasl_kerberos_name": "sasl.kerberos.principal",
    "request_timeout_ms": "socket.timeout.ms",
    "fetch_max_wait_ms": "fetch.wait.max.ms",
    "max_partition_fetch_bytes": "max.partition.fetch.bytes",
    "client_dns_lookup": "client.dns.lookup",
}
_CHECK_HOSTNAME = "ssl.endpoint.identification.algorithm"


@dataclass(frozen=True, slots=True)
class Security:
    """How a connection is protected."""

    protocol: str = "PLAINTEXT"
    cafile: str = ""
    certfile: str = ""
    keyfile: str = ""
    check_hostname: bool = True

    @property
    def encrypted(self) -> bool:
        return self.protocol in ("SSL", "SASL_SSL")

    @property
    def login(self) -> bool:
        return self.protocol.startswith("SASL")


def security_of(client: Settings) -> Security:
    """From either spelling."""
    dotted = as_dotted(client)
    return Security(
        protocol=str(dotted.get("security.protocol", "PLAINTEXT")).upper(),
        cafile=str(dotted.get("ssl.ca.location", "")),
        certfile=str(dotted.get("ssl.certificate.location", "")),
        keyfile=str(dotted.get("ssl.key.location", "")),
        check_hostname=str(dotted.get(_CHECK_HOSTNAME, "https")).lower() != "none",
    )


def for_kafka_python(client: Settings, known: Collection[str]) -> dict[str, str | int | float | bool]:
    """Checked against the names that the client knows. Raises ConfigError naming the setting, never its value."""
    for name in client:
        refuse_ours(name)
        if name not in known:
            raise unknown_setting(name, known, client="kafka-python")
    return dict(client)


def as_dotted(client: Settings) -> dict[str, str | int | float | bool]:
    """librdkafka's names. Whether they exist is for librdkafka to say."""
    result: dict[str, str | int | float | bool] = {}
    for name, value in client.items():
        if name == "ssl_check_hostname":
            result[_CHECK_HOSTNAME] = "https" if value else "none"
        else:
            result[name if "." in name else _RENAMED.get(name, name.replace("_", "."))] = value
    return result


def refuse_ours(name: str) -> None:
    if name in OURS or name in _OURS_DOTTED or name.replace(".", "_") in OURS:
        raise ConfigError(
            Code.CONFIG_INVALID,
            f"transport.client.{name} is decided by Tailrace, or set elsewhere in [transport]",
            hint="leave it out",
        )


def unknown_setting(name: str, known: Collection[str], *, client: str) -> ConfigError:
    near = difflib.get_close_matches(name, list(known), n=1)
    hint = f"did you mean {near[0]}?" if near else f"the connection settings of {client} are in its documentation"
    return ConfigError(Code.CONFIG_INVALID, f"transport.client.{name} is no setting of {client}", hint=hint)
