"""Do: hand this process's counts to Tailrace: a file in the run folder of the migration, or whatever a callable does.

Invariant: called from the router's own thread, never from a request; what fails here is counted and tried again with the
next, complete document.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Callable, Protocol


class ReportSink(Protocol):
    """Takes the whole recent state of one instance, every few seconds."""

    def send(self, instance: str, document: str) -> None:
        """May be called again with the same; raises whatever is in the way."""

    def gone(self, instance: str) -> None:
        """The instance ended as it should: nobody needs to wait for its next sign."""


class FolderReports:
    """A file for each instance, replaced whole. Tailrace looks into `router/` of its run folder."""

    def __init__(self, folder: str | Path) -> None:
        self._folder = Path(folder)

    def send(self, instance: str, document: str) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._path(instance)
        whole = path.with_suffix(".tmp")
        whole.write_text(document, encoding="utf-8")
        whole.replace(path)

    def gone(self, instance: str) -> None:
        path = self._path(instance)
        if path.exists():
            path.unlink()

    def _path(self, instance: str) -> Path:
        return self._folder / f"{re.sub(r'[^A-Za-z0-9_.-]', '_', instance)}.json"


class CallableReports:
    """`tell(instance, document)`; an instance that ended is told with an empty document."""

    def __init__(self, tell: Callable[[str, str], object]) -> None:
        self._tell = tell

    def send(self, instance: str, document: str) -> None:
        self._tell(instance, document)

    def gone(self, instance: str) -> None:
        self._tell(instance, "")
