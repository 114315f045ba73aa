"""Decide: which partition a key belongs to: Kafka's murmur2, so that any Kafka client finds the same one."""

from __future__ import annotations

_MASK = 0xFFFFFFFF


def murmur2(key: bytes) -> int:
    """Kafka: org.apache.kafka.common.utils.Utils.murmur2, as an unsigned 32-bit number."""
    length = len(key)
    m = 0x5BD1E995
    h = (0x9747B28C ^ length) & _MASK
    whole = length & ~3
    for at in range(0, whole, 4):
        k = int.from_bytes(key[at : at + 4], "little")
        k = (k * m) & _MASK
        k ^= k >> 24
        k = (k * m) & _MASK
        h = ((h * m) & _MASK) ^ k
    tail = key[whole:]
    if tail:
        h ^= int.from_bytes(tail, "little")
        h = (h * m) & _MASK
    h ^= h >> 13
    h = (h * m) & _MASK
    h ^= h >> 15
    return h


def partition_of(key: bytes | None, partitions: int) -> int:
    """Partition 0 for a keyless message or a one-partition topic."""
    if partitions == 1 or key is None:
        return 0
    return (murmur2(key) & 0x7FFFFFFF) % partitions
