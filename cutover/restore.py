"""Do: put all sources back to a checkpoint while nobody can write, and make them the side that is written.

The order is the argument:
1. the row says to_source and that a restore leads on from there (guards stand in the same transaction), then every source is
   fenced with that token: no writer is left on either side, no drain, no steward and no other verb ends this state;
2. what is there now is kept, and every file's successor is made beside it with the fence, the log and the progress of the way
   back that it must have (cli/restored_copy.py): no moment exists in which a file that was put back is not fenced;
3. the files become their successors, each in one transaction of its own; the file itself says that it is one (`Put`), so that
   a second run knows which are left;
4. the target is told to wait for what undoes the lost history, then the row goes back to source, and what the target's log still
   holds is deleted with it: a capture of the way back that slept finds nothing, or labels below the one that is read then;
5. only then are the files lifted, with the progress of the way back above every label of the time before.
A crash anywhere leaves both sides closed, and the same command goes on; before 3 it may be given up.
Cases: test_killed_between_any_two_steps, test_a_capture_of_the_way_back_that_slept_brings_nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.postgres_triggers import LABEL, LOG
from cutover.authority import AuthorityRow
from cutover.prepare import take_up
from cutover.rollback import Told, refuse_restoring
from cutover.source_fence import SourceFence, Writable
from cutover.target_guard import PATIENCE, TargetGuard
from ops.points import reach
from schemas.authority import Authority, Migration, Restoring
from schemas.errors import Code, Refusal, Superseded, Transient
from schemas.model import META
from schemas.names import text_beside_parameters
from schemas.ports import Clock, Sqlite, SqliteStatements
from sink.progress import expect, forget_stream, offsets_from

MARK = "restored"
"""Row of `_tailrace_meta`."""


@dataclass(frozen=True, slots=True)
class Put:
    """What a file that was put back says of it."""

    checkpoint: str
    token: int
    upto: int
    """Head of its log: what undoes the lost history lies at or below."""
    copied_because: str = ""
    """Why every table is copied again; empty: it is known what differs."""
    offsets: str = "{}"
    """Ends of the topics before the file was put back, where every table is copied again."""
    topics: Mapping[str, str] | None = None


def put_of(db: SqliteStatements) -> Put | None:
    found = db.rows(f"SELECT value FROM {META} WHERE key = ?", (MARK,))
    return Put(**json.loads(found[0][0])) if found else None


def mark_put(db: Sqlite, put: Put) -> None:
    """In the caller's transaction."""
    db.run(f"INSERT OR REPLACE INTO {META}(key, value) VALUES (?, ?)", (MARK, json.dumps(asdict(put))))


@dataclass(frozen=True, slots=True)
class RestoreSettings:
    close_budget_s: float = 5.0
    fence_budget_s: float = 10.0
    """So long a writer, and so long readers of a file without WAL, may keep us waiting."""


