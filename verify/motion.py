"""Decide: whether a row that never stands still is equal on both sides; pure.

The argument: between two entries of the change log a key has one state. So the source's row seen at head H and the target's
row seen while exactly A was applied are the same state when no entry of the key lies between H and A. Then they must be equal,
however soon the row changes again; nobody has to hold the writers.
Invariant: no word without both sides of one state. Of a stretch that the log no longer tells whole, nothing is concluded
(test_a_pruned_log_proves_nothing), nor of a state of which the source showed two digests.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from verify.compare import CONFIRMATIONS


class Motion:
    """What was seen of some keys of one table while both sides moved; keys are `typed_key`s, digests None: no row."""

    def __init__(self, keys: Iterable[str]) -> None:
        self._keys = tuple(keys)
        self._first: int | None = None
        self._last = 0
        self._changes: dict[str, list[int]] = defaultdict(list)
        self._source: dict[str, dict[int, set[str | None]]] = {}
        self._target: dict[int, Mapping[str, str]] = {}

    @property
    def seen_to(self) -> int | None:
        """Head of the last look at the source."""
        return self._last if self._first is not None else None

    def source(self, head: int, entries: Sequence[tuple[int, str]] | None, digests: Mapping[str, str]) -> None:
        """The source at this head, and (seq, key) of every entry since the look before; None: the log does not tell."""
        if self._first is None or entries is None:
            self._first, self._changes, self._target = head, defaultdict(list), {}
            self._source = {key: defaultdict(set) for key in self._keys}
        else:
            for seq, key in entries:
                if key in self._source:
                    self._changes[key].append(seq)
        self._last = head
        for key in self._keys:
            self._source[key][len(self._changes[key])].add(digests.get(key))

    def target(self, applied: int, digests: Mapping[str, str]) -> None:
        """The target in a snapshot in which exactly this was applied."""
        self._target[applied] = digests

    def verdict(self, key: str) -> str | None:
        """`equal`, `missing`, `extra`, `differing` (several states seen on both sides, none of them equal), or None."""
        if self._first is None:
            return None
        unequal: list[tuple[str | None, str | None]] = []
        for applied, digests in self._target.items():
            if not self._first <= applied <= self._last:
                continue
            seen = self._source[key].get(bisect_right(self._changes[key], applied), set())
            if len(seen) != 1:
                continue
            (here,), there = seen, digests.get(key)
            if here == there:
                return "equal"
            unequal.append((here, there))
        if len(unequal) < CONFIRMATIONS:
            return None
        here, there = unequal[-1]
        if there is None:
            return "missing"
        return "extra" if here is None else "differing"
