"""Do: begin the way back of one source anew on the topics as they are now, after they were deleted, made again or lost what
they held: every row is sent again, and no rollback is promised until all have arrived.

The order is the argument:
1. ends and ids of the topics are listed first: whatever lies below these ends is older than what is sent again;
2. the source's progress begins at these ends and rests above every label, under a new owner: a sink in the middle of a cut
   loses its compare-and-set, and none applies anything until 4. It counts as behind meanwhile, so that no drain ends here;
3. one transaction of the target logs the keys of all its rows, and of those that only the source has, gives the last
   watermark up, and says in the row that the rows are on their way again. The label is read before it: whatever shows
   these entries has a higher one;
4. the source takes labels above that one, and counts as behind until it is past the label read after 3 has committed.
A crash after any of them leaves a way back that is not promised: the command is run again. The steward takes the sentence out
of the row when all has arrived (cutover/way_back.py:regain).
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from contextlib import closing

from adapters.postgres import Postgres
from capture import meta as metas
from capture.position import last_watermark, stamp_of
from capture.postgres_touch import touch_absent, touch_all
from capture.postgres_triggers import ACKNOWLEDGED, LABEL
from cli.cutover_wiring import actor
from cli.way_back import back_prefix
from cli.wiring import open_target, open_transport
from cutover.authority import AuthorityRow
from cutover.prepare import plans_of
from cutover.rollback import refuse_restoring
from cutover.way_back import again
from ops.config import Config
from ops.points import reach
from schemas.authority import Authority
from schemas.back import PROGRESS, RESTING
from schemas.change import TopicPartition
from schemas.errors import Code, Refusal
from schemas.introspect import introspect
from schemas.model import OWN_PREFIX, KeyKind, Table
from schemas.names import quote, schema_topic, text_beside_parameters, watermark_topic
from schemas.plan import TablePlan
from schemas.ports import Sqlite, Transport
from sink.progress import offsets_text

BATCH_KEYS = 5000


def send_back_again(config: Config, source: str, db: Sqlite) -> int:
    """Reaches for the stream and the target first. Returns how many rows are on their way."""
    transport = open_transport(config)
    target = open_target(config, "reset")
    try:
        return begin_back_anew(
            transport,
            target,
            db,
            prefix=back_prefix(config),
            schemas=schema_topic(config.transport.prefix),
            source=source,
        )
    finally:
        target.close()
        transport.close()


def begin_back_anew(
    transport: Transport, target: Postgres, db: Sqlite, *, prefix: str, schemas: str, source: str
) -> int:
    """May be called again at any time. `prefix`: of the topics of the way back; `schemas`: the topic of the schemas."""
    row = AuthorityRow(target, actor=actor())
    before = row.read()
    refuse_restoring(before)
    if before.authority not in (Authority.TARGET, Authority.TO_SOURCE):
        raise Refusal(
            Code.VERB_ILLEGAL,
            f"nothing comes back: writes belong to {before.authority}",
            source=source,
            position=before.token,
            hint=f"tailrace reset {source} begins the stream to PostgreSQL anew",
        )
    offsets, topics = listed_back(transport, prefix, schemas, source)
    last = last_watermark(transport, watermark_topic(prefix, source))
    reach("back_anew.listed")
    _rest(db, offsets, {"token": str(before.token), "topics": topics}, source=source)
    reach("back_anew.resting")
    plans = plans_of(target, source)
    with target.transaction():
        label = int(target.rows(LABEL)[0][1])
        sent = sum(touch_all(target, plan) for plan in plans) + _touch_source(target, db, plans)
        row.set(
            before.token,
            {"no_rollback": f"no_rollback || {text_beside_parameters(json.dumps(again(source)))}::jsonb"},
            verb="way-back",
            detail={"source": source, "void": stamp_of(last), "rows": sent},
        )
        # Whatever is read from the open on now ends with the keys of all rows.
        target.run(f"DELETE FROM {ACKNOWLEDGED} WHERE source = %s", (source,))
        reach("back_anew.logging")
    reach("back_anew.logged")
    _take_up(db, label, int(target.rows(LABEL)[0][1]))
    reach("back_anew.taken_up")
    return sent


def listed_back(
    transport: Transport, prefix: str, schemas: str, source: str
) -> tuple[dict[TopicPartition, int], dict[str, str]]:
    """Ends and ids of the topics of the way back, as they are now."""
    watermarks = watermark_topic(prefix, source)
    names = [name for name in transport.topics(watermarks.rpartition(".")[0] + ".") if name != watermarks]
    topics = transport.topic_ids([*names, *transport.topics(schemas)])
    offsets = {
        TopicPartition(topic, part): end for topic, ends in transport.ends(names).items() for part, end in ends.items()
    }
    return offsets, {topic: one for topic, one in topics.items() if topic in names or topic == schemas}


def _rest(db: Sqlite, offsets: Mapping[TopicPartition, int], topics: Mapping[str, object], *, source: str) -> None:
    with db.write():
        changed = db.run(
            f"UPDATE {PROGRESS} SET owner = ?, applied = ?, applying_to = ?, offsets = ?",
            (_nobody(), RESTING, RESTING, offsets_text(dict(offsets))),
        )
        if changed != 1:
            raise Refusal(
                Code.NOT_INSTALLED, "there is no way back at this source", source=source, hint="tailrace cutover"
            )
        db.run(
            f"INSERT OR REPLACE INTO {OWN_PREFIX}meta(key, value) VALUES ('back_topics', ?)",
            (json.dumps(topics, sort_keys=True),),
        )


def _take_up(db: Sqlite, label: int, upto: int) -> None:
    """Idempotent for one run: a run that came meanwhile has put it to rest again, and does this itself."""
    with db.write():
        db.run(
            f"UPDATE {PROGRESS} SET owner = ?, applied = ?, applying_to = ?, highest = ? WHERE applied = ?",
            (_nobody(), label, upto, label, RESTING),
        )


def _nobody() -> str:
    return f"reset-{uuid.uuid4().hex}"


def _touch_source(target: Postgres, db: Sqlite, plans: Sequence[TablePlan]) -> int:
    """Keys of rows that only the source has: they were deleted on the target, and their tombstones may be lost."""
    sent = 0
    with db.read_view():
        tables = metas.as_logged(metas.read(db), introspect(db)).tables
        for plan in plans:
            table = tables.get(plan.table)
            if table is None:
                continue
            with closing(db.batches(_keys_sql(table), batch_rows=BATCH_KEYS)) as batches:
                for keys in batches:
                    sent += touch_absent(target, plan, keys)
    return sent


def _keys_sql(table: Table) -> str:
    by_rowid = table.key.kind is KeyKind.ROWID
    names = [str(table.key.rowid_name)] if by_rowid else [quote(name) for name in table.key.columns]
    return f"SELECT {', '.join(names)} FROM {quote(table.name)}"
