"""Logins and certificates: right ones work with both clients, wrong ones are each told apart, rotated ones heal."""

from __future__ import annotations

import gc
import time
import warnings
from pathlib import Path

import pytest

from adapters.kafka_transport import KafkaTransport
from adapters.postgres import Postgres
from cli.kafka import open_kafka
from ops.config import Config, TransportConfig
from ops.retry import with_retries
from schemas.change import Message, TopicPartition
from schemas.errors import Code, TailraceError, Transient
from schemas.ports import TRANSPORT_CALLS, TopicSettings
from tests.fix_tls import SecuredKafka, TlsPostgres

DRIVERS = ["kafka-python", "confluent"]


def _config(
    folder: Path, kafka: SecuredKafka, driver: str, *, listener: str = "GOOD", **client: str | int | float | bool
) -> Config:
    (folder / "password").write_text("first\n")
    given = {**kafka.client("${file:password}"), **client}
    if driver == "kafka-python":
        given["bootstrap_timeout_ms"] = 3000
    servers = f"localhost:{kafka.ports[listener]}"
    transport = TransportConfig("kafka", driver=driver, bootstrap_servers=servers, client=given)
    return Config({"app": "app.db"}, folder=str(folder), transport=transport)


def _opened(config: Config) -> KafkaTransport:
    return open_kafka(config, for_s=0.0)


@pytest.mark.parametrize("driver", DRIVERS)
def test_records_travel_through_tls_and_a_login(tmp_path: Path, secured_kafka: SecuredKafka, driver: str) -> None:
    secured_kafka.set_password("tailrace", "first")
    opened = open_kafka(_config(tmp_path, secured_kafka, driver), for_s=10.0)
    transport = with_retries(opened, TRANSPORT_CALLS, for_s=20.0)
    try:
        topic = f"secured-{driver}"
        transport.create_topics({topic: TopicSettings()})
        (placed,) = transport.send([Message(topic, b"k", b"v")])
        where = TopicPartition(topic, placed[0])
        fetched = transport.fetch({where: (placed[1], None)}, timeout_s=10.0)
        assert [(b"k", b"v")] == [(one.key, one.value) for one in fetched.messages]
        transport.commit_group("g", {where: 1})
        assert {where: 1} == transport.committed("g", [topic])
    finally:
        transport.close()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize(
    ("listener", "client", "code", "words"),
    [
        ("GOOD", {"sasl_plain_password": "wrong-secret"}, Code.STREAM_DENIED, "refuses the login"),
        ("EXPIRED", {}, Code.STREAM_UNTRUSTED, "the server's certificate has expired"),
        ("OTHER", {}, Code.STREAM_UNTRUSTED, "is for another host name"),
        ("GOOD", {"ssl_cafile": ""}, Code.STREAM_UNTRUSTED, "signed by an unknown CA"),
    ],
    ids=["password", "expired", "hostname", "authority"],
)
def test_what_is_wrong_is_told_apart(
    tmp_path: Path,
    secured_kafka: SecuredKafka,
    driver: str,
    listener: str,
    client: dict[str, str | int | float | bool],
    code: Code,
    words: str,
) -> None:
    config = _config(tmp_path, secured_kafka, driver, listener=listener, **client)
    with pytest.raises(TailraceError) as caught:
        _opened(config).close()
    assert (code, True) == (caught.value.code, words in caught.value.message), str(caught.value)
    assert caught.value.retryable
    assert caught.value.hint
    assert "secret" not in caught.value.message


def test_no_socket_stays_open_behind_a_client(tmp_path: Path, secured_kafka: SecuredKafka) -> None:
    """kafka-python 3.0.12 forgets the socket of every handshake that fails."""
    gc.collect()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always", ResourceWarning)
        with pytest.raises(Transient):
            _opened(_config(tmp_path, secured_kafka, "kafka-python", listener="EXPIRED"))
        gc.collect()
    assert [] == [str(one.message) for one in said if issubclass(one.category, ResourceWarning)]


