"""Do: look at the servers beside stream and target that the configuration names: the schema registry, the router's Redis.

Invariant: what is not configured has no finding, and nothing is written. Capture cannot go on without its registry; without
Redis routers follow `route.json`, so that one is a warning.
"""

from __future__ import annotations

from cli.check_result import CheckResult
from cli.cutover_wiring import board_of
from cli.shift_wiring import unjudged_now
from cli.wiring import open_registry, open_transport
from ops.config import Config
from schemas.errors import TailraceError

NOBODYS = "tailrace-check"
"""A subject that no table has: only that it is answered counts."""


def service_checks(config: Config) -> list[CheckResult]:
    """Findings; what cannot be reached or is refused is one of them."""
    return _registry(config) + _board(config) + _samples(config)


def _samples(config: Config) -> list[CheckResult]:
    """Can a look judge what the routers report? Where nobody reports yet there is nothing to say."""
    try:
        why = unjudged_now(config)
    except TailraceError:
        return []  # the Redis of the router: said above
    hint = "raise health.window_s, or lower shift.min_samples"
    return [CheckResult("health window", "warning", why, hint)] if why else []


def _registry(config: Config) -> list[CheckResult]:
    if not config.registry.url:
        return []
    name = "registry answers"
    try:
        transport = open_transport(config)
    except TailraceError:
        return []  # said by the checks of the stream
    try:
        open_registry(config, transport).latest(NOBODYS)
    except TailraceError as error:
        return [CheckResult(name, "refused", error.message, error.hint)]
    finally:
        transport.close()
    return [CheckResult(name, "ok", config.registry.url)]


def _board(config: Config) -> list[CheckResult]:
    name = "router's Redis answers"
    try:
        board = board_of(config)
        if board is None:
            return []
        try:
            reports = board.reports()
        finally:
            board.close()
    except TailraceError as error:
        verdict = "warning" if error.retryable else "refused"
        return [CheckResult(name, verdict, error.message, error.hint)]
    return [CheckResult(name, "ok", f"{len(reports)} routers report")]
