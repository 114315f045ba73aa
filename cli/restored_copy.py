"""Do: check a checkpoint's backup of one source, and make of it the file that takes the source's place.

Invariant: what takes a source's place carries, before any page of it gets there, the fence of the restore, a log that goes on
above everything the stream, the target and the lost history have seen, every key in which the target may differ from it, and a
progress of the way back that lets nothing in. Whatever cannot be known makes every table copied again.
Trap: keys that only the target changed are in no topic of the way there (test_from_the_target_with_changes_that_never_came_back).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.install import accept_fork, accept_history, request_resync_of_all
from capture.position import Known, known_of, last_watermark, stamp_of
from capture.sqlite_source import SqliteSource
from cli.anew import listed
from cli.back_anew import listed_back
from cli.backup import digest_of, written_digest
from cli.fork import MOST_KEYS, Fork, fork_of
from cli.way_back import back_prefix
from cli.wiring import open_source
from cutover.prepare import prepare_source
from cutover.restore import Put, mark_put
from cutover.source_fence import carried_of, fence_copy
from cutover.target_keys import TargetKeys, lost_since
from ops.config import Config
from schemas.back import PROGRESS, QUARANTINE, RESTING
from schemas.change import Position, Progress
from schemas.checkpoint import Checkpoint
from schemas.errors import Code, Refusal, TailraceError
from schemas.introspect import introspect
from schemas.model import META, Key, Value
from schemas.names import notice_topic, schema_topic, watermark_topic
from schemas.ports import Registry, Transport
from sink.progress import offsets_from, offsets_text, read_progress
from verify.compare import typed_key

HEADROOM = 1.1
"""Of a file's size, that its `-wal` or its journal may take while all of its pages are replaced."""


@dataclass(frozen=True, slots=True)
class Open:
    """What is open while a restore runs. `now_ms`: by the target's clock."""

    config: Config
    target: Postgres
    transport: Transport
    registry: Registry
    checkpoint: Checkpoint
    now_ms: int

    def target_keys(self) -> TargetKeys:
        return TargetKeys(self.target, self.transport, self.registry, back_prefix=back_prefix(self.config))


def sound_backup(held: Open, name: str) -> Path:
    """The backup of this source, read and found whole. Raises Refusal(RESTORE_REFUSED) with what is wrong with it."""
    path = Path(held.checkpoint.backups.get(name, ""))
    if not path.is_file():
        raise _refused(held, name, f"its backup {path} is not there")
    known = held.checkpoint.sources[name].backup_sha256 or written_digest(path)
    if not known:
        raise _refused(held, name, f"nothing says what {path.name} must be: no digest was kept")
    if digest_of(path) != known:
        raise _refused(held, name, f"{path.name} is not what was backed up: its SHA-256 is another one")
    try:
        with closing(SqliteDatabase(path, read_only=True)) as copy:
            if damage := copy.damage():
                raise _refused(held, name, f"{path.name} is damaged: {'; '.join(damage)}")
            _refuse_other(held, name, copy)
    except TailraceError as error:
        if error.code is Code.RESTORE_REFUSED:
            raise
        raise _refused(held, name, f"{path.name} cannot be read: {error.message}") from error
    return path


def refuse_no_room(held: Open, name: str, backup: Path, *, keeping: bool) -> None:
    """Before anything moves: the successor beside the backups, what is kept of the present, and the pages on their way."""
    live = Path(held.config.source_path(name))
    folder = held.config.path(held.config.backup_folder)
    sizes = (backup.stat().st_size, live.stat().st_size)
    needs: dict[Path, float] = {folder: sizes[0] + (sizes[1] if keeping else 0)}
    on_the_way = max(sizes) * HEADROOM
    if folder.stat().st_dev == live.parent.stat().st_dev:
        needs[folder] += on_the_way
    else:
        needs[live.parent] = on_the_way
    for where, need in needs.items():
        free = shutil.disk_usage(where).free
        if free < need:
            raise Refusal(
                Code.RESTORE_REFUSED,
                f"{where} has {free:,} bytes free, putting this source back takes {int(need):,}",
                source=name,
                hint="free space; nothing was changed",
            )


