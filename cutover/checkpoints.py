"""Do: take, list, find and drop checkpoints: named points of a whole migration, kept on the target.

Invariant: all sources of a checkpoint are read in one snapshot of the target, with the ids of the topics that their offsets
belong to: a point that names a topic by its name alone would lead into whatever has that name later.
The topics of the way back are listed only while it rests: what the target changes after that lies behind these ends.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from adapters.postgres import Postgres
from schemas.authority import Authority, Migration, Phase, legal_verbs, phase_of
from schemas.change import Progress, TableState, TopicPartition
from schemas.checkpoint import Checkpoint, Restored, SourcePoint, why_held, why_thrown_away
from schemas.errors import Code, Refusal
from schemas.names import notice_topic, topic_of
from schemas.ports import Clock, Transport
from sink.progress import offsets_from, offsets_text, prepared, read_progress

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ALL = (
    "SELECT name, (extract(epoch FROM at) * 1000)::bigint, actor, why, authority, token, sources::text, backups::text "
    "FROM tailrace.checkpoints ORDER BY at, name"
)


class Checkpoints:
    """Of one migration.

    Args:
        back_prefix: of the topics of the way back.
    """

    def __init__(
        self,
        target: Postgres,
        transport: Transport,
        sources: Sequence[str],
        clock: Clock,
        *,
        actor: str,
        back_prefix: str,
    ) -> None:
        self._target = target
        self._transport = transport
        self._sources = sorted(sources)
        self._clock = clock
        self._actor = actor
        self._back_prefix = back_prefix

    def now(self) -> dict[str, Progress]:
        """Every source as the target has it, in one snapshot. Raises Refusal(TARGET_UNPREPARED)."""
        with self._target.snapshot():
            found = {name: read_progress(self._target, name) for name in self._sources} if _there(self._target) else {}
        known = {name: one for name, one in found.items() if one is not None}
        if missing := [name for name in self._sources if name not in known]:
            raise Refusal(
                Code.TARGET_UNPREPARED, "the target knows nothing of it yet", source=missing[0], hint="tailrace up"
            )
        return known

    def look(self, why: str, before: Migration) -> Checkpoint:
        """The checkpoint as it would be now, without a name. Raises Refusal where the point would lead nowhere."""
        back = self._back() if before.authority is Authority.SOURCE else {}
        points = {}
        for name, progress in self.now().items():
            if held := why_held(progress):
                raise Refusal(Code.CHECKPOINT_REFUSED, held, source=name, hint="tailrace status; then try again")
            points[name] = self._point(progress, back)
        return Checkpoint("", 0, self._actor, why, before.authority, before.token, points)

    def keep(
        self, checkpoint: Checkpoint, name: str = "", *, ending: str = "", backups: Mapping[str, str] | None = None
    ) -> Checkpoint:
        """Store it. Without a name it is called checkpoint_YYYYMMDD_HHMMSS by the target's clock, and `ending`. Raises
        Refusal(CHECKPOINT_REFUSED) for a name that is taken or none."""
        if name and not _NAME.fullmatch(name):
            raise Refusal(
                Code.CHECKPOINT_REFUSED, f"{name!r} is no name", hint="letters, digits, '.', '_' and '-', at most 100"
            )
        made = "'checkpoint_' || to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYYMMDD_HH24MISS')"
        sources = json.dumps({source: _as_json(point) for source, point in checkpoint.sources.items()})
        kept = json.dumps(dict(backups or {}))
        for more in (ending, *(f"{ending}_{number}" for number in range(2, 100))):
            found = self._target.rows(
                "INSERT INTO tailrace.checkpoints(name, actor, why, authority, token, sources, backups) VALUES "
                f"(coalesce(nullif(%s::text, ''), {made} || %s::text), %s, %s, %s, %s, %s, %s) ON CONFLICT (name) DO NOTHING "
                "RETURNING name, (extract(epoch FROM at) * 1000)::bigint",
                (name, more, self._actor, checkpoint.why, checkpoint.authority, checkpoint.token, sources, kept),
            )
            if found:
                return replace(checkpoint, name=str(found[0][0]), at_ms=int(found[0][1]), backups=dict(backups or {}))
            if name:
                break
        raise Refusal(
            Code.CHECKPOINT_REFUSED,
            f"there is a checkpoint {name!r} already",
            hint=f"tailrace checkpoint --drop {name}",
        )

    def all(self) -> list[Checkpoint]:
        """Oldest first."""
        return [_from_row(row) for row in self._target.rows(_ALL)] if _there(self._target) else []

    def find(self, name: str) -> Checkpoint:
        """Raises Refusal(CHECKPOINT_UNKNOWN) with the nearest name."""
        known = {one.name: one for one in self.all()}
        if name in known:
            return known[name]
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]}?" if near else "tailrace checkpoint --list"
        raise Refusal(Code.CHECKPOINT_UNKNOWN, f"there is no checkpoint {name!r}", hint=hint)

    def thrown_away(self, checkpoint: Checkpoint) -> str:
        """Why it is none any more; empty: it is one."""
        return why_thrown_away(checkpoint.at_ms, self.restores())

    def restores(self) -> list[Restored]:
        """Every time the sources were put back, oldest first."""
        found = self._target.rows(
            "SELECT detail->>'checkpoint', (detail->>'at_ms')::bigint, (extract(epoch FROM at) * 1000)::bigint "
            "FROM tailrace.journal WHERE verb = 'restored' ORDER BY seq"
        )
        return [Restored(*row) for row in found]

    def drop(self, name: str) -> Checkpoint:
        """Its backups stay where they are."""
        found = self.find(name)
        self._target.run("DELETE FROM tailrace.checkpoints WHERE name = %s", (name,))
        return found

    def drop_made_before(self, why: str, *, window_ms: int) -> int:
        """Checkpoints that were made for this and lead nowhere any more; those with backups stay. Returns how many."""
        return self._target.run(
            "DELETE FROM tailrace.checkpoints WHERE why = %s AND backups = '{}' AND at < clock_timestamp() - "
            f"interval '{int(window_ms)} milliseconds'",
            (why,),
        )

    def _point(self, progress: Progress, back: Mapping[TopicPartition, int]) -> SourcePoint:
        # A release before wrote no ids beside its offsets.
        unknown = {where.topic for where in progress.offsets} - set(progress.topics)
        tables = [name for name, one in progress.tables.items() if one.state is not TableState.GONE]
        names = back_topics(self._back_prefix, progress.source, tables)
        mine = {where: end for where, end in back.items() if where.topic in names}
        return SourcePoint(
            applied=progress.applied,
            identity=progress.identity,
            offsets=progress.offsets,
            topics={**self._transport.topic_ids(unknown), **progress.topics},
            generations={name: one.generation for name, one in progress.tables.items()},
            unread_ms=max(0, self._clock.now_ms() - progress.captured_at_ms) if progress.captured_at_ms else 0,
            back=mine,
            back_topics=self._transport.topic_ids({where.topic for where in mine}),
        )

    def _back(self) -> dict[TopicPartition, int]:
        names = list(self._transport.topics(f"{self._back_prefix}."))
        ends = self._transport.ends(names) if names else {}
        return {TopicPartition(topic, part): end for topic, parts in ends.items() for part, end in parts.items()}


def back_topics(prefix: str, source: str, tables: Iterable[str]) -> dict[str, str]:
    """topic -> table, of everything that names a key that the target changed; "" for the notices, which name their own."""
    return {
        notice_topic(prefix, source): "",
        **{topic_of(prefix, source, table): table for table in tables},
    }


def phase_now(before: Migration, progress: Mapping[str, Progress]) -> Phase:
    states = {one.state for found in progress.values() for one in found.tables.values()}
    copied = bool(states) and states <= {TableState.FOLLOWING, TableState.GONE}
    return phase_of(
        before, copied=copied if states else None, paused=any(p.phase == "paused" for p in progress.values())
    )


def refuse_illegal(verb: str, before: Migration, progress: Mapping[str, Progress]) -> None:
    """Raises Refusal(VERB_ILLEGAL) with the legal verbs."""
    phase = phase_now(before, progress)
    if verb not in legal_verbs(phase):
        raise Refusal(
            Code.VERB_ILLEGAL,
            f"{verb}: the migration is {phase} and writes belong to {before.authority}",
            position=before.token,
            hint=f"legal now: {', '.join(legal_verbs(phase))}",
        )


def _there(target: Postgres) -> bool:
    return prepared(target) and bool(target.rows("SELECT to_regclass('tailrace.checkpoints') IS NOT NULL")[0][0])


def _as_json(point: SourcePoint) -> dict[str, Any]:
    return {
        "applied": point.applied,
        "identity": point.identity,
        "offsets": json.loads(offsets_text(point.offsets)),
        "topics": dict(point.topics),
        "generations": dict(point.generations),
        "unread_ms": point.unread_ms,
        "back": json.loads(offsets_text(point.back)),
        "back_topics": dict(point.back_topics),
        "backup_sha256": point.backup_sha256,
    }


def _from_row(row: Sequence[Any]) -> Checkpoint:
    points = {
        source: SourcePoint(
            **{
                **one,
                "offsets": offsets_from(json.dumps(one["offsets"])),
                "back": offsets_from(json.dumps(one["back"])),
            }
        )
        for source, one in json.loads(row[6]).items()
    }
    return Checkpoint(row[0], row[1], row[2], row[3], row[4], row[5], points, json.loads(row[7]))
