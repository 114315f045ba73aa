"""Do: an authority of our own, and servers with certificates it signed: a broker, PostgreSQL and a Redis server."""

from __future__ import annotations

import datetime
import ipaddress
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from embedded.kafka import EmbeddedKafka, absent
from embedded.postgres import EmbeddedPostgres
from embedded.valkey import EmbeddedValkey
from tests.fix_kafka import JARS

DEBIAN = max(Path("/usr/lib/postgresql").glob("[1-9][0-9]"), default=Path("/usr/lib/postgresql"))
"""The newest of Debian's servers."""
REDIS = Path("/usr/bin/redis-server")
DAY = datetime.timedelta(days=1)


class Authority:
    """Signs certificates into PEM files of one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "the authority of a test")])
        self.ca = folder / "ca.pem"
        self._certificate = self._signed(self._name, self._key, [], days=30, ca=True)
        self.ca.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str, host: str, *, days: int = 30) -> Path:
        """`name`.pem with key and certificate for this host; negative days: expired so long ago."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
        certificate = self._signed(subject, key, [host], days=days, ca=False)
        path = self.folder / f"{name}.pem"
        path.touch(mode=0o600)
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, hosts: list[str], *, days: int, ca: bool
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - 60 * DAY)
            .not_valid_after(now + days * DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_alternative(one) for one in hosts]), False)
        return builder.sign(self._key, hashes.SHA256())


def _alternative(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


@dataclass(frozen=True)
class SecuredKafka:
    """One broker: a good certificate, an expired one and one for another host, each on its own listener."""

    plain: str
    ports: dict[str, int]
    ca: Path

    def set_password(self, user: str, password: str) -> None:
        import kafka
        from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

        admin = kafka.KafkaAdminClient(bootstrap_servers=self.plain)
        try:
            wanted = UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password, iterations=4096)
            assert {user: None} == admin.alter_user_scram_credentials([wanted])
        finally:
            admin.close()
        # What is written is seen by the listeners a moment later.
        time.sleep(0.3)

    def client(self, password: str, *, ca: Path | None = None) -> dict[str, str | int | float | bool]:
        return {
            "security_protocol": "SASL_SSL",
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "tailrace",
            "sasl_plain_password": password,
            "ssl_cafile": str(ca or self.ca),
        }


@pytest.fixture(scope="session")
def authority() -> Iterator[Authority]:
    folder = Path(tempfile.mkdtemp(prefix="tailrace-ca-"))
    folder.chmod(0o755)
    yield Authority(folder)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def secured_kafka(authority: Authority) -> Iterator[SecuredKafka]:
    """Skips by name where no broker of our own can be had: certificates are not something to ask of a given one."""
    if reason := absent(JARS):
        pytest.skip(f"secured Kafka: {reason}")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-kafka-tls-"))
    listeners = {
        "GOOD": authority.issue("kafka-good", "localhost"),
        "EXPIRED": authority.issue("kafka-expired", "localhost", days=-1),
        "OTHER": authority.issue("kafka-other", "kafka.example"),
    }
    # A session must log in again so often: a password that was changed is found out soon.
    settings = {"listener.name.good.scram-sha-512.connections.max.reauth.ms": "4000"}
    broker = EmbeddedKafka(folder / "broker", jars=JARS, settings=settings, secured=listeners)
    plain = broker.start()
    made = SecuredKafka(plain, dict(broker.ports), authority.ca)
    made.set_password("tailrace", "first")
    yield made
    broker.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def tls_postgres(authority: Authority) -> Iterator[TlsPostgres]:
    """Debian's server: the embedded one is built without OpenSSL."""
    if not (DEBIAN / "bin" / "postgres").exists():
        pytest.skip(f"PostgreSQL with TLS: no server in {DEBIAN} (tests/tools/services.sh installs it as root)")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-pg-tls-"))
    folder.chmod(0o755)
    made = TlsPostgres(folder, authority)
    yield made
    made.server.stop()
    shutil.rmtree(folder, ignore_errors=True)


class TlsRedis:
    """`start` with one of the authority's certificates, each time as a new server with a new password."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder
        self._authority = authority
        self._servers: list[EmbeddedValkey] = []
        self.ca = authority.ca

    def start(self, host: str = "127.0.0.1", *, days: int = 30) -> str:
        """rediss:// URL by the address 127.0.0.1, without the name of the authority's file."""
        pem = self._authority.issue(f"redis-{len(self._servers)}", host, days=days)
        folder = self._folder / str(len(self._servers))
        self._servers.append(EmbeddedValkey(folder, server=REDIS, certificate=pem))
        return self._servers[-1].start()

    def stop(self) -> None:
        for one in self._servers:
            one.stop()


@pytest.fixture
def tls_redis(authority: Authority, tmp_path: Path) -> Iterator[TlsRedis]:
    """Debian's server: the embedded one is built without TLS."""
    if not REDIS.exists():
        pytest.skip(f"Redis with TLS: no {REDIS} (tests/tools/services.sh installs it as root)")
    made = TlsRedis(tmp_path / "redis", authority)
    yield made
    made.stop()


class TlsPostgres:
    """`start` with one of the authority's certificates."""

    def __init__(self, folder: Path, authority: Authority) -> None:
        self._folder = folder / "server"
        self._folder.mkdir()
        self._authority = authority
        self.ca = authority.ca
        self.pem = self._folder / "server.pem"
        settings = {
            "ssl": "on",
            "ssl_cert_file": str(self.pem),
            "ssl_key_file": str(self.pem),
            "fsync": "off",
        }
        self.server = EmbeddedPostgres(self._folder, binaries=DEBIAN, settings=settings)

    def start(self, host: str = "localhost", *, days: int = 30) -> str:
        """URL of the superuser by the name localhost, without sslmode."""
        source = self._authority.issue(f"pg-{os.getpid()}", host, days=days)
        shutil.copy(source, self.pem)
        self.pem.chmod(0o600)
        return self.server.start().replace("127.0.0.1", "localhost")
