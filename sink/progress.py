"""Do: read and claim the progress of a source in the target."""

from __future__ import annotations

import json
from collections.abc import Mapping

from adapters.bookkeeping import bring_up_to_date
from adapters.lease import key_of
from adapters.postgres import Postgres
from schemas.change import Progress, TableProgress, TableState, TopicPartition
from schemas.errors import Code, Refusal
from schemas.formats import BOOKKEEPING, refuse_unreadable

_PROGRESS = (
    "SELECT source, owner, applied, applying_to, consistent, identity, offsets, captured_at_ms, applied_at_ms, highest, "
    "phase, to_jsonb(p) -> 'topics', format FROM tailrace.progress p WHERE source = %s"
)
_TABLES = (
    'SELECT t."table", t.state, t.generation, t.floor, t.last_head, t.value_schema_id, t.key_schema_id, t.reason, '
    '(SELECT count(*) FROM tailrace.quarantine q WHERE q.source = t.source AND q."table" = t."table" '
    "AND q.waived IS NULL) FROM tailrace.tables t WHERE t.source = %s"
)

OPEN_PHASES = ("source", "to_target")
"""Writes belong to the source, or its fence's cutoff is still on its way: the forward stream may be applied."""


def lock_key(source: str) -> int:
    """Key of the advisory lock of one source."""
    return key_of(f"tailrace:{source}")


def prepared(target: Postgres) -> bool:
    return bool(target.rows("SELECT to_regclass('tailrace.progress') IS NOT NULL")[0][0])


def read_progress(target: Postgres, source: str) -> Progress | None:
    """None when the target knows nothing of this source. Both statements see one state."""
    found = target.rows(_PROGRESS, (source,))
    if not found:
        return None
    row = found[0]
    refuse_unreadable(BOOKKEEPING, row[12], "the target", source=source)
    tables = {
        one[0]: TableProgress(one[0], TableState(one[1]), one[2], one[3], one[4], one[5], one[6], one[8], one[7])
        for one in target.rows(_TABLES, (source,))
    }
    return Progress(
        source=row[0],
        owner=row[1],
        applied=row[2],
        applying_to=row[3],
        consistent=row[4],
        identity=row[5],
        offsets=offsets_from(row[6]),
        tables=tables,
        captured_at_ms=row[7],
        applied_at_ms=row[8],
        highest=row[9],
        phase=row[10],
        open=row[10] in OPEN_PHASES,
        topics=json.loads(row[11] or "{}"),
    )


def claim(target: Postgres, source: str, owner: str) -> Progress:
    """Take the source's advisory lock and put our owner into its progress row: applies of the former owner now lose
    their compare-and-set. Raises Refusal(SINK_OWNED) naming the session that holds the lock."""
    if not target.try_advisory_lock(lock_key(source)):
        holder = target.rows(
            "SELECT a.pid, a.application_name FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid "
            "WHERE l.locktype = 'advisory' AND l.granted AND ((l.classid::bigint << 32) | l.objid::bigint) = %s",
            (lock_key(source),),
        )
        who = f"session {holder[0][0]} ({holder[0][1]})" if holder else "another session"
        raise Refusal(Code.SINK_OWNED, f"{who} already applies this source", source=source, hint="stop that sink first")
    bring_up_to_date(target)
    with target.transaction():
        target.run(
            "INSERT INTO tailrace.progress VALUES (%s, %s, 0, NULL, false, '', '{}', 0, 0, 0, 'source', %s) "
            "ON CONFLICT (source) DO UPDATE SET owner = EXCLUDED.owner",
            (source, owner, BOOKKEEPING.current),
        )
        progress = read_progress(target, source)
    assert progress is not None
    return progress


def adopt(target: Postgres, source: str, identity: str) -> None:
    """Follow this identity from now on; the caller makes a copy of every table owed. No owner: a sink that lost its session
    and wakes up later must lose its compare-and-set."""
    target.run(
        "UPDATE tailrace.progress SET identity = %s, owner = '', consistent = false WHERE source = %s AND identity <> %s",
        (identity, source, identity),
    )


def expect(target: Postgres, source: str, upto: int) -> None:
    """The source went back in its history, and what undoes the lost one lies at or below `upto`: no cut below is applied, and
    nothing is consistent or proven until then. No owner, as in `adopt`."""
    with target.transaction():
        target.run(
            "UPDATE tailrace.progress SET owner = '', consistent = false, highest = greatest(highest, %s) WHERE source = %s",
            (upto, source),
        )
        target.run("DELETE FROM tailrace.verdicts WHERE source = %s", (source,))


def rewind(
    target: Postgres, before: Progress, *, applied: int, offsets: Mapping[TopicPartition, int], upto: int, owner: str
) -> None:
    """Set the sink of one source back; in a transaction that holds its row since `before` was read. Nothing below `upto`, or
    below what was ever applied, is consistent again. The owner changes: a sink in the middle of a cut of the time before
    loses its compare-and-set, also where the applied seq is the same as then."""
    target.run(
        "UPDATE tailrace.progress SET applied = %s, offsets = %s, owner = %s, consistent = false, "
        "highest = greatest(highest, applied, coalesce(applying_to, 0), %s) WHERE source = %s",
        (applied, offsets_text(offsets), owner, upto, before.source),
    )


def forget_stream(
    target: Postgres,
    source: str,
    generations: Mapping[str, int],
    offsets: Mapping[TopicPartition, int],
    topics: Mapping[str, str],
    *,
    owner: str,
) -> None:
    """The stream begins anew at these offsets of these topics: every table waits for its copy of this generation, one that
    the source no longer has is gone. Does nothing where the target knows nothing of the source."""
    bring_up_to_date(target)
    with target.transaction():
        target.run(
            "UPDATE tailrace.progress SET owner = %s, offsets = %s, topics = %s, consistent = false WHERE source = %s",
            (owner, offsets_text(offsets), json.dumps(dict(topics)), source),
        )
        target.run(
            "UPDATE tailrace.tables SET state = 'gone', reason = 'dropped at the source; the target keeps its table' "
            'WHERE source = %s AND NOT "table" = ANY(%s)',
            (source, list(generations)),
        )
        for table, generation in generations.items():
            target.run(
                "UPDATE tailrace.tables SET state = 'awaited', reason = 'reset: waits for its copy' WHERE source = %s "
                "AND \"table\" = %s AND generation < %s AND state <> 'gone'",
                (source, table, generation),
            )


def offsets_from(text: str) -> dict[TopicPartition, int]:
    return {
        TopicPartition(topic, int(part)): offset
        for topic, parts in json.loads(text).items()
        for part, offset in parts.items()
    }


def offsets_text(offsets: Mapping[TopicPartition, int]) -> str:
    nested: dict[str, dict[str, int]] = {}
    for where, offset in offsets.items():
        nested.setdefault(where.topic, {})[str(where.partition)] = offset
    return json.dumps(nested)
