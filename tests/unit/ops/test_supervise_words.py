"""A child that dies before its log is open is not started again and again without a reason."""

from __future__ import annotations

import sys
import time

from ops.supervise import Child, Supervisor


def test_a_child_that_dies_early_says_why() -> None:
    supervisor = Supervisor([Child("capture", [sys.executable, "-c", "import no_such_package_of_ours"])])
    supervisor.start()
    lines: list[str] = []
    deadline = time.monotonic() + 30
    while not lines and time.monotonic() < deadline:
        lines = supervisor.look()
        time.sleep(0.01)
    supervisor.stop()
    assert 1 == len(lines)
    assert "capture ended with 1" in lines[0]
    assert "No module named 'no_such_package_of_ours'" in lines[0]
