"""Do: look at everything that would go wrong later, and say each finding with its verdict: ok, warning or refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from adapters.postgres_connect import connection_parameters, may_lead_to_standby
from adapters.sqlite import SqliteDatabase
from cli.check_result import CheckResult
from cli.planning import plan_of, unknown_tables
from cli.service_checks import service_checks
from cli.stream_checks import stream_checks
from cli.wiring import open_source, open_target, target_url
from ops.config import Config
from schemas.errors import Code, ConfigError, TailraceError
from schemas.introspect import introspect
from schemas.names import quote

_NETWORK = frozenset({"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "afs", "ceph", "glusterfs"})
SPACE_FACTOR = 3
QUICK_BYTES = 1 << 30
"""Up to this size quick_check is run without being asked for: a second or two."""

_LAZY = "SELECT name FROM pg_settings WHERE name IN ('fsync', 'full_page_writes') AND setting = 'off' ORDER BY name"


def run_checks(config: Config, *, deep: bool = False) -> list[CheckResult]:
    """All findings, sources first; an unreachable side is a finding, not an exception."""
    return source_checks(config, deep=deep) + stream_checks(config) + service_checks(config) + _target(config)


def source_checks(config: Config, *, deep: bool = False) -> list[CheckResult]:
    """Findings of the SQLite side alone."""
    results: list[CheckResult] = []
    for name in config.source_databases:
        try:
            db = open_source(config, name)
        except TailraceError as error:
            results.append(CheckResult(f"{name} opens", "refused", error.message, error.hint))
            continue
        try:
            results += _source(config, name, db, deep=deep)
        except TailraceError as error:
            results.append(CheckResult(f"{name} reads", "refused", error.message, _why(db.path, error)))
        finally:
            db.close()
    # A table that was dropped since leaves its name in exclude_tables, which harms nobody.
    return results if any(one.verdict == "refused" for one in results) else results + _named_tables(config)


def _named_tables(config: Config) -> list[CheckResult]:
    return [
        CheckResult(name, "refused" if name.startswith("include") else "warning", "no source has it", hint)
        for name, hint in unknown_tables(config).items()
    ]


def _source(config: Config, name: str, db: SqliteDatabase, *, deep: bool) -> list[CheckResult]:
    results = [CheckResult(f"{name} opens", "ok", f"{db.path}, SQLite {db.version} here")]
    mode = db.rows("PRAGMA journal_mode")[0][0]
    if mode == "wal":
        results.append(CheckResult(f"{name} journal mode", "ok", "WAL: readers never block the writer"))
    else:
        text = f"{mode}: a reader blocks the writer while it reads; `up` switches to WAL (persistent)"
        results.append(
            CheckResult(f"{name} journal mode", "warning", text, "tailrace up --keep-journal-mode leaves it")
        )
    kind = _file_system(Path(db.path))
    if kind in _NETWORK:
        text = f"{kind} is a network file system: SQLite's locks do not hold there"
        results.append(CheckResult(f"{name} file system", "refused", text, "move the file to a local disk"))
    else:
        results.append(CheckResult(f"{name} file system", "ok", kind or "local"))
    size = Path(db.path).stat().st_size
    free = shutil.disk_usage(Path(db.path).parent).free
    verdict = "ok" if free >= SPACE_FACTOR * size else "warning"
    results.append(
        CheckResult(
            f"{name} disk space", verdict, f"{free:,} bytes free, {SPACE_FACTOR} x {size:,} wanted (backup, log)"
        )
    )
    synchronous = db.rows("PRAGMA synchronous")[0][0]
    if synchronous == 0:
        results.append(
            CheckResult(f"{name} synchronous", "refused", "OFF: a power loss corrupts the file", "use NORMAL")
        )
    results += _files(name, Path(db.path))
    results += _policies(config, name)
    unreadable = _tables(config, name, db)
    # SQLite's own check stops at what it cannot compare, too: it would only hide the names.
    return results + (unreadable or _integrity(name, db, deep=deep))


def _why(path: str, error: TailraceError) -> str:
    """What keeps a file from being read, where it can be told."""
    if error.code is Code.SOURCE_BUSY:
        return "a connection holds an exclusive lock: the application must not use PRAGMA locking_mode=EXCLUSIVE"
    with Path(path).open("rb") as file:
        plain = file.read(16) in (b"SQLite format 3\0", b"")
    if error.code is Code.SOURCE_CORRUPT and not plain:
        return "encrypted (SQLCipher, SEE) or no SQLite database at all: only a plain file can be captured"
    return error.hint


def _files(name: str, path: Path) -> list[CheckResult]:
    """Whoever opens a WAL database first makes its -wal and -shm: as another user we would shut the application out."""
    owner, us = path.stat().st_uid, os.geteuid()
    if us not in (0, owner):
        text = (
            f"the file belongs to uid {owner}, this is uid {us}: -wal and -shm made by one may not open for the other"
        )
        return [CheckResult(f"{name} owner", "refused", text, "run Tailrace as the application's user")]
    if not os.access(path, os.W_OK):
        return [CheckResult(f"{name} file", "refused", f"{path} is read-only: the triggers go into it", "chmod u+w")]
    if not os.access(path.parent, os.W_OK):
        text = f"{path.parent} is not writable: -wal, -shm and the lock file go there"
        return [CheckResult(f"{name} folder", "refused", text, "run Tailrace as the application's user")]
    return [CheckResult(f"{name} owner", "ok", f"uid {owner}")]


def _tables(config: Config, name: str, db: SqliteDatabase) -> list[CheckResult]:
    """Reads one row of every table in the order of its key: a collation or a function that only the application
    registers fails here, and not in the middle of the copy."""
    results = []
    with db.read_view():
        for table in introspect(db).tables.values():
            if not config.wants(table.name):
                continue
            declared = sorted((c for c in table.columns if c.pk_position), key=lambda c: c.pk_position)
            keys = ", ".join(quote(column.name) for column in declared)
            order = f" ORDER BY {keys}" if keys else ""
            try:
                db.rows(f"SELECT * FROM {quote(table.name)}{order} LIMIT 1")
            except TailraceError as error:
                hint = "a collation or function of the application: exclude_tables, or change the column"
                results.append(CheckResult(f"{name}.{table.name}", "refused", error.message, hint))
    return results


def _integrity(name: str, db: SqliteDatabase, *, deep: bool) -> list[CheckResult]:
    if not deep and Path(db.path).stat().st_size > QUICK_BYTES:
        text = f"not looked at: above {QUICK_BYTES:,} bytes only with --deep"
        return [CheckResult(f"{name} integrity", "warning", text, "tailrace check --deep")]
    damage = db.damage(deep=deep)
    results = [
        CheckResult(f"{name} integrity", "refused", "; ".join(damage), "repair the file before moving it")
        if damage
        else CheckResult(f"{name} integrity", "ok", "integrity_check" if deep else "quick_check")
    ]
    if not deep:
        return results
    orphans = db.rows("PRAGMA foreign_key_check")
    tables = sorted({row[0] for row in orphans})
    results.append(
        CheckResult(f"{name} foreign keys", "ok", "no orphans")
        if not orphans
        else CheckResult(f"{name} foreign keys", "warning", f"{len(orphans)} orphans in {', '.join(tables)}")
    )
    return results


def _file_system(path: Path) -> str:
    """Type of the file system that holds the path, empty where the system does not tell."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return ""
    best, kind = "", ""
    for line in mounts.read_text().splitlines():
        parts = line.split()
        point = parts[1].replace("\\040", " ")
        if str(path).startswith(point.rstrip("/") + "/") and len(point) > len(best):
            best, kind = point, parts[2]
    return kind


