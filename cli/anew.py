"""Do: begin a source anew on the stream as it is now, after topics were deleted, made again or lost what they held.

The order is the argument:
1. ends and ids of the topics are listed first: whatever lies below these ends is covered by the copies that follow, since
   their floors are read later and no label in the stream is above the head of the log;
2. then every table's copy becomes owed at the source, and the last watermark is given up there, in one transaction: from
   now on capture goes on from the topics it finds;
3. then the target: every table waits for its copy notice of the newer generation, held, so that nothing of what the
   topics hold now is applied before, under whatever schema ids; the owner changes, so that a sink in the middle of a cut
   loses its compare-and-set.
A crash between 2 and 3 leaves a target whose sink refuses as before: the command is run again. A sink that took a copy
notice between 2 and 3 keeps it: its generation is not older.
"""

from __future__ import annotations

import uuid

from adapters.postgres import Postgres
from capture.install import request_resync_of_all
from capture.position import last_watermark, stamp_of
from cli.wiring import open_target, open_transport
from ops.config import Config
from ops.points import reach
from schemas.change import TopicPartition
from schemas.names import schema_topic, watermark_topic
from schemas.ports import Sqlite, Transport
from sink.progress import forget_stream, prepared


def start_over(config: Config, source: str, db: Sqlite) -> None:
    """Reaches for the stream and the target first: nothing is changed while either is away."""
    transport = open_transport(config)
    target = open_target(config, "reset")
    try:
        begin_anew(transport, target, db, prefix=config.transport.prefix, source=source)
    finally:
        target.close()
        transport.close()


def begin_anew(transport: Transport, target: Postgres, db: Sqlite, *, prefix: str, source: str) -> None:
    """May be called again at any time."""
    known = prepared(target)
    offsets, topics = listed(transport, prefix, source)
    last = last_watermark(transport, watermark_topic(prefix, source))
    generations = request_resync_of_all(db, void=stamp_of(last))
    reach("reset.between")
    if known:
        forget_stream(target, source, generations, offsets, topics, owner=f"reset-{uuid.uuid4().hex}")


def listed(transport: Transport, prefix: str, source: str) -> tuple[dict[TopicPartition, int], dict[str, str]]:
    """Ends and ids of the topics of the way there, as they are now."""
    watermarks, schemas = watermark_topic(prefix, source), schema_topic(prefix)
    present = transport.topics(watermarks.rpartition(".")[0] + ".")
    names = [name for name in present if name != watermarks]
    topics = transport.topic_ids([*names, *transport.topics(schemas)])
    offsets = {
        TopicPartition(topic, part): end for topic, ends in transport.ends(names).items() for part, end in ends.items()
    }
    return offsets, {topic: one for topic, one in topics.items() if topic in names or topic == schemas}
