"""The lock of one capture per database: named, freed by the kernel, waited for where its holder is about to go."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from adapters.filelock import FileLock
from schemas.errors import Code, Refusal


def test_a_second_one_refuses_and_names_the_first(tmp_path: Path) -> None:
    first, second = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    first.take()
    with pytest.raises(Refusal, match=f"pid {os.getpid()}") as refused:
        second.take(source="app")
    assert Code.CAPTURE_LOCKED == refused.value.code


def test_the_capture_of_a_killed_up_is_waited_for(tmp_path: Path) -> None:
    """It needs a moment to see that it is alone; the next up's capture refused meanwhile, and with it the whole up."""
    orphan, next_one = FileLock(tmp_path / "lock"), FileLock(tmp_path / "lock")
    orphan.take()
    gone = threading.Timer(0.4, orphan.release)
    gone.start()
    next_one.take(wait_s=30.0)
    gone.join()
    with pytest.raises(Refusal):
        orphan.take()