class Restore:
    """Args:
    paths: source -> its file; the caller holds the lock of every capture.
    tables: what must be fenced, read anew at each call.
    """

    def __init__(
        self,
        target: Postgres,
        row: AuthorityRow,
        fence: SourceFence,
        guard: TargetGuard,
        clock: Clock,
        settings: RestoreSettings,
        *,
        paths: Mapping[str, Path],
        tables: Callable[[], Mapping[str, Writable]],
        say: Callable[[str, str], None] = lambda action, text: None,  # noqa: ARG005
        told: Told = lambda authority, token: None,  # noqa: ARG005
    ) -> None:
        self._target = target
        self._row = row
        self._fence = fence
        self._guard = guard
        self._clock = clock
        self._settings = settings
        self._paths = paths
        self._tables = tables
        self._say = say
        self._told = told
        self.heads: dict[str, int] = {}
        """Of the change logs, when the files were closed."""

    def close(self, before: Migration, checkpoint: str, reason: str) -> Migration:
        """Nobody can write from here on. Returns the row, with the token that everything else carries."""
        refuse_other(before, checkpoint)
        if before.restoring is None:
            self._claim(before, checkpoint, reason)
            reach("restore.claimed")
        closed = self._row.read()
        deadline_s = self._clock.monotonic_s() + self._settings.fence_budget_s
        while True:
            try:
                self.heads = self._fence.shut(closed.token, self._tables())
                break
            except Transient:
                if self._clock.monotonic_s() >= deadline_s:
                    raise
                self._clock.sleep(0.02)
        self._told(closed.authority, closed.token)
        reach("restore.fenced")
        return closed

    def left(self, closed: Migration) -> list[str]:
        """The sources that are not put back yet."""
        return [name for name in sorted(self._paths) if not self._is_put(name, closed)]

    def put_back(self, closed: Migration, successors: Mapping[str, Path]) -> None:
        for name, successor in sorted(successors.items()):
            self._row.hold_restore(closed.token)
            carried = self._fence.carried()[name]
            if carried.fence is None or carried.token != closed.token:
                raise Superseded(
                    Code.AUTHORITY_MOVED,
                    "the source does not carry the fence of this restore",
                    source=name,
                    position=carried.token,
                    hint="somebody else moved the migration: tailrace status",
                )
            db = SqliteDatabase(self._paths[name])
            try:
                db.make_commits_durable()
                db.become(successor, wait_s=self._settings.fence_budget_s)
                db.sync_wal()
            finally:
                db.close()
            self._row.note(
                closed.token, closed.authority, closed.authority, verb="restore-put", detail={"source": name}
            )
            reach("restore.put")

    def open(self, closed: Migration, at_ms: int) -> tuple[int, list[str], dict[str, str]]:
        """Returns the new token, the sources that were lifted, and source -> why all its tables are copied again.

        Args:
            at_ms: the moment of the checkpoint.
        """
        copied: dict[str, str] = {}
        for name in sorted(self._paths):
            copied |= self._tell_target(name)
        reach("restore.expected")
        token = self._moved(closed, at_ms)
        reach("restore.returned")
        return token, self.settle(token), copied

    def settle(self, token: int) -> list[str]:
        """What comes after the row has moved. May be called again."""
        label = int(self._target.rows(LABEL)[0][1])
        for path in self._paths.values():
            db = SqliteDatabase(path)
            try:
                take_up(db, token, label)
            finally:
                db.close()
        reach("restore.taken_up")
        lifted = self._fence.lift(token)
        self._told(Authority.SOURCE, token)
        reach("restore.lifted")
        return lifted

    def give_up(self, before: Migration, reason: str) -> Authority:
        """Returns where writes belong now: to the sources, or, after a target that was closed already, to nobody until an
        ordinary rollback has drained it."""
        if before.restoring is None:
            raise Refusal(Code.VERB_ILLEGAL, "no restore is under way", position=before.token, hint="tailrace status")
        if len(self.left(before)) < len(self._paths):
            refuse_restoring(before)
        if before.restoring.was is Authority.SOURCE:
            also = {"restoring": "NULL", "failed": text_beside_parameters(reason)}
            token = self._row.move(
                before, Authority.SOURCE, verb="restore-given-up", also=also, detail={"reason": reason}
            )
            self._fence.lift(token)
            self._told(Authority.SOURCE, token)
            return Authority.SOURCE
        self._row.set(before.token, {"restoring": "NULL"}, verb="restore-given-up", detail={"reason": reason})
        return Authority.TO_SOURCE

    # -- steps ---------------------------------------------------------------------------------------------------

    def _claim(self, before: Migration, checkpoint: str, reason: str) -> None:
        was = Authority.SOURCE if before.authority is Authority.SOURCE else Authority.TARGET
        restoring = Restoring(checkpoint, reason, was)
        if before.authority is not Authority.TARGET:
            self._row.begin_restore(before, restoring)  # the guards stand
            return
        self._insist(lambda: self._guard.close_for(before, restoring), patience=PATIENCE)

    def _moved(self, closed: Migration, at_ms: int) -> int:
        assert closed.restoring is not None
        detail = {"checkpoint": closed.restoring.checkpoint, "at_ms": at_ms, "reason": closed.restoring.reason}
        also = {"restoring": "NULL", "failed": "''", "no_rollback": "'{}'", "read_share": "0"}

        was = closed.restoring.was

        def attempt() -> int:
            with self._target.transaction():
                token = self._row.move(closed, Authority.SOURCE, verb="restored", also=also, detail=detail)
                if was is Authority.TARGET:
                    self._guard.rest()
                if self._target.rows("SELECT to_regclass(%s) IS NOT NULL", (LOG,))[0][0]:
                    self._target.run(f"DELETE FROM {LOG}")
                # What was proven equal was proven of another history.
                for proven in ("tailrace.verdicts", "tailrace.verified"):
                    self._target.run(f"DELETE FROM {proven}")
                reach("restore.mid_return")
            return token

        return self._insist(attempt, patience=0)

    def _insist(self, attempt: Callable[[], int], *, patience: int) -> int:
        return self._guard.insist(
            attempt, self._clock, self._say, budget_s=self._settings.close_budget_s, patience=patience
        )

    def _tell_target(self, name: str) -> dict[str, str]:
        db = SqliteDatabase(self._paths[name])
        try:
            put, meta = put_of(db), metas.read(db)
        finally:
            db.close()
        assert put is not None
        if put.topics is None:
            expect(self._target, name, put.upto)
            return {}
        generations = {one.name: one.generation for one in meta.tables.values()}
        forget_stream(
            self._target, name, generations, offsets_from(put.offsets), put.topics, owner=f"restore-{put.token}"
        )
        return {name: put.copied_because}

    def _is_put(self, name: str, closed: Migration) -> bool:
        assert closed.restoring is not None
        db = SqliteDatabase(self._paths[name])
        try:
            put = put_of(db)
        finally:
            db.close()
        return put is not None and (put.checkpoint, put.token) == (closed.restoring.checkpoint, closed.token)


def refuse_other(before: Migration, checkpoint: str) -> None:
    """Raises Refusal where a restore to this checkpoint may neither begin nor go on."""
    if before.restoring is not None and before.restoring.checkpoint != checkpoint:
        refuse_restoring(before)
    if before.authority is Authority.COMPLETED:
        raise Refusal(Code.VERB_ILLEGAL, "the migration is completed", hint="a new migration leads the other way")
    if before.authority is Authority.TO_TARGET:
        raise Refusal(
            Code.VERB_ILLEGAL,
            "a switch is under way",
            position=before.token,
            hint="tailrace rollback --reason R takes it back first",
        )
    alive = before.lease_left_s is not None and before.lease_left_s > 0
    if before.authority is Authority.TO_SOURCE and before.restoring is None and alive:
        raise Refusal(
            Code.VERB_ILLEGAL,
            f"{before.owner} is bringing writes back at this moment",
            position=before.token,
            hint="tailrace status; again when that has ended",
        )
