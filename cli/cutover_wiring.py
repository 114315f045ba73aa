"""Do: build what a switch needs: the authority row, fences over all source files, guards, and the two streams back.

Each daemon touches one database: the way back is captured where the target is written (sink) and applied where the source
is read (capture), whose lock makes it the only one. The steward, which finishes what a dead switch left, needs both.
"""

from __future__ import annotations

import getpass
import os
import socket
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from cli.wiring import Say, open_source, open_target, target_schema
from cutover.authority import AuthorityRow
from cutover.behind import lost_moves, refuse_behind
from cutover.drain import Reached, reached_back
from cutover.final import FinalVerify
from cutover.objects import Objects, OpenedObjects
from cutover.prepare import plans_of
from cutover.reports import RouterReports
from cutover.rollback import Rollback, RollbackSettings
from cutover.routing import Board, RoutePublisher, read_reports
from cutover.source_fence import Carried, Group, SourceFence, Writable
from cutover.switch import Switch, SwitchSettings
from cutover.target_guard import TargetGuard
from cutover.way_back import regain
from ops.clock import SystemClock
from ops.config import Config
from ops.hooks import Hooks
from ops.secrets import resolve_url
from schemas.authority import Authority, Migration
from schemas.errors import Code, Refusal, TailraceError
from schemas.introspect import introspect
from schemas.objects import parents_of, wanted_views
from schemas.plan import TablePlan
from sink.progress import read_progress

ATTACHED = 10
"""SQLite attaches at most ten files to one connection: that many sources share one lock."""
STEWARD_MS = 500


def actor() -> str:
    """Who moves the row, for the journal and the lease: unique for every process."""
    try:
        login = getpass.getuser()
    except (OSError, KeyError):
        login = str(os.geteuid())  # a container may have no name for it
    return f"{login}@{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@contextmanager
def authority_of(config: Config) -> Iterator[tuple[Postgres, AuthorityRow]]:
    """A session of a verb's own, and the row in it."""
    session = open_target(config, "cutover")
    try:
        yield session, AuthorityRow(session, actor=actor())
    finally:
        session.close()


def fence_of(config: Config) -> SourceFence:
    """Over all sources of the configuration, in the order of their names."""
    names = sorted(config.source_databases)
    groups = []
    for start in range(0, len(names), ATTACHED):
        part = names[start : start + ATTACHED]
        db = SqliteDatabase(config.source_path(part[0]), timeout_s=0.3)
        schemas = {part[0]: "main"}
        for at, name in enumerate(part[1:], 1):
            db.attach(config.source_path(name), f"source{at}")
            schemas[name] = f"source{at}"
        groups.append(Group(db, schemas))
    return SourceFence(groups)


def carried_by(config: Config) -> Mapping[str, Carried]:
    """What the sources have seen of the migration. Those that cannot be read say nothing."""
    try:
        fence = fence_of(config)
    except TailraceError:
        return {}
    try:
        return fence.carried()
    except TailraceError:
        return {}
    finally:
        fence.close()


def refuse_left_out(config: Config, plans: Sequence[TablePlan]) -> None:
    """Raises Refusal(CONFIG_INVALID). All tables of the target open and close together: those of a source that this
    configuration does not know would open beside a file that nobody fenced, or close before its changes came back."""
    left_out = sorted({plan.source for plan in plans} - set(config.source_databases))
    if left_out:
        raise Refusal(
            Code.CONFIG_INVALID,
            f"the configuration leaves out {', '.join(left_out)}, which belongs to the migration on this target",
            source=left_out[0],
            hint="use the configuration that `tailrace up` ran with; all sources of a migration move together",
        )


def tables_of(config: Config) -> dict[str, Writable]:
    """source -> all ordinary tables: what is not replicated is fenced, too."""
    result: dict[str, Writable] = {}
    for name in config.source_databases:
        db = open_source(config, name)
        try:
            with db.read_view():
                found = introspect(db)
                result[name] = Writable(found.schema_version, tuple(found.tables))
        finally:
            db.close()
    return result


