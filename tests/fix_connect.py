"""Do: Kafka Connect, one worker in one process, with the Debezium JDBC sink and Apicurio's Avro converter."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest

CACHE = Path(__file__).resolve().parent.parent / ".cache"
RUNTIME = CACHE / "connect-4.3.0"
PLUGINS = (CACHE / "debezium-jdbc-3.6.0" / "debezium-connector-jdbc", CACHE / "apicurio-converter-2.6.13")
ARRIVE_S = 90.0


class JdbcSink:
    """Writes the rows of topics into tables that are there and are named like the topics.

    Args:
        registry: address of Apicurio, without a path.
        target: URL of the PostgreSQL database.
        topics: pattern, as a properties file has it.
    """

    def __init__(self, folder: Path, *, kafka: str, registry: str, target: str, topics: str) -> None:
        for one in (RUNTIME, *PLUGINS):
            if shutil.which("java") is None or not one.exists():
                pytest.skip(f"no Java 17, or {one.name} is not in .cache (tests/tools/services.sh fetches it)")
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        plugins = folder / "plugins"
        plugins.mkdir(parents=True)
        for one in PLUGINS:
            (plugins / one.name).symlink_to(one)
        url = urlsplit(target)
        self._write(
            "worker",
            {
                "bootstrap.servers": kafka,
                "listeners": f"http://127.0.0.1:{_free_port()}",
                "plugin.path": str(plugins),
                "offset.storage.file.filename": str(folder / "offsets"),
                "offset.flush.interval.ms": "1000",
                "key.converter": "io.apicurio.registry.utils.converter.AvroConverter",
                "value.converter": "io.apicurio.registry.utils.converter.AvroConverter",
                **{
                    f"{side}.converter.apicurio.registry.{name}": value
                    for side in ("key", "value")
                    for name, value in {
                        "url": f"{registry}/apis/registry/v2",
                        "as-confluent": "true",
                        "use-id": "contentId",
                        "headers.enabled": "false",
                    }.items()
                },
            },
        )
        self._write(
            "sink",
            {
                "name": "sink",
                "connector.class": "io.debezium.connector.jdbc.JdbcSinkConnector",
                "tasks.max": "1",
                "topics.regex": topics,
                "connection.url": f"jdbc:postgresql://{url.hostname}:{url.port}{url.path}",
                "connection.username": url.username or "",
                "connection.password": url.password or "",
                "insert.mode": "upsert",
                "delete.enabled": "true",
                "primary.key.mode": "record_key",
                "schema.evolution": "none",
                "quote.identifiers": "true",
                "consumer.override.auto.offset.reset": "earliest",
            },
        )

    def _write(self, name: str, settings: dict[str, str]) -> None:
        text = "".join(f"{key}={value}\n" for key, value in settings.items())
        (self._folder / f"{name}.properties").write_text(text)

    def start(self) -> None:
        options = ["-Xmx512m", "-XX:TieredStopAtLevel=1", "-Dlog4j2.level=WARN", "-cp", f"{RUNTIME}/*"]
        files = [str(self._folder / f"{name}.properties") for name in ("worker", "sink")]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["java", *options, "org.apache.kafka.connect.cli.ConnectStandalone", *files], stdout=log, stderr=log
            )

    @property
    def _log(self) -> Path:
        return self._folder / "connect.log"

    def until(self, happened: Callable[[], bool]) -> None:
        deadline = time.monotonic() + ARRIVE_S
        while not happened():
            assert self._process is not None
            assert self._process.poll() is None, self._story()
            assert time.monotonic() < deadline, self._story()
            time.sleep(0.2)

    def _story(self) -> str:
        """The causes in the log, or its end."""
        lines = self._log.read_text().splitlines()
        return "\n".join([line for line in lines if "Caused by" in line or "ERROR" in line][-10:] or lines[-20:])

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=20)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
