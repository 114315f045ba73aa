"""Fixtures are plugins, one file each."""

pytest_plugins = [
    "tests.fix_kafka",
    "tests.fix_old_sqlite",
    "tests.fix_postgres",
    "tests.fix_registry",
    "tests.fix_pipeline",
    "tests.fix_tls",
    "tests.fix_valkey",
]
