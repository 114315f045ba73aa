"""Do: rows of one source that stay behind, on the target: kept by key with the reason, free again when their key is written.

Invariant: a key is the same under every schema it was framed with: the bytes of an older, narrower key schema name the same
row (test_a_quarantined_row_comes_free_under_a_wider_key).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from adapters.postgres import Postgres
from schemas.avro import unframe

_KEEP = (
    'INSERT INTO tailrace.quarantine VALUES (%s, %s, %s, %s, %s, %s) ON CONFLICT (source, "table", key_hash) '
    "DO UPDATE SET reason = EXCLUDED.reason, seq = EXCLUDED.seq, waived = NULL"
)


class Quarantine:
    """Entries of one source; every call belongs to the caller's transaction.

    Args:
        decode_key: (schema id, payload) -> SQLite values of the key.
    """

    def __init__(self, target: Postgres, source: str, decode_key: Callable[[int, bytes], tuple[Any, ...]]) -> None:
        self._target = target
        self._source = source
        self._decode_key = decode_key

    def keep(self, table: str, key: bytes, reason: str, seq: int) -> None:
        """Keep one framed key, or say the newer reason."""
        text = repr(self._decode_key(*unframe(key)))
        self._target.run(_KEEP, (self._source, table, key, text, reason, seq))

    def free(self, table: str, keys: Sequence[bytes], seq: int) -> None:
        """These framed keys are about to be written as they were at `seq`."""
        kept = self._target.rows(
            'SELECT key FROM tailrace.quarantine WHERE source = %s AND "table" = %s AND seq <= %s',
            (self._source, table, seq),
        )
        if not kept:
            return
        written = {self._identity(key) for key in keys}
        gone = [bytes(key) for (key,) in kept if self._identity(bytes(key)) in written]
        self._target.run(
            'DELETE FROM tailrace.quarantine WHERE source = %s AND "table" = %s AND key = ANY(%s::bytea[]) AND seq <= %s',
            (self._source, table, gone, seq),
        )

    def _identity(self, key: bytes) -> tuple[object, ...]:
        return tuple((type(value), repr(value)) for value in self._decode_key(*unframe(key)))
