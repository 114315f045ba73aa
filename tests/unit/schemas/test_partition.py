"""Vectors of Kafka's own UtilsTest: a key finds the partition that any Kafka client gives it."""

from __future__ import annotations

import pytest

from schemas.partition import murmur2, partition_of

VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}


@pytest.mark.parametrize(("key", "signed"), VECTORS.items())
def test_murmur2_is_kafkas(key: bytes, signed: int) -> None:
    assert murmur2(key) == signed % 2**32


def test_sign_is_masked_away_not_negated() -> None:
    assert partition_of(b"21", 1000) == ((-973932308) & 0x7FFFFFFF) % 1000


def test_no_key_and_one_partition_are_partition_zero() -> None:
    assert (partition_of(None, 8), partition_of(b"x", 1)) == (0, 0)
