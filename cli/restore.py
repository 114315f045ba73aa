"""Do: `rollback --to CHECKPOINT`: say what is lost, have it confirmed by name, keep it, and put the sources back.

The order is the argument: whatever may fail for a reason of its own (a backup, a disk, a stream that is away) is looked at and
copied aside before anything is closed, and what is lost is said before. A failure before the first file is put back opens the
sources again where they were open; a target that was closed stays closed, and the error says both ways on.
Capture must not run: it would publish from the middle of the change, and bring back what is thrown away.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from adapters.bookkeeping import bring_up_to_date
from adapters.postgres import Postgres
from adapters.postgres_dump import dump_tool
from cli.backup import backup_source, backup_target
from cli.checkpoint import points_of
from cli.cutover_wiring import carried_by, fence_of, guard_of, publisher_of, tables_of
from cli.restore_loss import NotConfirmed, head_of, losses_of, refuse_ended, told_of
from cli.restored_copy import (
    Open,
    drop_aside,
    make_successor,
    refuse_no_room,
    set_aside,
    sound_backup,
)
from cli.wiring import capture_lock, open_registry, open_transport
from cutover.authority import AuthorityRow
from cutover.behind import refuse_behind
from cutover.loss import TableLoss, loss_lines
from cutover.restore import Restore, RestoreSettings, refuse_other
from ops.clock import SystemClock
from ops.config import Config
from ops.loop import Signals
from ops.points import reach
from ops.telemetry import Telemetry
from schemas.authority import Authority, Migration
from schemas.errors import Superseded, TailraceError

THROWN_AWAY = "thrown-away_"
"""Begins the names of what is kept: no gate takes it for a backup of the present."""
_NOW = "SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint"
_KEPT = (
    "SELECT detail->>'kept' FROM tailrace.journal WHERE verb = 'restore-kept' AND token = %s ORDER BY seq DESC LIMIT 1"
)
_LAST = (
    "SELECT verb, detail->>'checkpoint', token FROM tailrace.journal WHERE before <> after ORDER BY seq DESC LIMIT 1"
)


class RollbackTo:
    """One run of the verb.

    Args:
        confirmed: the checkpoint's name again, or nothing.
        again: put back to it once more, though the last move did that.
        keep: what is thrown away is kept.
    """

    def __init__(
        self,
        config: Config,
        session: Postgres,
        row: AuthorityRow,
        events: Telemetry,
        name: str,
        *,
        reason: str,
        confirmed: str = "",
        again: bool = False,
        keep: bool = True,
    ) -> None:
        self._config = config
        self._session = session
        self._row = row
        self._events = events
        self._name = name
        self._reason = reason
        self._confirmed = confirmed
        self._again = again
        self._keep = keep
        self._counted: Mapping[str, int] = {}
        """Heads of the change logs when the losses were counted."""

    def run(self, *, dry_run: bool = False) -> tuple[dict[str, Any], list[str]]:
        """(document, lines). Raises Refusal: nothing was changed then."""
        with ExitStack() as held:
            seen = carried_by(self._config)
            before = self._row.read()
            refuse_behind(before, seen)
            refuse_other(before, self._name)
            transport = open_transport(self._config)
            held.callback(transport.close)
            points = points_of(self._config, self._session, transport)
            checkpoint = points.find(self._name)
            now_ms = int(self._session.rows(_NOW)[0][0])
            registry = open_registry(self._config, transport)
            one = Open(self._config, self._session, transport, registry, checkpoint, now_ms)
            if not dry_run and (done := self._finished(one, before)) is not None:
                return done
            if before.restoring is not None and not dry_run:
                return self._put_back(one, before, {name: sound_backup(one, name) for name in checkpoint.sources}, [])
            refuse_ended(self._config, points, checkpoint)
            backups = {name: sound_backup(one, name) for name in sorted(checkpoint.sources)}
            self._counted = {name: head_of(self._config, name) for name in backups}
            losses = losses_of(one, before, backups, self._events)
            told = told_of(one, losses)
            if dry_run:
                return told
            if self._confirmed != self._name:
                raise NotConfirmed(self._name, self._reason, told)
            return self._put_back(one, before, backups, losses)

    # -- before anything moves -----------------------------------------------------------------------------------

    def _finished(self, one: Open, before: Migration) -> tuple[dict[str, Any], list[str]] | None:
        """A run that died behind the last move is finished, and one that ended is not done again by its repetition: what was
        written since would go."""
        last = self._session.rows(_LAST)
        if before.authority is not Authority.SOURCE or not last or last[0] != ("restored", self._name, before.token):
            return None
        if self._again and not any(carried.fence is not None for carried in carried_by(self._config).values()):
            return None
        with self._restore() as restore:
            lifted = restore.settle(before.token)
        drop_aside(self._config, one.checkpoint.sources)
        document = {"checkpoint": self._name, "token": before.token, "already": True, "lifted": lifted}
        return document, [
            f"the sources were put back to {self._name} already, and writes belong to them (token {before.token})",
            f"to throw away what was written since: add --again --yes {self._name}",
        ]

    # -- doing it ------------------------------------------------------------------------------------------------

    def _put_back(
        self, one: Open, before: Migration, backups: Mapping[str, Path], losses: list[TableLoss]
    ) -> tuple[dict[str, Any], list[str]]:
        was = before.restoring.was if before.restoring is not None else before.authority
        of_target = self._keep and was is not Authority.SOURCE
        if of_target:
            dump_tool()
        with ExitStack() as locks:
            self._rest_captures(locks)
            bring_up_to_date(self._session)
            for name, backup in backups.items():
                refuse_no_room(one, name, backup, keeping=self._keep)
            aside = {name: set_aside(one, name, backup) for name, backup in backups.items()}
            locks.callback(drop_aside, self._config, list(aside))
            restore = locks.enter_context(self._restore())
            with Signals().deferred(_say_waiting):
                kept, token, lifted, copied = self._moved(restore, one, before, aside, of_target=of_target)
        late = sum(max(0, head - self._counted.get(name, head)) for name, head in restore.heads.items())
        document = {
            "checkpoint": self._name,
            "token": token,
            "was": was,
            "losses": [asdict(loss) for loss in losses],
            "changes_after_the_count": late,
            "kept": kept,
            "copied_again": copied,
            "lifted": lifted,
        }
        self._events.event("restore.done", f"put back to {self._name}; kept: {kept}", log="rollback.log")
        lines = [f"writes belong to the SQLite files, which are those of {self._name} again (token {token})"]
        lines += [f"thrown away: {line}" for line in loss_lines(losses)]
        if late:
            lines.append(f"thrown away, too: {late} changes that came after these were counted")
        lines += [f"kept of what was thrown away: {what}: {path}" for what, path in kept.items()]
        lines += [f"{name}: all tables are copied again: {why}" for name, why in copied.items()]
        lines.append("start capture again: it brings PostgreSQL to the same state; then tailrace verify")
        return document, lines

    def _moved(
        self, restore: Restore, one: Open, before: Migration, aside: Mapping[str, Path], *, of_target: bool
    ) -> tuple[dict[str, str], int, list[str], dict[str, str]]:
        reach("restore.aside")
        closed: Migration | None = None
        try:
            closed = restore.close(before, self._name, self._reason)
            left = restore.left(closed)
            kept = self._kept(closed, left, of_target=of_target)
            reach("restore.kept")
            for name in left:
                why = make_successor(one, name, aside[name], closed.token)
                self._events.event("restore.successor", f"{name}: {why or 'its differences are known'}")
            reach("restore.made")
            restore.put_back(closed, {name: aside[name] for name in left})
        except Superseded:
            raise
        except (TailraceError, OSError) as error:
            self._taken_back(restore, error)
            raise
        token, lifted, copied = restore.open(closed, one.checkpoint.at_ms)
        return kept, token, lifted, copied

    def _taken_back(self, restore: Restore, error: TailraceError | OSError) -> None:
        """Nothing was put back: sources that were open are opened again."""
        now = self._row.read()
        if now.restoring is None:
            return
        if now.restoring.was is Authority.SOURCE and len(restore.left(now)) == len(self._config.source_databases):
            restore.give_up(now, error.message if isinstance(error, TailraceError) else f"{error.strerror}")
            error.add_note("nothing was put back, and the sources are open again")
            return
        error.add_note(
            f"nobody can write: tailrace rollback --to {self._name} --reason R goes on; as long as no file was put back, "
            "tailrace rollback --give-up --reason R makes an ordinary rollback of it"
        )

    def _kept(self, closed: Migration, left: list[str], *, of_target: bool) -> dict[str, str]:
        found = self._session.rows(_KEPT, (closed.token,))
        kept: dict[str, str] = json.loads(found[0][0]) if found else {}
        if not self._keep:
            return kept
        for name in left:
            if not Path(kept.get(name, "")).is_file():
                kept[name] = str(backup_source(self._config, name, self._events, kind=THROWN_AWAY).path)
        if of_target and not Path(kept.get("target database", "")).is_file():
            kept["target database"] = str(backup_target(self._config, self._events, kind=THROWN_AWAY).path)
        self._row.note(closed.token, closed.authority, closed.authority, verb="restore-kept", detail={"kept": kept})
        return kept

    def _rest_captures(self, locks: ExitStack) -> None:
        """Raises Refusal where one runs."""
        for name in sorted(self._config.source_databases):
            lock = capture_lock(self._config, name)
            lock.take(source=name)
            locks.callback(lock.release)

    @contextmanager
    def _restore(self) -> Iterator[Restore]:
        fence = fence_of(self._config)
        say = self._events.say
        try:
            yield Restore(
                self._session,
                self._row,
                fence,
                guard_of(self._config, self._session, self._row, say)[0],
                SystemClock(),
                RestoreSettings(),
                paths={name: Path(self._config.source_path(name)) for name in self._config.source_databases},
                tables=lambda: tables_of(self._config),
                say=say,
                told=publisher_of(self._config, self._session, say).told,
            )
        finally:
            fence.close()

    def give_up(self) -> tuple[dict[str, Any], list[str]]:
        """Of a restore that no file was put back by."""
        with ExitStack() as locks:
            self._rest_captures(locks)
            restore = locks.enter_context(self._restore())
            now = restore.give_up(self._row.read(), self._reason)
            drop_aside(self._config, self._config.source_databases)
        back = "writes belong to the SQLite files, as they are"
        line = (
            back if now is Authority.SOURCE else "start capture, then tailrace rollback --reason R brings writes back"
        )
        return {"given_up": True, "authority": now}, [f"given up, nothing was put back: {line}"]


def _say_waiting() -> None:
    click.echo(
        "the files are being put back. Interrupt again to stop between two steps: the same command goes on", err=True
    )
