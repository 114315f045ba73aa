"""Do: a backup of a PostgreSQL database by its own pg_dump, in one snapshot.

Invariant: no secret is in an argument: libpq's parameters travel in the environment of the child.
pg_dump refuses a server that is newer than itself; that is told, never worked around: an older one may leave things out.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from adapters.postgres_connect import as_environment, connection_parameters, without_secrets
from schemas.errors import Code, Failed, Refusal

_HINT = "a pg_dump of the server's version or later in PATH, or leave --backup-target out"


def dump_tool() -> str:
    """Raises Refusal(PACKAGE_MISSING)."""
    found = shutil.which("pg_dump")
    if found is None:
        raise Refusal(Code.PACKAGE_MISSING, "pg_dump is not in PATH: the target cannot be backed up", hint=_HINT)
    return found


def dump(url: str, path: Path, *, role: str = "") -> None:
    """Write the whole database in pg_restore's custom format. Takes as long as it takes; nobody waits for it."""
    parameters = connection_parameters(url)
    command = [dump_tool(), "--format=custom", "--no-password", f"--file={path}", *([f"--role={role}"] if role else [])]
    done = subprocess.run(
        command,
        env={**os.environ, **as_environment(parameters)},
        capture_output=True,
        text=True,
        check=False,
        umask=0o077,
    )
    if done.returncode == 0:
        return
    path.unlink(missing_ok=True)
    told = without_secrets(" ".join(done.stderr.split()), parameters)
    if "version mismatch" in told:
        raise Refusal(Code.BACKUP_FAILED, f"pg_dump is older than the server: {told[:300]}", hint=_HINT)
    raise Failed(Code.BACKUP_FAILED, f"pg_dump ended with {done.returncode}: {told[:300]}", hint="tailrace check")
