"""Decide: what the size of the change log and the free space mean; pure.

The log lives in the application's own file, so a target that is away for days must not fill the application's disk. Half of
the limit is an alert; at the limit the policy decides: `detach` takes our triggers away (the application lives, every
table must be copied again), `keep` lets the log grow.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

ENTRY_BYTES = 40
"""Bytes of one entry with an integer key, page overhead included; the length of text and blob keys comes on top."""

LOG_SHARE = 16
"""From this part of min_free_bytes on, the log counts as what fills the disk."""


class Growth(StrEnum):
    FINE = "fine"
    HALF = "half"
    OVER = "over"


@dataclass(frozen=True, slots=True)
class LogLimits:
    """`detach`: what happens at the limit; False keeps logging."""

    max_log_bytes: int = 1 << 30
    min_free_bytes: int = 256 << 20
    max_wal_bytes: int = 256 << 20
    """Of the source's `-wal` that a long reader keeps from being written back: above it is said."""
    detach: bool = True


def growth(limits: LogLimits, *, log_bytes: int, free_bytes: int) -> Growth:
    """How near the limit the log is."""
    # A disk that something else fills is no reason to give up a small log: a copy of every table would be the price.
    ours = log_bytes >= limits.min_free_bytes // LOG_SHARE
    if log_bytes >= limits.max_log_bytes or (free_bytes < limits.min_free_bytes and ours):
        return Growth.OVER
    if log_bytes * 2 >= limits.max_log_bytes or free_bytes < 2 * limits.min_free_bytes:
        return Growth.HALF
    return Growth.FINE
