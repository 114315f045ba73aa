"""Do: build the watch that runs beside the steward in the capture daemon, and what the verb `shift` needs of it.

Invariant: the watch has connections of its own; the target is asked by a thread, so that one that is cut off does not hold
capture up, and writes are brought back by a process of its own, since a rollback waits for streams that the capture daemon
steps. That process is the ordinary verb: one road back.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import IO

from adapters.postgres import Postgres
from cli.cutover_wiring import actor, board_of, publisher_of, reports_of
from cli.look import Looker
from cli.wiring import open_target
from cutover.authority import AuthorityRow
from cutover.health import Thresholds
from cutover.reports import WINDOW_MS
from cutover.shift import ShiftRules, unjudged
from cutover.vitals import Senses
from cutover.watch import Watch
from ops.alerts import Alerts
from ops.clock import SystemClock
from ops.config import Config
from ops.health import FOLDER, look
from ops.probes import Ask, Probes, command, url
from ops.telemetry import Telemetry
from schemas.errors import Code, TailraceError

FULL = frozenset({Code.SOURCE_DISK_FULL, Code.TARGET_DISK_FULL, Code.STREAM_FULL})
TARGET = "target"


def limits_of(config: Config) -> Thresholds:
    health = config.health
    return Thresholds(
        error_rate=health.error_rate,
        auto_rollback_error_percent=health.auto_rollback_error_percent,
        data_integrity=health.data_integrity,
        performance_degradation=health.performance_degradation,
        latency_floor_ms=health.latency_floor_ms,
        min_samples=config.shift.min_samples,
        failed_checks=health.failed_checks,
        target_down_s=health.target_down_s,
    )


def rules_of(config: Config) -> ShiftRules:
    shift = config.shift
    return ShiftRules(
        increments=shift.increments,
        bake_s=shift.bake_seconds,
        error_threshold_percent=shift.error_threshold_percent,
        auto_rollback_enabled=shift.auto_rollback_enabled,
        cooldown_s=shift.cooldown_seconds,
    )


def unjudged_now(config: Config) -> str:
    """Why no look can judge requests at the traffic of this moment; empty: it can, or nobody reports."""
    board = board_of(config)
    try:
        reports = reports_of(config, board)
    finally:
        if board is not None:
            board.close()
    now_ms, window_s = SystemClock().now_ms(), config.health.window_s
    # Routers report every window when it is over: the youngest of them are not there yet.
    seen = reports.between(now_ms - int(window_s * 1000) - 2 * WINDOW_MS, now_ms - 2 * WINDOW_MS)
    return unjudged(rules_of(config), limits_of(config), seen, window_s=window_s)


def target_ask(session: Postgres) -> Ask:
    """Called by one thread alone."""

    def ask() -> str:
        try:
            session.rows("SELECT 1")
        except TailraceError as error:
            return str(error.code)
        return ""

    return ask


def probes_of(config: Config) -> Probes:
    """[health] urls and commands; named by their place, since a URL may hold a secret."""
    health = config.health
    asks: dict[str, Ask] = {}
    for number, address in enumerate(health.urls, 1):
        asks[f"url {number}"] = url(lambda address=address: config.secret(address), timeout_s=health.timeout_s)  # type: ignore[misc]
    for number, text in enumerate(health.commands, 1):
        asks[f"command {number}"] = command(text, folder=Path(config.folder), timeout_s=health.timeout_s)
    return Probes(asks, interval_s=health.interval_s, timeout_s=health.timeout_s)


def disk_full(config: Config) -> list[str]:
    """Daemons of this machine whose steps fail for want of room."""
    return [
        f"{one['process']} {name}: {stepper.get('error_code')}"
        for one in look(config.path(config.run_folder) / FOLDER, (), max_age_s=None)
        for name, stepper in (one.get("steppers") or {}).items()
        if stepper.get("error_code") in FULL
    ]


class RollbackProcess:
    """`tailrace rollback` in a session of its own: neither the end of a terminal nor that of this daemon ends it, and its
    lease lets the steward finish what it leaves."""

    def __init__(self, config_path: Path) -> None:
        self._path = config_path
        self._process: subprocess.Popen[bytes] | None = None
        self._said: IO[bytes] | None = None

    def start(self, reason: str) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - it lives as long as the process
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "-c", str(self._path), "rollback", "--reason", f"automatic: {reason}"],
            stdin=subprocess.DEVNULL,
            stdout=self._said,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        return self._process is not None

    def ended(self) -> tuple[bool, str] | None:
        if self._process is None or self._said is None or (code := self._process.poll()) is None:
            return None
        self._said.seek(0)
        text = self._said.read(4000).decode(errors="replace").strip()
        self._said.close()
        self._process = self._said = None
        return code == 0, text or f"exit code {code}"


class WatchStepper:
    """The watch with its connections."""

    def __init__(self, config: Config, config_path: Path, events: Telemetry) -> None:
        self._session = open_target(config, "watch")
        self._asked = open_target(config, "health")
        self._board = board_of(config)
        self._routes = publisher_of(config, self._session, events.say)
        self._looker = Looker(config, list(config.source_databases))
        health = config.health
        self._target = Probes(
            {TARGET: target_ask(self._asked)}, interval_s=health.interval_s / 2, timeout_s=health.timeout_s
        )
        self._probes = probes_of(config)
        senses = Senses(
            reports=lambda: reports_of(config, self._board),
            target=lambda: self._target.answers()[TARGET],
            probes=self._probes.answers,
            disk_full=lambda: disk_full(config),
            blocking=lambda: self._looker.look()["blocking_reasons"],
        )
        self._watch = Watch(
            self._session,
            list(config.source_databases),
            AuthorityRow(self._session, actor=f"watch:{actor()}"),
            self._routes,
            SystemClock(),
            senses,
            RollbackProcess(config_path),
            Alerts(events),
            limits=limits_of(config),
            rules=rules_of(config),
            interval_s=health.interval_s,
            window_s=health.window_s,
        )

    def step(self) -> bool:
        try:
            return self._watch.step()
        except TailraceError as error:
            # Somebody else was quicker, or the target went away meanwhile: the next look begins with what is there then.
            if error.code in (Code.AUTHORITY_MOVED, Code.TARGET_UNREACHABLE):
                return False
            raise

    def close(self) -> None:
        for one in (self._target, self._probes, self._routes, self._looker, self._session, self._asked):
            one.close()
        if self._board is not None:
            self._board.close()
