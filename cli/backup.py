"""Do: backups of the sources through SQLite's backup API, and of the target through pg_dump; each beside its SHA-256.

Invariant: what is called a backup was read back: a copy that does not is an error, not a file with a good name.
"""

from __future__ import annotations

import hashlib
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from adapters.postgres_dump import dump
from adapters.sqlite import SqliteDatabase
from cli.wiring import open_source, target_url
from ops.config import Config
from ops.telemetry import Telemetry
from schemas.errors import Code, Failed


@dataclass(frozen=True, slots=True)
class Backup:
    """`line`: what is said of it."""

    path: Path
    digest: str
    line: str


def backup_source(config: Config, name: str, events: Telemetry, *, kind: str = "") -> Backup:
    """One backup, read back and hashed. `kind`: begins its name, where it must not pass for a backup of the present."""
    folder = config.path(config.backup_folder)
    folder.mkdir(parents=True, exist_ok=True)
    source = open_source(config, name)
    try:
        path = _fresh(folder, f"{kind}{name}", ".db")
        size = Path(source.path).stat().st_size
        if shutil.disk_usage(folder).free < size * 2:
            raise Failed(
                Code.BACKUP_FAILED,
                f"{folder} has no room for a backup of {size:,} bytes",
                source=name,
                hint="free space, set backup_folder, or say --no-backup",
            )
        source.backup(path)
    finally:
        source.close()
    path.chmod(0o600)
    digest = digest_of(path)
    copy = SqliteDatabase(path, read_only=True)
    try:
        damage = copy.damage()
    finally:
        copy.close()
    if damage:
        raise Failed(
            Code.BACKUP_FAILED,
            f"the backup does not read back: {'; '.join(damage)}",
            source=name,
            hint="tailrace check --deep",
        )
    return _made(path, digest, name, "read back ok, ", events)


def backup_target(config: Config, events: Telemetry, *, kind: str = "") -> Backup:
    """The whole database of the target. Raises Refusal(PACKAGE_MISSING | BACKUP_FAILED) where no pg_dump fits."""
    folder = config.path(config.backup_folder)
    folder.mkdir(parents=True, exist_ok=True)
    path = _fresh(folder, f"{kind}tailrace-target", ".dump")
    dump(target_url(config), path, role=config.target_role)
    return _made(path, digest_of(path), "target", "", events)


def _made(path: Path, digest: str, name: str, proof: str, events: Telemetry) -> Backup:
    path.with_suffix(".sha256").write_text(f"{digest}  {path.name}\n")
    events.event("backup.made", f"{name}: {path.name} sha256 {digest}")
    line = f"backup of {name}: {path.name}, {path.stat().st_size:,} bytes, {proof}sha256 {digest[:16]}.."
    return Backup(path, digest, line)


def _fresh(folder: Path, name: str, ending: str) -> Path:
    """Two of one second would be one file, and a checkpoint would name a backup that is another's."""
    while (path := folder / f"{name}_{time.strftime('%Y%m%d_%H%M%S', time.gmtime())}{ending}").exists():
        time.sleep(0.05)
    return path


def written_digest(path: Path) -> str:
    """What stands beside a backup; empty: nothing does."""
    beside = path.with_suffix(".sha256")
    return beside.read_text(encoding="utf-8").partition(" ")[0] if beside.is_file() else ""


def digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
