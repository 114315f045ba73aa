"""Do: build the two daemons' halves of the way back, and say in the authority row when it is lost.

Invariant: what was lost on the way back ends no daemon: the same processes hold the forward stream and the steward, and
writes on the target go on. It is no way back any more, so the row says no_rollback, and a rollback is refused before it
closes the target (test_a_topic_of_the_way_back_made_again_is_no_way_back).
"""

from __future__ import annotations

from collections.abc import Mapping

from adapters.postgres import Postgres
from adapters.sqlite_apsw import QuietSqlite
from capture import meta as metas
from capture.install import add_columns
from capture.postgres_shapes import keep, stamp, void
from capture.postgres_source import PostgresSource
from capture.postgres_tail import PostgresTail, ReverseSettings, Start
from capture.sqlite_triggers import NOW_MS
from cli.cutover_wiring import actor
from cli.wiring import Say, capture_settings, open_source, open_target, topic_settings
from cutover.authority import AuthorityRow
from cutover.prepare import plans_of
from cutover.way_back import WayBack
from ops.clock import SystemClock
from ops.config import Config
from ops.units import Done, unheard
from schemas.authority import Authority
from schemas.back_columns import Grown
from schemas.change import Position
from schemas.plan import TablePlan
from schemas.ports import Registry, Transport
from sink.sqlite_target import SqliteTarget
from sink.tail import SinkSettings, SinkTail

ROW_LOOK_MS = 100
TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"


def back_prefix(config: Config) -> str:
    return f"{config.transport.prefix}-back"


class StartOf:
    """Whether writes belong to the target, looked at a few times a second."""

    def __init__(self, target: Postgres, source: str) -> None:
        self._target = target
        self._row = AuthorityRow(target, actor="reverse")
        self._source = source
        self._clock = SystemClock()
        self._looked_at_ms = 0
        self._start: Start | None = None

    def __call__(self) -> Start | None:
        now_ms = self._clock.monotonic_ms()
        if now_ms - self._looked_at_ms < ROW_LOOK_MS:
            return self._start
        self._looked_at_ms = now_ms
        if not self._target.rows("SELECT to_regclass('tailrace.migration') IS NOT NULL")[0][0]:
            self._start = None
            return None
        row = self._row.read()
        if row.authority not in (Authority.TARGET, Authority.TO_SOURCE) or row.restoring is not None:
            self._start = None
            return None
        at, timeline = stamp(self._target, self._source), self._target.rows(TIMELINE)[0][0]
        if self._start is None or (self._start.token, self._start.stamp, self._start.timeline) != (
            row.token,
            at,
            timeline,
        ):
            server = self._target.rows("SELECT system_identifier::text FROM pg_control_system()")[0][0]
            position = Position(row.reverse_label, row.reverse_start)
            plans = tuple(plans_of(self._target, self._source))
            void_topics = void(self._target, self._source)
            self._start = Start(row.token, position, str(server), plans, at, void_topics, timeline)
        return self._start

    def keep(self, token: int, before: TablePlan, grown: Grown) -> None:
        keep(self._target, token, before, grown)
        self._looked_at_ms = 0  # asked again at once: the plans it knows are old now

    def lose(self, token: int, lost: Mapping[str, str]) -> None:
        self._row.lose(token, lost)

    def close(self) -> None:
        self._target.close()


def back_capture_of(config: Config, source: str, transport: Transport, registry: Registry, say: Say) -> WayBack:
    session, flusher = open_target(config, f"back-{source}"), open_target(config, f"back-flush-{source}")
    settings = capture_settings(config, source)
    start_of = StartOf(open_target(config, f"back-row-{source}"), source)
    tail = PostgresTail(
        PostgresSource(session, flusher, source),
        transport,
        registry,
        SystemClock(),
        ReverseSettings(
            back_prefix(config),
            max_row_bytes=settings.max_row_bytes,
            topic=topic_settings(config),
            policies=settings.policies,
        ),
        start_of=start_of,
        lost=start_of.lose,
        grown=start_of.keep,
        say=say,
    )
    return WayBack(tail, open_target(config, f"back-lost-{source}"), source)


def back_sink_of(
    config: Config, source: str, transport: Transport, registry: Registry, say: Say, done: Done = unheard
) -> WayBack:
    reader = open_source(config, source)
    target = SqliteTarget(
        QuietSqlite(config.source_path(source)),
        reader,
        registry,
        source,
        numbers=lambda: {one.name: number for number, one in metas.read(reader).tables.items()},
        add_columns=add_columns,
        topic_ids=transport.topic_ids,
        now_ms=NOW_MS,
    )
    tail = SinkTail(
        source,
        target,
        transport,
        SystemClock(),
        SinkSettings(
            back_prefix(config), group="tailrace-back", max_transaction_rows=config.limits.max_transaction_rows
        ),
        owner=actor(),
        say=say,
        done=done,
    )
    return WayBack(tail, open_target(config, f"back-lost-{source}"), source)
