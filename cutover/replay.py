"""Do: set the sinks of a whole migration back to a checkpoint; they read the topics again and end equal to the sources.

The order is the argument:
1. what the target changed since the checkpoint is touched at the sources, from the topics of the way back and from the
   target's own log: a row that only the target ever saw is in no topic of the way there, and the touched key, read at
   the source, says that it is not there. A crash after this leaves keys that are sent once more.
2. then, in one transaction that holds the authority row, every progress row and so every apply: the checkpoint is judged
   by what is there now, and all sinks are set back. From here on nothing is consistent below the head that the touched
   keys lie under, so no switch and no read passes, and the sinks need nobody to go on.
The token is the one that was read before 1: a replay that slept through a switch and its return finds another, since it
knows nothing of what the target changed in between (test_a_replay_that_slept_through_a_switch_changes_nothing).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import touch
from cutover.authority import AuthorityRow
from cutover.checkpoints import Checkpoints, refuse_illegal
from cutover.target_keys import TargetKeys, lost_since
from ops.points import reach
from schemas.change import Progress
from schemas.checkpoint import Checkpoint, SourceNow, SourcePoint, is_behind, rewound, why_ended
from schemas.errors import Code, Refusal
from schemas.introspect import introspect
from schemas.model import LOG as SQLITE_LOG
from schemas.names import notice_topic
from schemas.ports import Registry, Transport
from sink.progress import read_progress, rewind
from verify.compare import typed_key


@dataclass(frozen=True, slots=True)
class Begun:
    """`upto`: source -> the seq that its sink must reach; `touched`: source -> keys."""

    upto: dict[str, int]
    touched: dict[str, int]


class Replay:
    """One replay.

    Args:
        open_source: a connection of our own to the file of a source.
        prefix, back_prefix: of the topics of the way there and of the way back.
        window_ms: for so long the topics keep every change.
        owner: put into the progress rows, so that a sink in the middle of a cut loses; no sink has this name.
    """

    def __init__(
        self,
        target: Postgres,
        row: AuthorityRow,
        transport: Transport,
        registry: Registry,
        checkpoints: Checkpoints,
        open_source: Callable[[str], SqliteDatabase],
        *,
        prefix: str,
        back_prefix: str,
        window_ms: int,
        owner: str,
    ) -> None:
        self._owner = owner
        self._target = target
        self._row = row
        self._transport = transport
        self._checkpoints = checkpoints
        self._open_source = open_source
        self._prefix = prefix
        self._window_ms = window_ms
        self._changed = TargetKeys(target, transport, registry, back_prefix=back_prefix)

    def refuse(self, checkpoint: Checkpoint) -> int:
        """Returns the token under which it would be done. Raises Refusal(VERB_ILLEGAL | REPLAY_RUNNING | CHECKPOINT_ENDED)."""
        before = self._row.read()
        progress = self._checkpoints.now()
        refuse_illegal("replay", before, progress)
        self._refuse_running(progress)
        self._refuse_ended(checkpoint, progress)
        return before.token

    def run(self, checkpoint: Checkpoint) -> Begun:
        """Begin it: the sinks go on by themselves. May be called again after a crash; Superseded where the migration moved."""
        token = self.refuse(checkpoint)
        upto, touched = {}, {}
        for name, point in checkpoint.sources.items():
            upto[name], touched[name] = self._touch(name, point)
        reach("replay.touched")
        with self._target.transaction():
            self._row.hold(token)
            self._target.rows("SELECT source FROM tailrace.progress ORDER BY source FOR UPDATE")
            found = {name: read_progress(self._target, name) for name in checkpoint.sources}
            progress = {name: one for name, one in found.items() if one is not None}
            self._refuse_running(progress)
            self._refuse_ended(checkpoint, progress)
            for name, point in checkpoint.sources.items():
                offsets = rewound(point, progress[name], notice_topic(self._prefix, name))
                rewind(
                    self._target,
                    progress[name],
                    applied=point.applied,
                    offsets=offsets,
                    upto=upto[name],
                    owner=self._owner,
                )
                upto[name] = max(upto[name], progress[name].highest, progress[name].applied)
            detail = {"checkpoint": checkpoint.name, "upto": upto, "touched": touched}
            self._row.note(token, "source", "source", verb="replay", detail=detail)
            reach("replay.mid_rewind")
        reach("replay.rewound")
        return Begun(upto, touched)

    def running(self) -> tuple[str, dict[str, int]] | None:
        """(checkpoint, what its sinks must reach) of the replay that is under way; None: there is none."""
        if not any(is_behind(one) for one in self._checkpoints.now().values()):
            return None
        found = self._target.rows(
            "SELECT detail::text FROM tailrace.journal WHERE verb = 'replay' ORDER BY seq DESC LIMIT 1"
        )
        detail: dict[str, Any] = json.loads(found[0][0]) if found else {"checkpoint": "", "upto": {}}
        return str(detail["checkpoint"]), {name: int(seq) for name, seq in detail["upto"].items()}

    # -- may it be done ------------------------------------------------------------------------------------------

    def _refuse_running(self, progress: Mapping[str, Progress]) -> None:
        behind = {name: one for name, one in progress.items() if is_behind(one)}
        if behind:
            name, one = next(iter(behind.items()))
            raise Refusal(
                Code.REPLAY_RUNNING,
                f"a replay is under way: the sink stands at {one.applied} of {one.highest}",
                source=name,
                position=one.applied,
                hint="the sinks finish it: tailrace lag --watch",
            )

    def _refuse_ended(self, checkpoint: Checkpoint, progress: Mapping[str, Progress]) -> None:
        reasons = []
        known = set(checkpoint.sources)
        if strange := known ^ set(progress):
            reasons.append(
                f"source {sorted(strange)[0]} is only on one side of it: sources were added or left out since"
            )
        now_ms = int(self._target.rows("SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint")[0][0])
        for name in sorted(known & set(progress)):
            now = self._now(progress[name], checkpoint.sources[name])
            found = why_ended(
                checkpoint.sources[name], now, at_ms=checkpoint.at_ms, now_ms=now_ms, window_ms=self._window_ms
            )
            reasons += [f"{name}: {one}" for one in found]
        reasons += filter(None, [lost_since(self._target, checkpoint.at_ms), self._checkpoints.thrown_away(checkpoint)])
        if reasons:
            again = "; ".join(f"tailrace reset {name} --yes {name}" for name in sorted(progress))
            raise Refusal(
                Code.CHECKPOINT_ENDED,
                f"{checkpoint.name} does not lead to now any more: {'; '.join(reasons)}",
                hint=f"a newer one (tailrace checkpoint --list), or copy all tables again: {again}",
            )

    def _now(self, progress: Progress, point: SourcePoint) -> SourceNow:
        topics = {*point.topics, *point.back_topics}
        ids = self._transport.topic_ids(topics)
        read = {where.topic for where in (*point.offsets, *point.back)} - {notice_topic(self._prefix, progress.source)}
        begins = self._transport.begins(sorted(read & set(ids)))
        kept = self._target.rows("SELECT count(*) FROM tailrace.quarantine WHERE source = %s", (progress.source,))[0][0]
        return SourceNow(progress, ids, begins, int(kept))

    # -- what the target changed ---------------------------------------------------------------------------------

    def _touch(self, name: str, point: SourcePoint) -> tuple[int, int]:
        """Touch what the target changed since; returns (head of the source's log then, keys touched)."""
        db = self._open_source(name)
        touched = 0
        try:
            metas.refuse_fenced(db, "replay")
            with db.read_view():
                meta = metas.read(db)
                tables = metas.as_logged(meta, introspect(db)).tables
            numbers = {one.name: number for number, one in meta.tables.items() if one.name in tables}
            for table, keys in self._changed.since(name, point.back, list(numbers)):
                if table in numbers:
                    touched += touch(db, tables[table], numbers[table], {typed_key(key): key for key in keys}.values())
            head = db.rows(f"SELECT coalesce((SELECT max(seq) FROM {SQLITE_LOG}), 0)")[0][0]
            # The target will wait for this head, read before: a power loss must not take it back.
            db.sync_wal()
        finally:
            db.close()
        return max(int(head), meta.pruned_to), touched
