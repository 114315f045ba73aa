"""Decide: what a route says: who may write, and which reads may go to the target; pure.

Invariant: a higher epoch is newer, and within one epoch what was published later; an older route is never taken
(test_an_older_route_is_never_taken). A bucket depends on group and id alone, so raising the share moves nobody back
(test_raising_the_share_moves_nobody_back). The authority of writes is no matter of this document: a wrong guess meets the
fence of SQLite or the guard of PostgreSQL.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from hashlib import blake2b
from typing import Any

FORMAT = 1
BUCKETS = 10_000
HASH_VERSION = 1
"""The first four bytes, big endian, of BLAKE2b of "group:id", modulo 10,000."""


class Side(str, Enum):
    """SOURCE is SQLite, TARGET is PostgreSQL."""

    SOURCE = "source"
    TARGET = "target"

    __str__ = str.__str__

    @property
    def other(self) -> Side:
        return Side.TARGET if self is Side.SOURCE else Side.SOURCE


_WRITES: dict[str, Side | None] = {
    "source": Side.SOURCE,
    "to_target": None,
    "target": Side.TARGET,
    "to_source": None,
    "completed": Side.TARGET,
}


def bucket(group: str, id: object) -> int:
    """0 to 9,999, the same in every process and version."""
    return int.from_bytes(blake2b(f"{group}:{id}".encode()).digest()[:4], "big") % BUCKETS


@dataclass(frozen=True)
class Route:
    """One published route.

    Args:
        authority: source, to_target, target, to_source or completed; the two with `to_`: nobody may write for a moment.
        read_share: of 10,000 buckets, those whose reads may go to the target while writes belong to the source.
        consistent: the target is, as a whole, at one state of the source.
        lag_ms: how old that state is; None: unknown.
        applied: source database -> position up to which its changes are applied at the target.
    """

    epoch: int
    authority: str = "source"
    read_share: int = 0
    hash_version: int = HASH_VERSION
    published_at_ms: int = 0
    consistent: bool = False
    lag_ms: int | None = None
    applied: Mapping[str, int] = field(default_factory=dict)

    @property
    def writes(self) -> Side | None:
        """The side that takes writes; None: both are closed while the last changes are carried over."""
        return _WRITES[self.authority]

    @property
    def complete_side(self) -> Side:
        """The side that holds everything that was ever acknowledged."""
        return Side.SOURCE if self.authority in ("source", "to_target") else Side.TARGET

    def newer_than(self, other: Route) -> bool:
        return (self.epoch, self.published_at_ms) > (other.epoch, other.published_at_ms)

    def share_within(self, max_lag_ms: int) -> int:
        """Buckets that may be read at the target now; 0 while it is behind, or nobody can say."""
        known = self.hash_version == HASH_VERSION and self.consistent and self.lag_ms is not None
        return self.read_share if known and 0 <= (self.lag_ms or 0) <= max_lag_ms else 0

    def text(self) -> str:
        return json.dumps(
            {
                "format": FORMAT,
                "epoch": self.epoch,
                "authority": self.authority,
                "read_share": self.read_share,
                "hash_version": self.hash_version,
                "published_at_ms": self.published_at_ms,
                "consistent": self.consistent,
                "lag_ms": self.lag_ms,
                "applied": dict(self.applied),
            }
        )


NOTHING_KNOWN = Route(-1)
"""Before any route was read: everything is as it was before the migration."""


def parse(document: str | bytes | Mapping[str, Any]) -> Route:
    """Raises ValueError for what is no route, or one of a newer format. Keys that are not known are passed over."""
    found = json.loads(document) if isinstance(document, (str, bytes)) else document
    if not isinstance(found, Mapping):
        raise ValueError("a route is an object")
    try:
        if found["format"] != FORMAT:
            raise ValueError(f"this router reads routes of format {FORMAT}, not {found['format']!r}")
        route = Route(
            epoch=int(found["epoch"]),
            authority=str(found["authority"]),
            read_share=min(BUCKETS, max(0, int(found["read_share"]))),
            hash_version=int(found["hash_version"]),
            published_at_ms=int(found["published_at_ms"]),
            consistent=found.get("consistent") is True,
            lag_ms=None if found.get("lag_ms") is None else int(found["lag_ms"]),
            applied={str(name): int(seq) for name, seq in (found.get("applied") or {}).items()},
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no route: {type(error).__name__} {error}") from error
    if route.authority not in _WRITES:
        raise ValueError(f"no route: authority {route.authority!r}")
    return route
