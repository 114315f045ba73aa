"""The triggers inside SQLite 3.8.7: they must be accepted there, and the log must miss nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from capture.sqlite_triggers import ALL_RULES, Rules
from tests.fix_old_sqlite import OldSqlite, OldSqliteError
from tests.model.test_triggers import history

RUNS = int(os.environ.get("TAILRACE_MODEL_RUNS", "300"))


def _difference(old: OldSqlite, folder: Path, seed: int, rules: Rules) -> str | None:
    """None: this seed's schema needs what 3.8 did not have yet (generated columns, indexes on expressions)."""
    old.open()
    return history(old, folder, seed, rules, errors=(OldSqliteError,), newer_schema_is_skipped=True)


def test_it_is_that_old(old_sqlite: OldSqlite) -> None:
    assert [("3.8.7",)] == old_sqlite.execute("SELECT sqlite_version()").fetchall()


def test_the_log_misses_nothing_on_an_old_library(old_sqlite: OldSqlite, tmp_path: Path) -> None:
    ran = 0
    seed = 0
    while ran < RUNS:
        found = _difference(old_sqlite, tmp_path, seed, ALL_RULES)
        seed += 1
        if found is not None:
            assert "" == found
            ran += 1


@pytest.mark.parametrize("rule", ["before", "default_of_not_null", "key_too", "old_key"])
def test_every_rule_is_needed_on_an_old_library(old_sqlite: OldSqlite, tmp_path: Path, rule: str) -> None:
    broken = replace(ALL_RULES, **{rule: False})
    assert any(_difference(old_sqlite, tmp_path, seed, broken) for seed in range(600))
