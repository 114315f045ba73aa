"""What a configuration must not say."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops.config import parse
from schemas.errors import Code, ConfigError
from schemas.names import target_names


def _refused(folder: Path, **document: object) -> str:
    with pytest.raises(ConfigError) as caught:
        parse(document, folder=folder, name="tailrace.toml")
    assert Code.CONFIG_INVALID == caught.value.code
    return caught.value.message


def test_two_names_of_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.db").touch()
    (tmp_path / "b.db").symlink_to("a.db")
    assert "'x' and 'y' are one file" in _refused(tmp_path, source_databases={"x": "a.db", "y": "b.db"})


def test_two_sources_that_would_share_a_schema_are_refused(tmp_path: Path) -> None:
    sources = {"Cases": "a.db", "cases": "b.db"}
    assert "both become 'cases'" in _refused(tmp_path, source_databases=sources)
    shared = {"Cases": "legal", "cases": "legal"}
    parse({"source_databases": sources, "target_schemas": shared}, folder=tmp_path, name="tailrace.toml")
    parse({"source_databases": sources, "identifiers": "preserve"}, folder=tmp_path, name="tailrace.toml")


def test_no_source_gets_the_schema_of_our_own_tables() -> None:
    names = target_names(["tailrace", "pg_catalog", "information_schema", "public"], what="schema")
    assert ["s_tailrace", "s_pg_catalog", "s_information_schema", "public"] == list(names.values())


def test_a_column_of_no_source_or_named_twice_is_refused(tmp_path: Path) -> None:
    """Its settings did nothing, and nobody was told."""
    sources = {"source_databases": {"App": "a.db"}}
    for name in ("ap.users.email", "users.email", "email"):
        assert "begins with no source" in _refused(tmp_path, **sources, columns={name: {"type": "text"}})
    twice = {"App.users.email": {"type": "text"}, "app.USERS.email": {"type": "jsonb"}}
    assert "are one column" in _refused(tmp_path, **sources, columns=twice)
    parse({**sources, "columns": {"app.users.email": {}}}, folder=tmp_path, name="tailrace.toml")


@pytest.mark.parametrize(
    ("cutover", "told"),
    [
        ({"lease_s": 2.0, "fence_budget_s": 2.0}, "lease_s = 2 is not above cutover.fence_budget_s = 2"),
        ({"lease_s": 2.0, "fence_budget_s": 1.0, "final_verify_s": 3.0}, "not above cutover.final_verify_s = 3"),
        ({"final_verify_keys": 0}, "cutover.final_verify_keys = 0"),
        ({"drain_budget_s": -1.0}, "cutover.drain_budget_s = -1"),
    ],
)
def test_a_lease_is_longer_than_what_it_covers(tmp_path: Path, cutover: dict[str, float], told: str) -> None:
    assert told in _refused(tmp_path, source_databases={"x": "a.db"}, cutover=cutover)
