"""Names that PostgreSQL needs for itself."""

from __future__ import annotations

import pytest

from schemas.errors import Code, Refusal
from schemas.names import constraint_name, target_names


def test_no_table_is_called_like_the_primary_key_of_another() -> None:
    names = target_names(["t", "t_pkey", "T2_PKEY", "api_key"], what="table")
    assert {"t": "t", "t_pkey": "t_pkey_", "T2_PKEY": "t2_pkey_", "api_key": "api_key"} == names
    keys = {constraint_name(target, suffix="pkey") for target in names.values()}
    assert set() == keys & set(names.values())


def test_a_renamed_table_gives_way_to_one_that_keeps_its_name() -> None:
    """`plan` refused the whole database for it."""
    one = target_names(["t_pkey", "t_pkey_"], what="table")
    assert {"t_pkey": "t_pkey__" + one["t_pkey"][-8:], "t_pkey_": "t_pkey_"} == one
    assert one == target_names(["t_pkey_", "t_pkey"], what="table")
    columns = target_names(["", "_empty", "ctid", "ctid_"])
    assert ("_empty", "ctid_") == (columns["_empty"], columns["ctid_"])
    assert 4 == len(set(columns.values()))


def test_names_that_share_63_bytes_stay_apart() -> None:
    long = "x" * 69
    names = target_names([f"{long}1", f"{long}2", "É" * 40, "é" * 40])
    assert 4 == len(set(names.values()))
    assert [63, 63] == [len(names[one]) for one in (f"{long}1", f"{long}2")]


def test_two_schemas_that_become_one_are_refused() -> None:
    with pytest.raises(Refusal) as caught:
        target_names(["s_tailrace", "tailrace"], what="schema")
    assert Code.NAME_COLLISION == caught.value.code