@pytest.mark.parametrize("driver", ["kafka-python", pytest.param("confluent", marks=pytest.mark.soak)])
def test_a_rotated_password_heals_an_open_stream(
    tmp_path: Path, secured_kafka: SecuredKafka, driver: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # How long kafka-python's producer tries by itself before it says that a batch was not delivered: half a minute.
    monkeypatch.setattr("adapters.kafka.REQUEST_MS", 4_000)
    monkeypatch.setattr("adapters.kafka.DELIVERY_MS", 6_000)
    secured_kafka.set_password("tailrace", "first")
    transport = open_kafka(_config(tmp_path, secured_kafka, driver), for_s=10.0)
    topic = f"rotated-{driver}"
    try:
        transport.create_topics({topic: TopicSettings()})
        transport.send([Message(topic, b"k", b"1")])
        secured_kafka.set_password("tailrace", "second")
        codes = set()
        deadline = time.monotonic() + 60
        while Code.STREAM_DENIED not in codes:
            assert time.monotonic() < deadline, codes
            try:
                transport.send([Message(topic, b"k", b"2")])
                time.sleep(0.2)
            except Transient as error:
                codes.add(error.code)
        (tmp_path / "password").write_text("second\n")
        while True:
            try:
                transport.send([Message(topic, b"k", b"3")])
                break
            except Transient:
                assert time.monotonic() < deadline
                time.sleep(0.2)
        assert transport.ends([topic])[topic][0] >= 2
    finally:
        transport.close()
        secured_kafka.set_password("tailrace", "first")


def test_postgres_is_verified_by_its_certificate(tls_postgres: TlsPostgres) -> None:
    url = f"{tls_postgres.start()}?sslmode=verify-full&sslrootcert={tls_postgres.ca}"
    target = Postgres(url, application_name="tests")
    assert [(True,)] == target.rows("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
    target.close()
    _refused(url.replace("localhost", "127.0.0.1"), Code.TARGET_UNTRUSTED, "is for another host name")
    _refused(url.partition("&")[0] + "&sslrootcert=system", Code.TARGET_UNTRUSTED, "unknown CA")
    _refused(url.replace("postgres:", "postgres:x"), Code.TARGET_DENIED, "refuses the login")


def test_an_expired_certificate_of_postgres_is_told(tls_postgres: TlsPostgres) -> None:
    url = f"{tls_postgres.start(days=-1)}?sslmode=verify-full&sslrootcert={tls_postgres.ca}"
    _refused(url, Code.TARGET_UNTRUSTED, "certificate has expired")


def _refused(url: str, code: Code, words: str) -> None:
    with pytest.raises(TailraceError) as caught:
        Postgres(url, application_name="tests").rows("SELECT 1")
    assert (code, True) == (caught.value.code, words in caught.value.message), str(caught.value)
    assert caught.value.retryable
    password = url.partition("://")[2].partition(":")[2].partition("@")[0]
    assert password not in str(caught.value)


def test_a_rotated_password_heals_a_target(tmp_path: Path, database_url: str) -> None:
    admin = Postgres(database_url, application_name="tests")
    role = f"rotated_{tmp_path.name.replace('-', '_')}"
    admin.run(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
    try:
        (tmp_path / "password").write_text("first\n")
        where = database_url.partition("@")[2]
        config = Config({"a": "a.db"}, f"postgresql://{role}:${{file:password}}@{where}", folder=str(tmp_path))
        target = Postgres(config.target_url, application_name="tests")
        assert [(1,)] == target.rows("SELECT 1")
        admin.run(f"ALTER ROLE {role} PASSWORD 'second'")
        admin.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
        codes = []
        for _ in range(2):
            with pytest.raises(TailraceError) as caught:
                target.rows("SELECT 1")
            codes.append(caught.value.code)
        assert [Code.TARGET_UNREACHABLE, Code.TARGET_DENIED] == codes
        (tmp_path / "password").write_text("second\n")
        assert [(1,)] == target.rows("SELECT 1")
        target.close()
    finally:
        admin.run(f"DROP ROLE {role}")
        admin.close()