def _policies(config: Config, name: str) -> list[CheckResult]:
    """Orders that the values there are would not survive. Without any, nothing is read."""
    if not config.columns and config.on_mixed != "refuse":
        return []
    try:
        refused = plan_of(config, name).refused
    except ConfigError as error:
        return [CheckResult(f"{name} policies", "refused", error.message, error.hint)]
    text = "; ".join(
        f"{table}.{column}: {why}" for table, columns in refused.items() for column, why in columns.items()
    )
    hint = "another type or policy (docs/policies.md), or exclude_tables"
    return [CheckResult(f"{name} policies", "refused" if text else "ok", text or "the values survive them", hint)]


def _target(config: Config) -> list[CheckResult]:
    try:
        target = open_target(config, "check")
    except TailraceError as error:
        return [CheckResult("target", "refused", error.message, error.hint)]
    try:
        version = target.server_version
        results = [CheckResult("target connects", "ok", f"PostgreSQL {version // 10000}.{version % 10000}")]
        if may_lead_to_standby(connection_parameters(target_url(config))):
            text = "the URL names several hosts and may lead to a standby, which takes no writes"
            results.append(CheckResult("target hosts", "refused", text, "end it in ?target_session_attrs=read-write"))
        if version < 120000:
            results.append(CheckResult("target version", "refused", "PostgreSQL 12 or newer is needed", "upgrade"))
        target.refuse_pooler()
        encoding = target.rows("SHOW server_encoding")[0][0]
        if encoding != "UTF8":
            results.append(CheckResult("target encoding", "refused", f"{encoding}: UTF8 is needed", "createdb -E UTF8"))
        lazy = [name for (name,) in target.rows(_LAZY)]
        if lazy:
            text = f"{' and '.join(lazy)} off: a power loss there can damage the database or take the switch back"
            results.append(CheckResult("target durability", "warning", text, "turn them on before the cutover"))
        may_create = target.rows("SELECT has_database_privilege(current_database(), 'CREATE')")[0][0]
        prepared = target.rows("SELECT to_regnamespace('tailrace') IS NOT NULL")[0][0]
        if not may_create and not prepared:
            text = "the role may not create schemas, and schema tailrace is not there"
            results.append(
                CheckResult("target permission", "refused", text, "run what `tailrace plan --grants` prints")
            )
        else:
            results.append(CheckResult("target permission", "ok", "the role can create what is needed"))
        if target.rows("SELECT rolsuper FROM pg_roles WHERE rolname = session_user")[0][0]:
            text = "the role is a superuser: more than is needed"
            results.append(CheckResult("target role", "warning", text, "see tailrace plan --grants"))
        return results
    except TailraceError as error:
        return [CheckResult("target connects", "refused", error.message, error.hint)]
    finally:
        target.close()
