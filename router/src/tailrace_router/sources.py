"""Do: read the route where it is published: a file that is replaced whole, or whatever a callable gives.

Invariant: a source either gives a route or raises; None means: the same as last time. Nothing here decides which of
several is the newest.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Protocol

from tailrace_router.route import Route, parse


class RouteSource(Protocol):
    """One place where routes are published. Called from one thread at a time, a few times a second."""

    @property
    def name(self) -> str:
        """For the state that the router tells; no secrets."""

    def read(self) -> Route | None:
        """The route, or None where nothing changed since the last call. Raises whatever is in the way."""


class FileRoute:
    """`route.json` in the run folder of Tailrace. It is replaced, never written into, so what is read is always whole."""

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._seen: tuple[int, int, int] | None = None

    @property
    def name(self) -> str:
        return f"file {self._path}"

    def read(self) -> Route | None:
        with self._path.open("rb") as file:
            found = os.fstat(file.fileno())
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
            if seen == self._seen:
                return None
            route = parse(file.read())
        self._seen = seen
        return route


class CallableRoute:
    """A function that gives the document: its text, a mapping, or None where there is nothing new."""

    def __init__(self, ask: Callable[[], str | bytes | Mapping[str, Any] | None], *, name: str = "callable") -> None:
        self._ask = ask
        self._name = name

    @property
    def name(self) -> str:
        return self._name

    def read(self) -> Route | None:
        found = self._ask()
        return None if found is None else parse(found)
