"""Do: build the final verification of a switch, and leave the mark that it begins from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from adapters.postgres import Postgres
from capture.sqlite_source import SqliteSource
from cli.wiring import Say, open_registry, open_source, open_target, open_transport
from cutover.authority import AuthorityRow
from cutover.final import FinalSettings, FinalVerify, Mark, Marks
from ops.clock import SystemClock
from ops.config import Config
from schemas.authority import Authority
from schemas.ports import Transport
from verify.verification import Verification


def marks_of(config: Config, session: Postgres, transport: Transport) -> Marks:
    return Marks(session, transport, prefix=config.transport.prefix)


@contextmanager
def final_of(config: Config, say: Say) -> Iterator[FinalVerify]:
    """With connections of its own, opened before anybody waits."""
    with ExitStack() as held:
        transport = open_transport(config)
        held.callback(transport.close)
        registry = open_registry(config, transport)
        session = open_target(config, "final-verify")
        held.callback(session.close)
        checks = {}
        for name in config.source_databases:
            db = open_source(config, name)
            held.callback(db.close)
            source = SqliteSource(db, name)
            checks[name] = Verification(source, source, session, SystemClock(), expected=())
        settings = FinalSettings(config.cutover.final_verify_keys, config.cutover.final_verify_s)
        marks = marks_of(config, session, transport)
        yield FinalVerify(marks, transport, registry, checks, SystemClock(), settings, say=say)


def mark_before(config: Config, session: Postgres, source: str) -> Mark | None:
    """To be read before a verification begins; None while writes do not belong to the sources: the topics say nothing
    of what changes then. Raises what the stream says."""
    if AuthorityRow(session, actor="verify").read().authority is not Authority.SOURCE:
        return None
    transport = open_transport(config)
    try:
        return marks_of(config, session, transport).now(source)
    finally:
        transport.close()


def pending_of(config: Config, session: Postgres) -> dict[str, tuple[int | None, str]]:
    """source -> (records since its mark, why that is not known). Raises what stream and target say."""
    transport = open_transport(config)
    try:
        marks = marks_of(config, session, transport)
        return {name: marks.pending(name) for name in config.source_databases}
    finally:
        transport.close()
