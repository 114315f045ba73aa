"""Do: build the Kafka transport that is configured. The client is imported only here, and late: it takes a third of a
second."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable

from adapters.kafka_driver import Driver
from adapters.kafka_settings import security_of
from adapters.kafka_transport import KafkaTransport
from ops.config import Config
from ops.retry import call_with_retries
from schemas.errors import Code, ConfigError, Refusal
from schemas.transit import plain_servers, refuse_plaintext

OPEN_S = 10.0


def open_kafka(
    config: Config, *, for_s: float = OPEN_S, say: Callable[[str, str], None] | None = None
) -> KafkaTransport:
    """Raises ConfigError, Refusal(PLAINTEXT_REFUSED | PACKAGE_MISSING), or what the broker says after `for_s`."""
    servers = config.transport.bootstrap_servers
    if not servers.strip(" ,"):
        raise ConfigError(Code.CONFIG_INVALID, "transport.bootstrap_servers is empty", hint='set it: "host:9092"')
    if not config.allow_plaintext:
        security = security_of(config.client_settings())
        refuse_plaintext(
            "Kafka at", plain_servers(servers.split(","), security.protocol), hint='security_protocol = "SASL_SSL"'
        )
    connect = _driver(config, servers)
    transport = config.transport
    existing = transport.topics == "existing"
    return call_with_retries(
        lambda: KafkaTransport(connect, replicas=transport.replication_factor, existing=existing, say=say), for_s=for_s
    )


def _driver(config: Config, servers: str) -> Callable[[], Driver]:
    if config.transport.driver == "kafka-python":
        from adapters.kafka import PythonDriver

        return lambda: PythonDriver(servers, config.client_settings())
    if importlib.util.find_spec("confluent_kafka") is None:
        raise Refusal(
            Code.PACKAGE_MISSING,
            'transport.driver = "confluent" needs the package confluent-kafka',
            hint="pip install 'tailrace[fast]', or driver = \"kafka-python\"",
        )
    from adapters.confluent import ConfluentDriver

    return lambda: ConfluentDriver(servers, config.client_settings())