def set_aside(held: Open, name: str, backup: Path) -> Path:
    """A copy of the backup to work on; it is what the checkpoint says byte by byte. Nothing else is touched."""
    folder = held.config.path(held.config.backup_folder)
    path = folder / f"restore-{name}.tmp"
    drop_aside(held.config, [name])
    try:
        shutil.copyfile(backup, path)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise _refused(held, name, f"{path} cannot be written: {error.strerror}") from error
    path.chmod(0o600)
    known = held.checkpoint.sources[name].backup_sha256 or written_digest(backup)
    if digest_of(path) != known:
        raise _refused(held, name, f"{backup.name} changed while it was read")
    return path


def drop_aside(config: Config, names: Iterable[str]) -> None:
    for name in names:
        for suffix in ("", "-wal", "-shm", "-journal"):
            (config.path(config.backup_folder) / f"restore-{name}.tmp{suffix}").unlink(missing_ok=True)


def make_successor(held: Open, name: str, path: Path, token: int) -> str:
    """Turn the copy into what takes the source's place. Nobody writes on either side, and nothing captures this source.
    Returns why every table is copied again; empty: what differs is known."""
    prefix = held.config.transport.prefix
    before = read_progress(held.target, name)
    assert before is not None
    stream = known_of(held.transport, watermarks=watermark_topic(prefix, name), notices=notice_topic(prefix, name))
    with (
        closing(SqliteDatabase(path)) as copy,
        closing(open_source(held.config, name)) as live,
    ):
        copy.run("PRAGMA journal_mode=DELETE")
        with live.read_view():
            tops = _seen(live, before, stream)
            generations = _generations(live, before, stream)
            witnessed = carried_of(live).witnessed
            back = live.rows(f"SELECT * FROM {PROGRESS}") if metas.has_table(live, PROGRESS) else []
        fork = _fork(held, name, copy, stream, before)
        put = Put(held.checkpoint.name, token, 0, fork.why)
        if fork.why:
            # Listed before the file is put back: capture may send copy notices as soon as it is.
            offsets, topics = listed(held.transport, prefix, name)
            put = replace(put, offsets=offsets_text(offsets), topics=topics)
            accept_history(copy, tops, generations=generations)
            last = last_watermark(held.transport, watermark_topic(prefix, name))
            request_resync_of_all(copy, void=stamp_of(last))
        else:
            accept_fork(copy, tops, since=fork.since, tables=fork.tables, keys=fork.keys, copied=fork.copied)
        if back:
            prepare_source(copy)
            _rest(held, name, copy, back[0], token)
        fence = fence_copy(copy, token, list(introspect(copy).tables), witnessed=witnessed)
        with copy.write():
            mark_put(copy, replace(put, upto=fence.head))
            # Capture makes its triggers anew, and looks at everything that a VACUUM or other DDL would change.
            copy.run(f"UPDATE {META} SET value = '-1' WHERE key = 'schema_version'")
    return fork.why


def pending_of(held: Open, name: str, start: Position) -> dict[str, int]:
    """table -> keys that the target changed and that have not come back to the file. `start`: of the way back."""
    with closing(open_source(held.config, name)) as live, live.read_view():
        tables = [one.name for one in metas.read(live).tables.values()]
        row = live.rows(f"SELECT offsets FROM {PROGRESS}") if metas.has_table(live, PROGRESS) else []
        kept = live.rows(f"SELECT tab, key_text FROM {QUARANTINE}") if row else []
    offsets = offsets_from(row[0][0]) if row else {}
    last = last_watermark(held.transport, watermark_topic(back_prefix(held.config), name))
    further = last is not None and last.token and last.seq >= start.seq
    after = Position(last.seq, last.token) if last is not None and further else start
    found: dict[str, set[object]] = {}
    for table, key in kept:
        found.setdefault(table, set()).add(key)
    for table, keys in held.target_keys().since(name, offsets, tables, logged_after=after):
        found.setdefault(table, set()).update(typed_key(key) for key in keys)
    return {table: len(keys) for table, keys in found.items()}


# -- the successor ---------------------------------------------------------------------------------------------------


