"""Do: the health file of a daemon, and what it says to whoever looks.

Written between two steps, at most once a second, so that its age is the time the present step takes. Invariant: a file is
replaced as a whole, and one that says too little (no process, too old, a time nobody knows) is never read as healthy.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

FOLDER = "health"
STEP_S = {"capture": 60.0, "sink": 15 * 60.0, "snapshot": 12 * 3600.0, "serve": 60.0}
"""How long one step may take: acknowledgements; a cut of 200,000 rows and PostgreSQL's statement time-out; an index."""
FAILING_S = 30.0
"""A step that fails is tried again; a failure that stays longer than this is no hiccup."""
LITTER_S = 24 * 3600.0


@dataclass(slots=True)
class StepperHealth:
    """One stepper. Stamps are wall-clock ms; 0: not yet."""

    state: str = "starting"
    step_at_ms: int = 0
    moved_at_ms: int = 0
    failures: int = 0
    failing_since_ms: int = 0
    error_code: str = ""


@dataclass(slots=True)
class Health:
    """One daemon, as its file says it."""

    process: str
    state: str = "starting"
    pid: int = 0
    host: str = ""
    started_at_ms: int = 0
    at_ms: int = 0
    steppers: dict[str, StepperHealth] = field(default_factory=dict)


class HealthFile:
    """The file of this process in `folder`; several daemons share the folder."""

    def __init__(self, folder: Path, process: str) -> None:
        self.health = Health(process, pid=os.getpid(), host=os.uname().nodename, started_at_ms=_now_ms())
        self._path = folder / f"{process}@{self.health.host}-{self.health.pid}.json"

    def open(self) -> None:
        """The first write; files of processes that are gone go, too. Raises OSError where nothing can be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for path, other in _read(self._path.parent):
            litter = _now_ms() - int(other.get("at_ms", 0)) > LITTER_S * 1000
            dead = other.get("host") == self.health.host and not _alive(other.get("pid"))
            if litter or (dead and other.get("process") == self.health.process):
                path.unlink(missing_ok=True)
        self._write("starting")

    def write(self, state: str) -> None:
        """A sign that cannot be written now (the disk is full) is an old sign, and its age is what `look` judges: no reason
        to end what may go on (test_under_everything)."""
        with contextlib.suppress(OSError):
            self._write(state)

    def _write(self, state: str) -> None:
        self.health.state = state
        self.health.at_ms = _now_ms()
        whole = self._path.with_suffix(f".{self.health.pid}.tmp")
        whole.write_text(json.dumps(asdict(self.health)), encoding="utf-8")
        whole.replace(self._path)

    def close(self) -> None:
        """After a clean stop nothing is left to look at."""
        self._path.unlink(missing_ok=True)


def look(folder: Path, processes: Sequence[str], *, max_age_s: float | None) -> list[dict[str, Any]]:
    """What the daemons of this host say of themselves, each with `reasons` (none: healthy), `age_seconds`, `healthy`.

    Args:
        processes: which ones must run; empty: whatever has a file, and at least one.
        max_age_s: bound for the age of the last sign and of a failure; None: the bounds above.
    """
    host = os.uname().nodename
    found = [one for _, one in _read(folder) if one.get("host") == host]
    chosen = [one for one in found if not processes or one.get("process") in processes]
    now_ms = _now_ms()
    result = []
    for one in chosen:
        reasons = reasons_of(one, now_ms=now_ms, alive=_alive(one.get("pid")), max_age_s=max_age_s)
        age_s = (now_ms - int(one.get("at_ms", 0))) / 1000
        result.append({**one, "age_seconds": age_s, "healthy": not reasons, "reasons": reasons})
    missing = [name for name in processes if name not in {one.get("process") for one in chosen}]
    for name in missing:
        result.append({"process": name, "healthy": False, "age_seconds": None, "reasons": ["does not run here"]})
    if not result:
        result.append({"process": "daemons", "healthy": False, "age_seconds": None, "reasons": ["none runs here"]})
    return result


def reasons_of(one: dict[str, Any], *, now_ms: int, alive: bool, max_age_s: float | None) -> list[str]:
    """Why this daemon is not healthy; pure."""
    reasons = []
    if not alive:
        reasons.append(f"process {one.get('pid')} is gone")
    bound_s = STEP_S.get(str(one.get("process")), FAILING_S) if max_age_s is None else max_age_s
    age_s = (now_ms - int(one.get("at_ms", 0))) / 1000
    if age_s > bound_s:
        reasons.append(f"no step has ended for {age_s:.0f} s")
    if one.get("state") not in ("running", "reloading"):
        reasons.append(f"it is {one.get('state')}")
    for name, stepper in (one.get("steppers") or {}).items():
        since_ms = int(stepper.get("failing_since_ms", 0))
        failing_s = (now_ms - since_ms) / 1000
        if since_ms and failing_s > (FAILING_S if max_age_s is None else max_age_s):
            reasons.append(f"{name} has been failing for {failing_s:.0f} s with {stepper.get('error_code')}")
    return reasons


def _read(folder: Path) -> list[tuple[Path, dict[str, Any]]]:
    found = []
    for path in sorted(folder.glob("*.json")):
        try:
            one = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            continue  # its daemon ended meanwhile
        except ValueError:
            one = {"process": path.name.partition("@")[0], "state": "unreadable", "host": os.uname().nodename}
        found.append((path, one))
    return found


def _alive(pid: object) -> bool:
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True  # another user's, and there
    return True


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
