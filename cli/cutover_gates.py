"""Do: read the value of every gate, from one look at both sides; cutover/judging.py judges.

Invariant: what cannot be read stays None. One source that cannot be read leaves the gates of the others as they are.
"""

from __future__ import annotations

import contextlib
import shutil
import time
from pathlib import Path
from typing import Any

from adapters.postgres import Postgres
from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from cli.backup import digest_of, written_digest
from cli.cutover_wiring import board_of, objects_of_source, reports_of
from cli.final import pending_of
from cli.look import Looker
from cli.status import DRIFTED, UNPROVEN
from cli.stream_checks import way_back_fault
from cutover.gates import Gate
from cutover.judging import NEVER_S, Bounds, SourceFacts, TargetFacts, judged
from cutover.prepare import plans_of, prepared, prove
from ops.config import Config
from schemas.authority import Migration
from schemas.back import QUARANTINE
from schemas.ddl import full_name
from schemas.errors import Code, TailraceError
from schemas.introspect import introspect
from schemas.names import quote

BUSY_S = 0.5
_VERIFIED = (
    "SELECT bool_or(v.at_ms IS NULL OR v.differing + v.missing + v.extra + v.not_compared > 0), "
    "extract(epoch FROM clock_timestamp())::double precision - min(v.at_ms) / 1000.0 FROM tailrace.tables t LEFT JOIN "
    'tailrace.verdicts v ON v.source = t.source AND v."table" = t."table" WHERE t.source = %s AND t.state <> \'gone\''
)
_UNANALYZED = (
    "SELECT c.oid::regclass::text FROM pg_class c WHERE c.oid IN (SELECT to_regclass(name) FROM unnest(%s::text[]) name) "
    "AND c.reltuples < 0"
)


def all_gates(config: Config, session: Postgres, before: Migration, *, proven: bool) -> list[Gate]:
    """In the order in which they are printed.

    Args:
        proven: the way back was made; else it is proven only where it stands already.
    """
    looker = Looker(config, list(config.source_databases))
    try:
        document = looker.look()
    finally:
        looker.close()
    pending: dict[str, tuple[int | None, str]] = {}
    with contextlib.suppress(TailraceError):
        pending = pending_of(config, session)
    sources = {
        name: _source(config, session, name, document, pending.get(name, (None, "")))
        for name in config.source_databases
    }
    bounds = Bounds(
        lag_changes=config.limits.max_lag_changes,
        verify_age_s=config.cutover.verify_max_age_minutes * 60,
        backup_age_s=config.cutover.backup_max_age_hours * 3600,
        free_bytes=config.limits.min_free_bytes,
        instances=config.cutover.instances,
        final_keys=config.cutover.final_verify_keys,
    )
    return judged(sources, _target(config, session, before, proven=proven), bounds)


def _source(
    config: Config, session: Postgres, name: str, document: dict[str, Any], pending: tuple[int | None, str]
) -> SourceFacts:
    one = document["sources"][name]
    known: dict[str, Any] = {
        key: one[key] for key in ("lag_changes", "consistent", "quarantined") if one[key] is not None
    }
    if one["applied_age_seconds"] is not None:
        known["applied_age_s"] = one["applied_age_seconds"]
    known["unverified"], known["unmarked"] = pending
    known["backup_age_s"], known["backup_fault"] = backup_of(config, name)
    known["reasons"] = tuple(
        reason
        for reason in document["blocking_reasons"]
        if reason.startswith(f"{name}: ") and not reason.endswith((UNPROVEN, DRIFTED))  # gates of their own
    )
    with contextlib.suppress(TailraceError):
        known |= _of_target(session, name)
    with contextlib.suppress(TailraceError):
        known |= _of_file(config, name)
    with contextlib.suppress(TailraceError):
        known["objects"] = lost_objects(config, session, name)
    return SourceFacts(**known)


def _of_target(session: Postgres, name: str) -> dict[str, Any]:
    tables = [full_name(plan) for plan in plans_of(session, name)]
    unclean, age_s = session.rows(_VERIFIED, (name,))[0]
    # Rows that were waived are not on the target either.
    kept = session.rows("SELECT count(*) FROM tailrace.quarantine WHERE source = %s", (name,))[0][0]
    return {
        "verify_age_s": NEVER_S if unclean or age_s is None else max(0.0, age_s),
        "unanalyzed": tuple(str(table) for (table,) in session.rows(_UNANALYZED, (tables,))),
        "quarantined": int(kept),
    }


