"""Do: named points at which a test stops, kills or pauses the process (instrumented runs); free in production.

`TAILRACE_AT="sink.after_commit=kill"` or `=pause` or `=kill:3` (the third time). Reading the environment once at
import keeps the cost of `reach` at one dictionary test.
"""

from __future__ import annotations

import os
import signal

_armed: dict[str, list[str | int]] = {}
for _part in filter(None, os.environ.get("TAILRACE_AT", "").split(",")):
    _name, _, _action = _part.partition("=")
    _verb, _, _count = (_action or "kill").partition(":")
    _armed[_name] = [_verb, int(_count or 1)]


def reach(name: str) -> None:
    """Say that the process stands at this point. Points are named `<folder>.<where>`."""
    if _armed and name in _armed:
        _fire(name)


def _fire(name: str) -> None:
    verb, left = _armed[name]
    if isinstance(left, int) and left > 1:
        _armed[name][1] = left - 1
        return
    del _armed[name]
    os.kill(os.getpid(), signal.SIGKILL if verb == "kill" else signal.SIGSTOP)
