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


def test_a_renamed_table_that_meets_another_is_refused() -> None:
    with pytest.raises(Refusal) as caught:
        target_names(["t_pkey", "t_pkey_"], what="table")
    assert Code.NAME_COLLISION == caught.value.code
