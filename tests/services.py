"""Where a test's server comes from: an address in the environment, else Docker, else this machine's embedded one.

`TAILRACE_TEST_KAFKA=host:port`, `TAILRACE_TEST_POSTGRES=URL of a superuser` and `TAILRACE_TEST_VALKEY=URL` name servers
that run already and are there for tests alone: tests delete every topic of that broker, so give it to one worker at a time
(`pytest -n 0`). `TAILRACE_TEST_DOCKER=0` leaves Docker out. `choose` is pure, what it chooses is started below it.
"""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum


class Service(Enum):
    """Value: the variable that names a running one."""

    POSTGRES = "TAILRACE_TEST_POSTGRES"
    KAFKA = "TAILRACE_TEST_KAFKA"
    VALKEY = "TAILRACE_TEST_VALKEY"


class Way(Enum):
    GIVEN = "given"
    DOCKER = "docker"
    EMBEDDED = "embedded"
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Choice:
    """`address`: of a given one; `reason`: why there is none, for the skip."""

    way: Way
    address: str = ""
    reason: str = ""


def choose(service: Service, environment: Mapping[str, str], *, docker: Callable[[], bool], lacking: str) -> Choice:
    """Pure but for what `docker` does, which is asked only where no address is given.

    Args:
        lacking: what the embedded one lacks to run here; empty: nothing.
    """
    if address := environment.get(service.value, "").strip():
        return Choice(Way.GIVEN, address)
    if environment.get("TAILRACE_TEST_DOCKER", "1") != "0" and docker():
        return Choice(Way.DOCKER)
    if not lacking:
        return Choice(Way.EMBEDDED)
    return Choice(Way.NONE, reason=f"{service.name}: {service.value} is not set, Docker does not answer, and {lacking}")


def chosen(service: Service, *, lacking: str) -> Choice:
    return choose(service, os.environ, docker=docker_answers, lacking=lacking)


@functools.cache
def docker_answers() -> bool:
    """A client without its daemon is not enough."""
    if shutil.which("docker") is None:
        return False
    try:
        return 0 == subprocess.run(["docker", "info"], capture_output=True, check=False, timeout=10).returncode
    except subprocess.TimeoutExpired:
        return False


@contextmanager
def kafka_container() -> Iterator[str]:
    """host:port of a broker in a container, with the settings of the embedded one that tests rely on."""
    from testcontainers.community.kafka import KafkaContainer

    container = KafkaContainer("confluentinc/cp-kafka:7.9.0").with_kraft()
    container.with_env("KAFKA_AUTO_CREATE_TOPICS_ENABLE", "false")
    container.with_env("KAFKA_MESSAGE_MAX_BYTES", str(64 << 20))
    container.with_env("KAFKA_GROUP_INITIAL_REBALANCE_DELAY_MS", "0")
    with container:
        yield container.get_bootstrap_server()


@contextmanager
def postgres_container(settings: Mapping[str, str]) -> Iterator[str]:
    """URL of a superuser."""
    from testcontainers.community.postgres import PostgresContainer

    container = PostgresContainer("postgres:18", driver=None)
    container.with_command(" ".join(["postgres", *(f"-c {name}={value}" for name, value in settings.items())]))
    with container:
        yield container.get_connection_url()


@contextmanager
def valkey_container() -> Iterator[str]:
    """URL of a server without a password, on loopback."""
    from testcontainers.community.redis import RedisContainer

    with RedisContainer("valkey/valkey:9") as container:
        yield f"redis://{container.get_container_host_ip()}:{container.get_exposed_port(6379)}/0"
