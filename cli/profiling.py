"""Do: what `plan` keeps of a profile between two calls, and the bar that shows how far the scan is.

Invariant: a kept profile is used only while the file and its -wal are what they were, byte counts and times included: one
that is too old would promise what the values no longer keep.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from adapters.sqlite import SqliteDatabase
from schemas.model import Table
from schemas.profile import ColumnProfile, TableProfile

FORMAT = 1


class ProfileCache:
    """Profiles of one source, in one JSON file of the run folder. It holds counts, never values."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept: dict[str, Any] = {}
        self._moved = False
        if path.exists():
            try:
                self._kept = json.loads(path.read_text(encoding="utf-8"))
            except ValueError:
                self._kept = {}  # half written by a killed plan: as if there were none

    def state(self, db: SqliteDatabase) -> str:
        """Another text whenever anything may have been written into the file (schema version, data version)."""
        parts: list[object] = [FORMAT, db.schema_version()]
        # Looked at from outside: a descriptor of the file that is closed would drop SQLite's own locks on it.
        for path in (db.path, f"{db.path}-wal"):
            try:
                found = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                continue
            parts += [found.st_ino, found.st_size, found.st_mtime_ns]
        return json.dumps(parts)

    def find(self, table: Table, state: str, asked: object) -> TableProfile | None:
        one = self._kept.get(table.name)
        if one is None or one["state"] != state or one["asked"] != json.dumps(asked):
            return None
        return TableProfile(one["rows"], {name: ColumnProfile(**found) for name, found in one["columns"].items()})

    def keep(self, table: Table, state: str, asked: object, profile: TableProfile) -> None:
        columns = {name: asdict(found) for name, found in profile.columns.items()}
        entry = {"state": state, "asked": json.dumps(asked), "rows": profile.rows, "columns": columns}
        self._moved |= self._kept.get(table.name) != entry
        self._kept[table.name] = entry

    def save(self) -> None:
        if self._moved:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._path.write_text(json.dumps(self._kept), encoding="utf-8")


class ProfileBar:
    """One line a table while its rows are read."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    def table(self, source: str, table: str) -> Callable[[int, int], None]:
        """(rows read, rows expected) of one table."""
        task = self._progress.add_task(f"{source}.{table}", total=None)

        def said(rows: int, expected: int) -> None:
            self._progress.update(task, completed=rows, total=max(rows, expected, 1))

        return said


@contextmanager
def profile_bar() -> Iterator[ProfileBar | None]:
    """On a terminal only; the plan itself is the one thing on stdout."""
    if not sys.stderr.isatty():
        yield None
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f} rows"),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        yield ProfileBar(progress)
