"""Fixtures are plugins, one file each."""

from __future__ import annotations

import pytest

pytest_plugins = [
    "tests.fix_kafka",
    "tests.fix_old_sqlite",
    "tests.fix_postgres",
    "tests.fix_registry",
    "tests.fix_pipeline",
    "tests.fix_tls",
    "tests.fix_valkey",
]

SHARED = ("secured_kafka", "registry_url", "old_sqlite", "versioned_postgres", "kafka_address")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Under `--dist loadgroup` what needs one of these servers runs in one worker: each other one would start its own."""
    for item in items:
        for name in SHARED:
            if name in getattr(item, "fixturenames", ()):
                item.add_marker(pytest.mark.xdist_group(name))
                break
