"""Do: a throw-away Kafka broker on loopback (KRaft, one node), from a folder with the jars of Kafka's own distribution.

Invariant: nothing outside its own folder is changed; the data survive `stop` and `kill`, as a broker's do. A broker whose
parent was killed is shut down by the next one of its folder (test_the_broker_of_a_killed_demo_is_shut_down).
"""

from __future__ import annotations

import base64
import contextlib
import os
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Mapping
from pathlib import Path

from embedded.child import Child, free_port, tail
from embedded.postgres import arguments_of
from schemas.errors import Code, Failed, Refusal

VERSION = "4.3.0"
"""Of the jars; tests/tools/services.sh reads it here."""
START_S = 60.0
STOP_S = 30.0
PID_FILE = "broker.pid"


def absent(jars: Path) -> str:
    """What a broker lacks to run here; empty: nothing."""
    if shutil.which("java") is None:
        return "no Java 17 or newer is installed"
    return "" if any(jars.glob("kafka_*.jar")) else f"the jars of Kafka are not in {jars}"


class EmbeddedKafka(Child):
    """One broker in one folder.

    Args:
        folder: configuration and data live here.
        jars: folder with the jars of kafka_2.13, kafka-tools and a log4j binding (tests/tools/services.sh fetches them).
        settings: lines of server.properties, over the defaults.
        secured: further listeners with TLS and a login by SCRAM-SHA-512: name (capitals) -> PEM file with the key and the
            certificate. They are advertised as localhost; `ports` tells where. Users are made over the plain listener.
    """

    def __init__(
        self,
        folder: Path,
        *,
        jars: Path,
        settings: dict[str, str] | None = None,
        secured: Mapping[str, Path] | None = None,
    ) -> None:
        super().__init__(folder, stop_s=STOP_S)
        self._secured = dict(secured or {})
        self.ports: dict[str, int] = {}
        self._jars = jars
        self._settings = settings or {}
        self._controller_port = 0

    def start(self) -> str:
        """Start and return host:port. Raises Refusal(PACKAGE_MISSING) without Java or the jars."""
        if lacking := absent(self._jars):
            raise Refusal(
                Code.PACKAGE_MISSING, lacking, hint="install a Java runtime and run tests/tools/services.sh kafka"
            )
        self._folder.mkdir(parents=True, exist_ok=True)
        end_orphan(self._folder)
        self.port = self.port or free_port()
        self._controller_port = self._controller_port or free_port()
        self.ports = {name: self.ports.get(name) or free_port() for name in self._secured}
        properties = self._folder / "server.properties"
        properties.write_text("".join(f"{name}={value}\n" for name, value in self._all_settings().items()))
        if not (self._folder / "data" / "meta.properties").exists():
            # Beside its option: one in sixty-four begins with a dash.
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            done = subprocess.run(
                self._java(
                    "256m", "kafka.tools.StorageTool", "format", f"--cluster-id={cluster}", "-c", str(properties)
                ),
                capture_output=True,
                check=False,
            )
            if done.returncode:
                raise Failed(Code.STREAM_IO, f"formatting failed: {tail(done.stderr)}", hint="is the folder writable?")
        self._launch(self._java("512m", "kafka.Kafka", str(properties)))
        (self._folder / PID_FILE).write_text(str(self.pid))
        if not self._listens(within_s=START_S):
            said = self._said()
            self.kill()
            raise Failed(Code.STREAM_IO, f"the embedded Kafka did not start: {said}", hint="see server.log")
        return f"127.0.0.1:{self.port}"

    def _all_settings(self) -> dict[str, str]:
        secured = [f"{name}://localhost:{port}" for name, port in self.ports.items()]
        plain = f"PLAINTEXT://127.0.0.1:{self.port}"
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self._controller_port}",
            "listeners": ",".join([plain, f"CONTROLLER://127.0.0.1:{self._controller_port}", *secured]),
            "advertised.listeners": ",".join([plain, *secured]),
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self._folder / "data"),
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A topic of ours sets its own limit, up to this.
            "message.max.bytes": str(64 << 20),
            "socket.request.max.bytes": str(128 << 20),
            **self._secured_settings(),
            **self._settings,
        }

    def _secured_settings(self) -> dict[str, str]:
        if not self._secured:
            return {}
        kinds = ["PLAINTEXT:PLAINTEXT", "CONTROLLER:PLAINTEXT", *(f"{name}:SASL_SSL" for name in self._secured)]
        settings = {
            "listener.security.protocol.map": ",".join(kinds),
            "inter.broker.listener.name": "PLAINTEXT",
            "sasl.enabled.mechanisms": "SCRAM-SHA-512",
        }
        for name, pem in self._secured.items():
            base = f"listener.name.{name.lower()}"
            settings |= {
                f"{base}.ssl.keystore.type": "PEM",
                f"{base}.ssl.keystore.location": str(pem),
                f"{base}.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
            }
        return settings

    def _java(self, memory: str, main: str, *arguments: str) -> list[str]:
        options = [f"-Xmx{memory}", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN"]
        return ["java", *options, "-cp", f"{self._jars}/*", main, *arguments]


def end_orphan(folder: Path) -> None:
    """A broker of this folder whose parent was killed is shut down; a pid that is another process's by now is let be."""
    with contextlib.suppress(OSError, ValueError):
        pid = int((folder / PID_FILE).read_text())
        if str(folder / "server.properties") not in arguments_of(pid):
            return
        os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_S
        while arguments_of(pid) and time.monotonic() < deadline:
            time.sleep(0.05)