def _fork(held: Open, name: str, copy: SqliteDatabase, stream: Known, before: Progress) -> Fork:
    """What the restored file and the target may differ in: what was published since, and what the target changed itself."""
    window_ms = held.config.transport.replay_window_s * 1000
    point = held.checkpoint.sources[name]
    fork = fork_of(
        SqliteSource(copy, name),
        metas.read(copy),
        stream,
        before,
        held.transport,
        held.registry,
        prefix=held.config.transport.prefix,
        window_ms=window_ms,
        now_ms=held.now_ms,
    )
    why = fork.why or lost_since(held.target, held.checkpoint.at_ms)
    if not why and held.now_ms - held.checkpoint.at_ms + point.unread_ms > window_ms:
        why = "the checkpoint is older than what the topics keep in full"
    made_again = [
        topic for topic, known in point.back_topics.items() if held.transport.topic_ids([topic]).get(topic) != known
    ]
    if not why and made_again:
        why = f"topic {made_again[0]} was deleted or made again since"
    if why:
        return Fork(why=why)
    keys: dict[str, dict[object, Key]] = {
        table: {typed_key(key): key for key in told} for table, told in fork.keys.items()
    }
    names = [table for table in fork.tables if table not in fork.copied]
    for table, changed in held.target_keys().since(name, point.back, names):
        if table in names:
            keys.setdefault(table, {}).update((typed_key(key), key) for key in changed)
    if sum(map(len, keys.values())) > MOST_KEYS:
        return Fork(why=f"more than {MOST_KEYS:,} keys changed since the checkpoint")
    return Fork(fork.since, {table: list(told.values()) for table, told in keys.items()}, fork.tables, fork.copied)


def _seen(live: SqliteDatabase, before: Progress, stream: Known) -> int:
    """The highest seq of the lost history that anybody may have met."""
    meta = metas.read(live)
    head = metas.head_of(live)
    floors = [max(one.floor, one.last_head) for one in before.tables.values()]
    told = [stream.last.seq if stream.last else 0, stream.highest]
    return max(head, meta.pruned_to, before.applied, before.highest, before.applying_to or 0, *told, *floors)


def _generations(live: SqliteDatabase, before: Progress, stream: Known) -> dict[str, int]:
    found = dict(stream.announced)
    mine = {one.name: one.generation for one in metas.read(live).tables.values()}
    for name, generation in [*mine.items(), *((name, one.generation) for name, one in before.tables.items())]:
        found[name] = max(found.get(name, 0), generation)
    return found


def _rest(held: Open, name: str, copy: SqliteDatabase, row: tuple[Value, ...], token: int) -> None:
    """The way back of the time before brings nothing here: it rests above every label until the file is lifted."""
    prefix, schemas = back_prefix(held.config), schema_topic(held.config.transport.prefix)
    offsets, topics = listed_back(held.transport, prefix, schemas, name)
    identity = row[4]
    with copy.write():
        copy.run(f"DELETE FROM {QUARANTINE}")
        copy.run(
            f"UPDATE {PROGRESS} SET owner = 'restore', applied = ?, applying_to = NULL, identity = ?, offsets = ?, highest = ?",
            (RESTING, identity, offsets_text(offsets), RESTING),
        )
        copy.run(
            f"INSERT OR REPLACE INTO {META}(key, value) VALUES ('back_topics', ?)",
            (json.dumps({"token": str(token), "topics": topics}, sort_keys=True),),
        )


# -- the backup ------------------------------------------------------------------------------------------------------


def _refuse_other(held: Open, name: str, copy: SqliteDatabase) -> None:
    with closing(open_source(held.config, name)) as live:
        mine, other = metas.read(live), metas.read(copy)
        if mine.identity != other.identity:
            raise _refused(held, name, "the backup is of another installation than this source")
        sizes = [int(db.rows("PRAGMA page_size")[0][0]) for db in (live, copy)]
        if sizes[0] != sizes[1]:
            raise _refused(held, name, f"its pages have {sizes[1]} bytes, those of the source {sizes[0]}")
        encodings = [str(db.rows("PRAGMA encoding")[0][0]) for db in (live, copy)]
        if encodings[0] != encodings[1]:
            raise _refused(held, name, f"its encoding is {encodings[1]}, that of the source {encodings[0]}")


def _refused(held: Open, name: str, why: str) -> Refusal:
    return Refusal(
        Code.RESTORE_REFUSED,
        f"{held.checkpoint.name} cannot be restored: {why}",
        source=name,
        hint="nothing was changed; tailrace checkpoint --list; plain tailrace rollback brings writes back without loss, "
        f"tailrace replay --from {held.checkpoint.name} mends the target alone",
    )
