"""A registry that is away, refuses, forgets, wants a password or shows a certificate: each has its own error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from adapters.registry_http import HttpRegistry
from schemas.errors import Code, Failed, Refusal, TailraceError, Transient
from tests.fakes.registry import FakeRegistry
from tests.fakes.transport import FakeTransport

LONG = '{"type":"record","name":"t","fields":[{"name":"v","type":"long"}],"tailrace.plan":"x"}'
TEXT = LONG.replace("long", "string")


@pytest.fixture
def fake() -> Iterator[FakeRegistry]:
    made = FakeRegistry()
    yield made
    made.close()


def code(registry: HttpRegistry, kind: type[TailraceError], text: str = LONG) -> Code:
    with pytest.raises(kind) as caught:
        registry.register("s", text)
    assert "secret" not in str(caught.value)
    return caught.value.code


def test_a_password_is_read_again_at_every_request(fake: FakeRegistry) -> None:
    fake.password = "secret-1"
    now = {"password": "secret-0"}
    registry = HttpRegistry(fake.url, FakeTransport(), "p.schemas", login=lambda: ("user", now["password"]))
    assert Code.REGISTRY_DENIED == code(registry, Failed)
    now["password"] = "secret-1"
    assert 1 == registry.register("s", LONG)


def test_away_is_transient_and_heals(fake: FakeRegistry) -> None:
    registry = HttpRegistry(fake.url, FakeTransport(), "p.schemas")
    fake.away = True
    assert Code.REGISTRY_UNREACHABLE == code(registry, Transient)
    fake.away = False
    assert 1 == registry.register("s", LONG)
    fake.close()
    assert Code.REGISTRY_UNREACHABLE == code(registry, Transient, TEXT)
    assert 1 == registry.register("s", LONG)  # known: nobody is asked


def test_a_level_that_may_not_be_changed_is_refused_before_the_first_record(fake: FakeRegistry) -> None:
    fake.forbidden = True
    registry = HttpRegistry(fake.url, FakeTransport(), "p.schemas")
    assert Code.REGISTRY_REFUSED == code(registry, Refusal)
    assert [] == fake.schemas
    fake.levels["s"] = "NONE"
    assert [1, 2] == [registry.register("s", text) for text in (LONG, TEXT)]


def test_a_level_that_was_raised_later_is_lowered_again(fake: FakeRegistry) -> None:
    registry = HttpRegistry(fake.url, FakeTransport(), "p.schemas")
    registry.register("s", LONG)
    fake.levels["s"] = "FULL"
    assert 2 == registry.register("s", TEXT)
    assert {"s": "NONE"} == fake.levels


def test_a_registry_that_drops_properties_is_refused(fake: FakeRegistry) -> None:
    fake.forgetful = True
    assert Code.REGISTRY_REFUSED == code(HttpRegistry(fake.url, FakeTransport(), "p.schemas"), Refusal)


def test_an_address_that_is_no_registry_is_refused(fake: FakeRegistry) -> None:
    registry = HttpRegistry(f"{fake.url}/elsewhere", FakeTransport(), "p.schemas")
    assert Code.REGISTRY_REFUSED == code(registry, Refusal)


def test_a_crash_before_the_witness_leaves_nothing_behind(fake: FakeRegistry) -> None:
    transport = FakeTransport()
    HttpRegistry(fake.url, FakeTransport(), "p.schemas").register("s", LONG)  # its witness is lost with its stream
    assert {} == dict(transport.topics("p.schemas"))
    assert 1 == HttpRegistry(fake.url, transport, "p.schemas").register("s", LONG)
    assert 1 == transport.ends(["p.schemas"])["p.schemas"][0]


def test_tls_with_a_private_certificate(tmp_path: Path) -> None:
    path = _certificate(tmp_path / "registry.pem")
    fake = FakeRegistry(certificate=path)
    try:
        assert Code.REGISTRY_DENIED == code(HttpRegistry(fake.url, FakeTransport(), "p.schemas"), Failed)
        trusted = HttpRegistry(fake.url, FakeTransport(), "p.schemas", ca_file=str(path))
        assert json.loads(LONG) == json.loads(trusted.schema(trusted.register("s", LONG)))
        missing = HttpRegistry(fake.url, FakeTransport(), "p.schemas", ca_file=str(tmp_path / "none.pem"))
        assert Code.REGISTRY_DENIED == code(missing, Failed)
    finally:
        fake.close()


def _certificate(path: Path) -> Path:
    """Key and self-signed certificate for 127.0.0.1 in one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "registry")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path.write_bytes(private + built.public_bytes(serialization.Encoding.PEM))
    return path
