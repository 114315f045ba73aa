"""Do: PostgreSQL for tests, one for the whole session; a fresh database per test."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from adapters.postgres import Postgres
from embedded.postgres import EmbeddedPostgres, package_binaries
from schemas.errors import Refusal
from tests.services import Service, Way, chosen, postgres_container

CACHE = Path(__file__).resolve().parent.parent / ".cache"
VERSIONS = {"12": CACHE / "postgres-12.22.0", "15": CACHE / "postgres-15.14.0", "18": None}
_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_numbers = itertools.count(1)


def with_database(url: str, name: str) -> str:
    """The same server, another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def start_server(
    binaries: Path | None = None, *, settings: dict[str, str] | None = None
) -> tuple[EmbeddedPostgres, str, Path]:
    """A server in a temporary folder; skips by name when its binaries are not there."""
    if binaries is not None and not (binaries / "bin" / "postgres").exists():
        pytest.skip(f"{binaries.name} is not in .cache (tests/tools/services.sh fetches it)")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-pg-"))
    folder.chmod(0o755)
    server = EmbeddedPostgres(folder / "server", binaries=binaries, settings={**_FAST, **(settings or {})})
    try:
        return server, server.start(), folder
    except Refusal as refusal:
        pytest.skip(f"embedded PostgreSQL: {refusal.message}")


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """URL of a superuser on a server for the whole session (see tests/services.py)."""
    choice = chosen(Service.POSTGRES, lacking=_lacking())
    match choice.way:
        case Way.GIVEN:
            yield choice.address
        case Way.DOCKER:
            with postgres_container(_FAST) as url:
                yield url
        case Way.EMBEDDED:
            server, url, folder = start_server()
            yield url
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)
        case Way.NONE:
            pytest.skip(choice.reason)


def _lacking() -> str:
    try:
        package_binaries()
    except Refusal as refusal:
        return refusal.message
    return ""


@pytest.fixture
def database_url(postgres_url: str) -> Iterator[str]:
    """A fresh, empty database."""
    yield from _database(postgres_url)


@pytest.fixture(scope="session", params=sorted(VERSIONS))
def versioned_postgres(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(major version, superuser URL) for each supported PostgreSQL."""
    server, url, folder = start_server(VERSIONS[request.param])
    yield request.param, url
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def versioned_database(versioned_postgres: tuple[str, str]) -> Iterator[tuple[str, str]]:
    """(major version, URL of a fresh database) for each supported PostgreSQL."""
    version, url = versioned_postgres
    for one in _database(url):
        yield version, one


def _database(url: str) -> Iterator[str]:
    name = f"t{os.getpid()}_{next(_numbers)}"
    admin = Postgres(url, application_name="tests")
    ((version,),) = admin.rows("SELECT current_setting('server_version_num')::int")
    # From 15 on a third of the work of the default, which writes the template into the WAL page by page.
    admin.run(f"CREATE DATABASE {name}{' STRATEGY FILE_COPY' if version >= 150_000 else ''}")
    try:
        yield with_database(url, name)
    finally:
        admin.run(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s AND pid <> pg_backend_pid()",
            (name,),
        )
        admin.run(f"DROP DATABASE IF EXISTS {name}")
        admin.close()