def _of_file(config: Config, name: str) -> dict[str, Any]:
    db = SqliteDatabase(config.source_path(name), timeout_s=BUSY_S)
    try:
        with db.read_view():
            stable = metas.read(db).schema_version == db.schema_version()
            there = db.rows("SELECT 1 FROM sqlite_master WHERE name = ?", (QUARANTINE,))
            kept = db.rows(f"SELECT count(*) FROM {QUARANTINE}")[0][0] if there else 0
        known: dict[str, Any] = {
            "schema_stable": stable,
            "back_quarantined": int(kept),
            "free_bytes": shutil.disk_usage(Path(db.path).parent).free,
        }
        try:
            with db.write():
                pass
            known["busy"] = ""
        except TailraceError as error:
            if error.code is not Code.SOURCE_BUSY:
                raise
            known["busy"] = f"no write lock within {BUSY_S:g} s"
        return known
    finally:
        db.close()


def backup_of(config: Config, name: str) -> tuple[float | None, str]:
    """(age of the newest backup in seconds, what is wrong with it). A digest that does not fit is no backup."""
    try:
        found = sorted(config.path(config.backup_folder).glob(f"{name}_????????_??????.db"))
        if not found:
            return NEVER_S, "there is none"
        newest = found[-1]
        age_s = max(0.0, time.time() - newest.stat().st_mtime)
        if not (written := written_digest(newest)):
            return age_s, f"{newest.name} has no digest beside it"
        return age_s, "" if written == digest_of(newest) else f"{newest.name} is not what its digest says"
    except OSError:
        return None, ""


def lost_objects(config: Config, session: Postgres, name: str) -> dict[str, str]:
    """`source.object` -> kind, of the application's triggers, views and virtual tables that the target would not have."""
    db = SqliteDatabase(config.source_path(name), timeout_s=BUSY_S)
    try:
        with db.read_view():
            database = introspect(db)
    finally:
        db.close()
    plans = {plan.table: plan for plan in plans_of(session, name)}
    views = objects_of_source(config, session, name).views
    lost = {}
    for one in database.objects:
        if one.kind == "trigger":
            there = one.table not in plans or _has_trigger(session, full_name(plans[one.table]), one.name)
            # A trigger of a table that is left out stays with its table, which status names.
            if not there:
                lost[f"{name}.{one.name}"] = one.kind
        elif one.kind in ("view", "virtual"):
            schema = config.target_schema(name)
            if one.name not in views and not _has_relation(session, schema, one.name):
                lost[f"{name}.{one.name}"] = f"{one.kind} table" if one.kind == "virtual" else one.kind
    return lost


def _has_trigger(session: Postgres, table: str, name: str) -> bool:
    """Disabled ones do not count."""
    found = session.rows(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = to_regclass(%s) AND NOT tgisinternal AND lower(tgname::text) = lower(%s) "
        "AND tgenabled <> 'D'",
        (table, name),
    )
    return bool(found)


def _has_relation(session: Postgres, schema: str, name: str) -> bool:
    names = [f"{quote(schema)}.{quote(one)}" for one in {name, name.lower()}]
    return any(session.rows("SELECT to_regclass(%s) IS NOT NULL", (one,))[0][0] for one in names)


def _target(config: Config, session: Postgres, before: Migration, *, proven: bool) -> TargetFacts:
    known: dict[str, Any] = {
        "epoch": before.token,
        "no_rollback": before.no_rollback,
        "stream_back": way_back_fault(config),
    }
    try:
        session.refuse_pooler()
        known["pooler"] = ""
    except TailraceError as error:
        if error.code is Code.POOLER_REFUSED:
            known["pooler"] = error.message
    with contextlib.suppress(TailraceError):
        found = session.rows(
            "SELECT coalesce(nullif(application_name, ''), 'unnamed') FROM pg_stat_activity WHERE datname = "
            "current_database() AND usename = session_user AND backend_type = 'client backend' AND pid <> "
            "pg_backend_pid() AND application_name NOT LIKE 'tailrace-%' ORDER BY 1",
            prepare=False,
        )
        known["sharing"] = tuple(str(one) for (one,) in found)
    with contextlib.suppress(TailraceError):
        plans = plans_of(session)
        known["unproven"] = prove(session, plans) if proven or prepared(session, plans) else {}
    board = board_of(config)
    try:
        known["reports"] = reports_of(config, board)
    finally:
        if board is not None:
            board.close()
    return TargetFacts(**known)