def look_forward(target: Postgres, config: Config) -> dict[str, Reached | None]:
    found = {name: read_progress(target, name) for name in config.source_databases}
    return {name: None if one is None else Reached(one.applied, one.consistent) for name, one in found.items()}


class BackLook:
    """How far the way back is applied at each source; keeps its connections."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._files: dict[str, SqliteDatabase] = {}

    def __call__(self) -> Mapping[str, Reached | None]:
        result: dict[str, Reached | None] = {}
        for name in self._config.source_databases:
            try:
                if name not in self._files:
                    self._files[name] = open_source(self._config, name)
                result[name] = reached_back(self._files[name])
            except TailraceError:
                result[name] = None
        return result

    def close(self) -> None:
        for db in self._files.values():
            db.close()


def objects_of(config: Config, session: Postgres) -> list[Objects]:
    """What each source's tables get when the target opens."""
    return [objects_of_source(config, session, name) for name in config.source_databases]


def objects_of_source(config: Config, session: Postgres, name: str) -> Objects:
    db = open_source(config, name)
    try:
        with db.read_view():
            database = metas.as_logged(metas.read(db), introspect(db))
    finally:
        db.close()
    parents = parents_of(database, {plan.table: plan for plan in plans_of(session, name)})
    preserve = config.identifiers == "preserve"
    views, _ = wanted_views(database, parents, config.views, schema=target_schema(config, name), preserve=preserve)
    return Objects(parents, views, database.sequences)


def guard_of(config: Config, session: Postgres, row: AuthorityRow, say: Say) -> tuple[TargetGuard, OpenedObjects]:
    plans = plans_of(session)
    refuse_left_out(config, plans)
    objects = OpenedObjects(session, lambda: objects_of(config, session), say)
    return TargetGuard(session, row, plans, objects), objects


def switch_of(
    config: Config,
    session: Postgres,
    row: AuthorityRow,
    fence: SourceFence,
    say: Say,
    *,
    final: FinalVerify | None = None,
    hooks: Hooks | None = None,
) -> Switch:
    clock = SystemClock()
    guard, objects = guard_of(config, session, row, say)

    def run_hooks(_: Mapping[str, int]) -> None:
        if hooks is not None:
            hooks.run("before_open", token=row.read().token)

    return Switch(
        row,
        fence,
        guard,
        clock,
        SwitchSettings(
            lease_s=config.cutover.lease_s,
            fence_budget_s=config.cutover.fence_budget_s,
            drain_budget_s=config.cutover.drain_budget_s,
            window=f"{config.cutover.rollback_window_days} days",
        ),
        tables=lambda: tables_of(config),
        look=lambda: look_forward(session, config),
        verify=final.verify if final is not None else None,
        # Behind the fence and the drain: no key is given any more on the other side. What an operator asks comes last: it
        # sees what will be opened.
        before_open=[
            ("sequences", lambda _: objects.set_sequences()),
            *([("hooks", run_hooks)] if config.hooks.before_open else []),
        ],
        say=say,
        told=publisher_of(config, session, say).told,
    )


def rollback_of(
    config: Config,
    session: Postgres,
    row: AuthorityRow,
    fence: SourceFence,
    look_back: BackLook,
    say: Say,
    routes: RoutePublisher | None = None,
) -> Rollback:
    return Rollback(
        session,
        row,
        fence,
        guard_of(config, session, row, say)[0],
        SystemClock(),
        RollbackSettings(lease_s=config.cutover.lease_s),
        look_back=look_back,
        say=say,
        told=(routes or publisher_of(config, session, say)).told,
    )


def board_of(config: Config) -> Board | None:
    """None: no Redis is configured."""
    if not config.router.redis_url:
        return None
    from adapters.redis import RedisBoard

    def url() -> str:
        return resolve_url(config.router.redis_url, folder=Path(config.folder))

    return RedisBoard(url, prefix=config.router.prefix, allow_plaintext=config.allow_plaintext)


