"""What systemd is told, read from a socket as systemd reads it."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from ops.notify import Notifier


@pytest.fixture
def heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listening


def test_a_life(heard: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    notifier = Notifier(step_s=900)
    notifier.ready("sink of cases")
    assert f"READY=1\nMAINPID={os.getpid()}\nSTATUS=sink of cases\nWATCHDOG_USEC=900000000" == heard.recv(999).decode()
    notifier.alive("1 at work")
    assert b"WATCHDOG=1\nSTATUS=1 at work" == heard.recv(999)
    notifier.reloading()
    assert heard.recv(999).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    notifier.stopping()
    assert b"STOPPING=1" == heard.recv(999)


def test_a_shorter_step_leaves_the_watchdog_of_the_unit(heard: socket.socket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    Notifier(step_s=60).ready("x")
    assert b"WATCHDOG_USEC" not in heard.recv(999)


def test_without_a_watchdog_only_the_status_goes(heard: socket.socket) -> None:
    Notifier(step_s=60).alive("x")
    assert b"STATUS=x" == heard.recv(999)


def test_nobody_listens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "nowhere"))
    Notifier(step_s=60).ready("x")
    monkeypatch.delenv("NOTIFY_SOCKET")
    Notifier(step_s=60).stopping()
