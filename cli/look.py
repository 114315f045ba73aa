"""Do: one look at each source and at the target, for `status`, `lag` and the live view."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from cli.growth import with_growth
from cli.migration import with_lost_moves, with_migration, with_shift
from cli.status import SourceFigures, SourceStatus, TargetFigures, source_status, whole_status
from cli.wiring import open_target, policies_of
from cutover.authority import AuthorityRow
from cutover.shift_row import NOBODY, ShiftRow, Told
from cutover.source_fence import Carried, carried_of
from ops.clock import SystemClock
from ops.config import Config
from schemas.authority import Migration, Window
from schemas.errors import TailraceError
from schemas.introspect import introspect
from schemas.model import LOG, META, KeyKind
from schemas.plan import plan_from_json
from schemas.restore import not_as_ordered, unrestorable
from sink.progress import prepared, read_progress


class Looker:
    """Keeps its connections between looks; every look is three short reads a source."""

    def __init__(self, config: Config, sources: Sequence[str]) -> None:
        self._config = config
        self._names = list(sources)
        self._files: dict[str, SqliteDatabase] = {}
        self._target: Postgres | None = None
        self._clock = SystemClock()
        self._tables: dict[str, tuple[int, dict[str, str]]] = {}
        self._carried: dict[str, Carried] = {}

    def look(self) -> dict[str, Any]:
        statuses = [self._one(name) for name in self._names]
        document = whole_status(statuses, max_lag_changes=self._config.limits.max_lag_changes)
        # Behind the sources: a move in between would look like one that the target lost.
        migration, told, window = self._migration()
        document = with_lost_moves(with_migration(document, migration, window), migration, self._carried)
        document = with_shift(document, migration, told, self._config.health.interval_s)
        return with_growth(document, self._config)

    def _migration(self) -> tuple[Migration | None, Told, Window | None]:
        try:
            if self._target is None:
                return None, NOBODY, None
            row = AuthorityRow(self._target, actor="status")
            return row.read(), ShiftRow(self._target, row).read(), row.window()
        except TailraceError:
            return None, NOBODY, None

    def _one(self, name: str) -> SourceStatus:
        # The target first: its applied seq is then never newer than the head it is compared with.
        target = self._target_figures(name)
        applied = target.progress.applied if target.progress else 0
        return source_status(name, self._source_figures(name, applied), target, now_ms=self._clock.now_ms())

    def _source_figures(self, name: str, applied: int) -> SourceFigures:
        try:
            path = self._config.source_path(name)
            db = self._files.get(name)
            if db is None:
                db = self._files[name] = SqliteDatabase(path, timeout_s=1.0)
            with db.read_view():
                if not metas.has_log(db):
                    return SourceFigures(installed=False)
                first, head = db.rows(f"SELECT min(seq), max(seq) FROM {LOG}")[0]
                said = dict(
                    db.rows(f"SELECT key, value FROM {META} WHERE key IN ('identity', 'pruned_to', 'schema_version')")
                )
                identity, pruned = str(said["identity"]), int(said["pruned_to"])
                # In the view of the head: where both agree, what was made of the schema lies at or below it.
                pending_drift = int(said["schema_version"]) != db.schema_version()
                oldest = db.rows(f"SELECT ts FROM {LOG} WHERE seq > ? ORDER BY seq LIMIT 1", (applied,))
                page = db.rows("PRAGMA page_size")[0][0]
                left_behind = self._left_behind(name, db)
                self._carried[name] = carried_of(db)
            rows = 0 if head is None else head - first + 1
            wal = f"{db.path}-wal"
            return SourceFigures(
                head=pruned if head is None else head,
                pruned_to=pruned,
                oldest_unapplied_ms=oldest[0][0] if oldest and pruned <= applied else None,
                log_rows=rows,
                # An entry takes some 30 bytes; whole pages are what the file grows by.
                log_bytes=max(page, rows * 32) if rows else 0,
                wal_bytes=os.stat(wal).st_size if os.path.exists(wal) else 0,  # noqa: PTH110, PTH116
                installed=True,
                identity=identity,
                left_behind=left_behind,
                pending_drift=pending_drift,
            )
        except TailraceError as error:
            return SourceFigures(error=str(error.message))

    def _left_behind(self, name: str, db: SqliteDatabase) -> dict[str, str]:
        """Looked up again when the schema moves: installing and rebuilding move it, too."""
        version = db.schema_version()
        known = self._tables.get(name)
        if known is None or known[0] != version:
            installed = {table.name for table in metas.read(db).tables.values()}
            known = self._tables[name] = (
                version,
                {
                    table.name: table.key.reason if table.key.kind is KeyKind.WHOLE_ROW else "not replicated yet"
                    for table in introspect(db).tables.values()
                    if self._config.wants(table.name) and table.name not in installed
                },
            )
        return known[1]

    def _target_figures(self, name: str) -> TargetFigures:
        try:
            if self._target is None:
                self._target = open_target(self._config, "status")
            target = self._target
            if not prepared(target):
                return TargetFigures()
            policies = policies_of(self._config)
            with target.snapshot():
                progress = read_progress(target, name)
                copies = target.rows(
                    'SELECT c."table", c.rows, c.expected FROM tailrace.copies c JOIN tailrace.tables t ON '
                    't.source = c.source AND t."table" = c."table" AND t.generation = c.generation WHERE c.source = %s',
                    (name,),
                )
                quarantined = target.rows(
                    "SELECT count(*) FROM tailrace.quarantine WHERE source = %s AND waived IS NULL", (name,)
                )
                unproven = target.rows(
                    "SELECT count(*) FROM tailrace.tables t LEFT JOIN tailrace.verdicts v ON v.source = t.source AND "
                    'v."table" = t."table" WHERE t.source = %s AND t.state <> \'gone\' AND (v.at_ms IS NULL OR '
                    "v.differing + v.missing + v.extra + v.not_compared > 0)",
                    (name,),
                )
                shapes = target.rows(
                    "SELECT plan::text FROM tailrace.tables WHERE source = %s AND plan IS NOT NULL "
                    "AND state <> 'gone' AND (%s OR plan::text LIKE '%%\"loose-text\"%%')",
                    (name, bool(policies.columns) or policies.default.types == "storage"),
                )
            plans = [plan_from_json(text) for (text,) in shapes]
            return TargetFigures(
                progress,
                int(quarantined[0][0]),
                {table: (rows, expected) for table, rows, expected in copies},
                {f"{one.table}.{column}": why for one in plans for column, why in unrestorable(one, policies).items()},
                {
                    f"{one.table}.{column}": why
                    for one in plans
                    for column, why in not_as_ordered(one, policies).items()
                },
                unproven=int(unproven[0][0]),
            )
        except TailraceError as error:
            return TargetFigures(error=str(error.message))

    def close(self) -> None:
        for db in self._files.values():
            db.close()
        if self._target is not None:
            self._target.close()
