"""What counts as plain text off this machine, host by host."""

from __future__ import annotations

import pytest

from schemas.errors import Code, Refusal
from schemas.transit import loopback, plain_postgres, plain_servers, plain_url, refuse_plaintext


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.9.1", True),
        ("localhost", True),
        ("LOCALHOST.", True),
        ("::1", True),
        ("[::1]", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("10.0.0.7", False),
        ("fe80::1%eth0", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example", False),
        ("", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert expected == loopback(host)


@pytest.mark.parametrize(
    ("servers", "protocol", "expected"),
    [
        ("127.0.0.1:9092,[::1]:9092,localhost:9092", "PLAINTEXT", []),
        ("127.0.0.1:9092, kafka.internal:9092", "PLAINTEXT", ["kafka.internal:9092"]),
        ("kafka.internal:9092", "SASL_PLAINTEXT", ["kafka.internal:9092"]),
        ("[fe80::1]:9092", "plaintext", ["[fe80::1]:9092"]),
        ("kafka.internal", "", ["kafka.internal"]),
        ("kafka.internal:9092", "SASL_SSL", []),
        ("kafka.internal:9092", "ssl", []),
    ],
)
def test_kafka(servers: str, protocol: str, expected: list[str]) -> None:
    assert expected == plain_servers(servers.split(","), protocol)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, []),
        ({"host": "/var/run/postgresql"}, []),
        ({"host": "@abstract"}, []),
        ({"host": "localhost"}, []),
        ({"host": "db1"}, ["db1"]),
        ({"host": "db1", "sslmode": "prefer"}, ["db1"]),
        ({"host": "db1", "sslmode": "allow"}, ["db1"]),
        ({"host": "db1", "sslmode": "disable"}, ["db1"]),
        ({"host": "db1", "sslmode": "require"}, []),
        ({"host": "db1", "sslmode": "verify-ca"}, []),
        ({"host": "db1", "sslmode": "verify-full"}, []),
        ({"host": "localhost,db1,/tmp,db2"}, ["db1", "db2"]),
        ({"host": "localhost", "hostaddr": "10.0.0.1"}, ["localhost"]),
        ({"host": "db1", "hostaddr": "127.0.0.1"}, []),
        ({"hostaddr": "10.0.0.1,::1"}, ["10.0.0.1"]),
        ({"service": "prod"}, ["service prod"]),
        ({"service": "prod", "sslmode": "verify-full"}, []),
    ],
)
def test_postgres(parameters: dict[str, str], expected: list[str]) -> None:
    assert expected == plain_postgres(parameters)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://registry:8081", ["registry"]),
        ("https://registry:8081", []),
        ("http://127.0.0.1:8081", []),
        ("http://[::1]:8081/x", []),
        ("redis://:secret@cache:6379/0", ["cache"]),
        ("rediss://cache:6379/0", []),
        ("unix:///run/redis.sock", []),
    ],
)
def test_urls(url: str, expected: list[str]) -> None:
    assert expected == plain_url(url)


def test_a_refusal_names_the_hosts_and_the_way_out() -> None:
    with pytest.raises(Refusal) as caught:
        refuse_plaintext("Kafka at", ["a:1", "b:2"], hint="use SASL_SSL")
    assert (Code.PLAINTEXT_REFUSED, "Kafka at a:1, b:2 would be reached in plain text") == (
        caught.value.code,
        caught.value.message,
    )
    assert "allow_plaintext" in caught.value.hint
    refuse_plaintext("Kafka at", [], hint="")