def publisher_of(config: Config, session: Postgres, say: Say) -> RoutePublisher:
    folder = config.path(config.run_folder)
    return RoutePublisher(session, list(config.source_databases), folder, board_of(config), SystemClock(), say)


def reports_of(config: Config, board: Board | None) -> RouterReports:
    """What all routers reported lately. `board`: kept by whoever asks often (`board_of`)."""
    return read_reports(config.path(config.run_folder), board, now_ms=SystemClock().now_ms())


class Steward:
    """Finishes or takes back what the process of a switch left, once its lease has ended, and publishes the route anew.

    While the target cannot be reached nobody can say who may write: nothing is done then, and the sink says it."""

    def __init__(self, config: Config, say: Say, hooks: Hooks) -> None:
        self._config = config
        self._say = say
        self._hooks = hooks
        self._clock = SystemClock()
        self._session = open_target(config, "steward")
        self._row = AuthorityRow(self._session, actor=f"steward:{actor()}")
        self._fence: SourceFence | None = None
        self._rollback: Rollback | None = None
        self._look = BackLook(config)
        self._routes = publisher_of(config, self._session, say)
        self._looked_at_ms = 0
        self._stuck = ""
        self._kept: set[str] = set()
        self._shut_at = 0

    def step(self) -> bool:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._looked_at_ms < STEWARD_MS:
            return False
        self._looked_at_ms = now_ms
        self._hooks.tell()
        try:
            if not self._session.rows("SELECT to_regclass('tailrace.migration') IS NOT NULL")[0][0]:
                return False
            if self._fence is None:
                self._fence = fence_of(self._config)
            carried = self._fence.carried()
            before = self._row.read()
            self._refuse_behind(before, carried)
            if before.authority in (Authority.TARGET, Authority.COMPLETED):
                self._fence.witness(before.token)
            # Kept while its drain goes on: it knows up to where.
            if self._rollback is None or before.authority is not Authority.TO_SOURCE:
                self._rollback = rollback_of(
                    self._config, self._session, self._row, self._fence, self._look, self._say, self._routes
                )
            if before.authority is Authority.TARGET:
                self._tell_kept()
            for source in regain(self._row, before, self._look()) if before.no_rollback else ():
                self._say(
                    "reverse.regained", f"{source}: all its rows have arrived again, a rollback loses nothing of it"
                )
            self._routes.publish()
            recovered = self._rollback.recover(before)
            if recovered is not None and recovered.was is not Authority.SOURCE:
                event = "failed" if recovered.was is Authority.TO_TARGET else "after_rollback"
                self._hooks.later(event, token=recovered.token, reason=f"recovered from {before.owner}")
            return recovered is not None
        except TailraceError as error:
            if error.code in (Code.TARGET_UNREACHABLE, Code.AUTHORITY_MOVED, Code.NOT_INSTALLED):
                return False
            if error.code in (Code.NO_ROLLBACK, Code.AUTHORITY_BEHIND, Code.CONFIG_INVALID, Code.RESTORE_RUNNING):
                # A rollback that stands between two closed sides, and would lose rows; or a server that lost moves: nobody
                # but a person decides that.
                if error.message != self._stuck:
                    self._say("cutover.stuck", error.message)
                self._stuck = error.message
                return False
            raise

    def _tell_kept(self) -> None:
        kept = {f"{name}.{row}" for name, one in self._look().items() if one is not None for row in one.kept}
        for row in sorted(kept - self._kept):
            self._say("cutover.kept", f"a rollback would lose {row}; tailrace rollback --status names all")
        self._kept = kept

    def _refuse_behind(self, before: Migration, carried: Mapping[str, Carried]) -> None:
        """Two sides that take writes grow apart with each of them: the one that no source knows of is shut."""
        found = lost_moves(before, carried)
        if found is not None and found.open_beside and self._shut_at != found.token:
            guard_of(self._config, self._session, self._row, self._say)[0].shut()
            self._shut_at = found.token
        refuse_behind(before, carried)

    def close(self) -> None:
        self._session.close()
        self._routes.close()
        self._look.close()
        if self._fence is not None:
            self._fence.close()
