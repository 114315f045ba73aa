"""The triggers inside SQLite 3.8.7: they must be accepted there, and the log must miss nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from capture.sqlite_triggers import ALL_RULES, Rules
from tests.fix_old_sqlite import OldSqlite, OldSqliteCrashed, OldSqliteError
from tests.model.test_triggers import history

RUNS = int(os.environ.get("TAILRACE_MODEL_RUNS", "300"))
ERRORS = (OldSqliteError,)


def verdict(old: OldSqlite, folder: Path, seed: int, rules: Rules = ALL_RULES) -> str | None:
    """Run one history: "" right, "library" when the old library itself fails on it, else what differs.

    None: this seed's schema needs what 3.8 did not have yet (generated columns, indexes on expressions).

    A library of 2014 has bugs of its own: some histories crash it, or leave a corrupt table, without any trigger of
    ours. Such a history says nothing about us, and counts as such only if it goes wrong without us too.
    """
    for attempt in range(2):
        try:
            old.open()
            found = history(old, folder, seed, rules, errors=ERRORS, newer_schema_is_skipped=True)
        except (OldSqliteCrashed, OldSqliteError) as crash:
            old.restart()
            found = f"crashed: {crash}"
        if not found:
            return found
        if attempt == 0:
            old.restart()  # a heap that an earlier history spoiled
    return "library" if _wrong_without_us(old, folder, seed) else found


def _wrong_without_us(old: OldSqlite, folder: Path, seed: int) -> bool:
    """Does the same history, on a fresh process and without our triggers, crash or corrupt the database?"""
    old.restart()
    old.open()
    try:
        history(old, folder, seed, None, errors=ERRORS)
        return old.execute("PRAGMA integrity_check").fetchall() != [("ok",)]
    except (OldSqliteCrashed, OldSqliteError):
        old.restart()
        return True


def test_it_is_that_old(old_sqlite: OldSqlite) -> None:
    assert [("3.8.7",)] == old_sqlite.execute("SELECT sqlite_version()").fetchall()


def test_the_log_misses_nothing_on_an_old_library(old_sqlite: OldSqlite, tmp_path: Path) -> None:
    ran = seed = 0
    while ran < RUNS:
        found = verdict(old_sqlite, tmp_path, seed)
        seed += 1
        if found is not None and found != "library":
            assert "" == found
            ran += 1
    assert seed < RUNS * 4


def test_a_history_that_breaks_the_library_itself_is_told_apart(old_sqlite: OldSqlite, tmp_path: Path) -> None:
    """Seed 3096: 3.8.7 puts a row of t into c, unknown to the index of c, with no trigger of ours there."""
    assert "library" == verdict(old_sqlite, tmp_path, 3096)


@pytest.mark.parametrize("rule", ["before", "default_of_not_null", "key_too", "old_key"])
def test_every_rule_is_needed_on_an_old_library(old_sqlite: OldSqlite, tmp_path: Path, rule: str) -> None:
    broken = replace(ALL_RULES, **{rule: False})
    assert any(verdict(old_sqlite, tmp_path, seed, broken) not in (None, "", "library") for seed in range(600))
