"""Do: find the keys that the target changed by itself since a point, from the topics of the way back and from its own log.

Invariant: every such key is found, many others may be. The log is read before the topics: what it no longer holds was
acknowledged by then, and what is published meanwhile is found in both.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping

from adapters.postgres import Postgres
from capture.postgres_triggers import LOG
from cutover.checkpoints import back_topics
from cutover.logged import EVERYTHING, logged_keys
from cutover.prepare import plans_of
from cutover.topic_keys import TopicKeys
from schemas.change import Position, TopicPartition
from schemas.model import Key
from schemas.ports import Registry, Transport
from schemas.wire import notice_of

_LOST = (
    "SELECT detail::text FROM tailrace.journal WHERE verb = 'no-rollback' AND at >= to_timestamp(%s / 1000.0) "
    "ORDER BY seq LIMIT 1"
)


def lost_since(target: Postgres, at_ms: int) -> str:
    """What the way back lost since then, so that what the target changed is not known; empty: nothing."""
    found = target.rows(_LOST, (at_ms,))
    return f"the way back lost something since, so what the target changed is not known: {found[0][0]}" if found else ""


class TargetKeys:
    """Of one migration. `back_prefix`: of the topics of the way back."""

    def __init__(self, target: Postgres, transport: Transport, registry: Registry, *, back_prefix: str) -> None:
        self._target = target
        self._transport = transport
        self._back_prefix = back_prefix
        self._keys = TopicKeys(transport, registry)

    def since(
        self,
        source: str,
        offsets: Mapping[TopicPartition, int],
        tables: Iterable[str],
        *,
        logged_after: Position = EVERYTHING,
    ) -> Iterator[tuple[str, list[Key]]]:
        """(table, keys), a page at a time.

        Args:
            offsets: where to read the topics from; one that is missing is read whole.
            logged_after: of the target's log, only what this snapshot has not seen.
        """
        if self._target.rows("SELECT to_regclass(%s) IS NOT NULL", (LOG,))[0][0]:
            for found in logged_keys(self._target, source, plans_of(self._target, source), after=logged_after):
                yield from found.items()
        wanted = back_topics(self._back_prefix, source, tables)
        for page in self._keys.since(self._transport.topic_ids(wanted), offsets):
            told: dict[str, list[Key]] = {}
            for one in page:
                table, raw = wanted[one.topic], one.key
                if not table:
                    notice = notice_of(one)
                    table, raw = notice.table, base64.b64decode(notice.key) if notice.key else None
                if raw is not None:
                    told.setdefault(table, []).append(self._keys.key(raw))
            yield from told.items()
