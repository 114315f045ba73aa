"""Do: a whole migration there and back in a process whose syncs tests/faults/synced.c watches; at every named point it keeps
what the disk would hold after a power loss, and says at the end what was acknowledged before which point.

    LD_PRELOAD=synced.so SYNCED_OF=DATA SYNCED_TO=DISK python -m tests.faults.synced FOLDER MODE GROUPS   (URL in $SYNCED_URL)
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

from cutover.rollback import Rollback, RollbackSettings
from cutover.source_fence import Group, SourceFence
from cutover.switch import Switch, SwitchSettings
from ops import points
from tests.cutover_rig import FILLED, Rig, application, begun


class Everywhere(dict[str, list[str | int]]):
    """Every point is armed."""

    def __contains__(self, name: object) -> bool:
        return True

    def __bool__(self) -> bool:
        return True


class Kept:
    """A disk at each point, in order."""

    def __init__(self, rig: Rig, folder: Path, disk: Path) -> None:
        self._rig = rig
        self._folder = folder
        self._disk = disk
        self.told: list[dict[str, object]] = []

    def keep(self, name: str) -> None:
        at = self._folder / f"{len(self.told):03d}"
        shutil.copytree(self._disk, at)
        self.told.append({"point": name, "disk": str(at), "rows": {name: self._rows(name) for name in self._rig.sides}})

    def _rows(self, source: str) -> list[int]:
        return [row[0] for row in self._rig.source_rows(source, "SELECT id FROM t ORDER BY id")]  # type: ignore[misc]


def _one_by_one(rig: Rig) -> SourceFence:
    """A connection for each file, as beyond ten sources."""
    return SourceFence([Group(rig.sqlite(side.path), {name: "main"}) for name, side in sorted(rig.sides.items())])


def main(folder: Path, mode: str, groups: str) -> None:
    data, disk = Path(os.environ["SYNCED_OF"]), Path(os.environ["SYNCED_TO"])
    with begun(Rig(data, os.environ["SYNCED_URL"], journal_mode=mode), FILLED) as rig:
        kept = Kept(rig, folder / "kept", disk)
        for side in rig.sides.values():
            side.app.run("PRAGMA synchronous = NORMAL")
            side.app.run("INSERT INTO t VALUES (3, 'acknowledged, and synced by nobody', NULL)")
        points._armed = Everywhere()
        points._fire = kept.keep
        rig.settle()
        kept.keep("followed")
        for side in rig.sides.values():
            side.app.run("INSERT INTO t VALUES (4, 'acknowledged, and synced by nobody', NULL)")
        fence = rig.fence() if groups == "attached" else _one_by_one(rig)
        guard = rig.guard()
        switch = Switch(rig.row, fence, guard, rig.clock, SwitchSettings(lease_s=60), tables=rig.tables, look=rig.look)
        switch.run(rig.row.read())
        app = application(rig)
        for name in rig.sides:
            app.run(f"INSERT INTO {name}.t VALUES (10, 'written there', NULL)")
        rollback = Rollback(
            rig.target, rig.row, fence, guard, rig.clock, RollbackSettings(lease_s=60), look_back=rig.look_back
        )
        rollback.run(reason="power")
        kept.keep("lifted")
        points._armed = {}
    print(json.dumps(kept.told))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3])
