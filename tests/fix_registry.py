"""Do: a real schema registry for tests: one from the environment, else Apicurio (Confluent's calls, in memory).

`TAILRACE_TEST_REGISTRY=URL` names the address of Confluent's calls of one that runs already.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

JAR = Path(__file__).resolve().parent.parent / ".cache" / "apicurio-3.0.9" / "apicurio-registry-app-3.0.9-runner.jar"
START_S = 90.0
CALLS = "/apis/ccompat/v7"


@pytest.fixture(scope="session")
def registry_url() -> Iterator[str]:
    """Address of Confluent's calls; skips by name without Java or the jar."""
    given = os.environ.get("TAILRACE_TEST_REGISTRY")
    if given:
        yield given
        return
    if shutil.which("java") is None or not JAR.exists():
        pytest.skip(f"no Java 17, or {JAR.name} is not in .cache (tests/tools/services.sh fetches it)")
    folder = Path(tempfile.mkdtemp(prefix="tailrace-registry-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = ["-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={port}"]
    options = ["-Xmx400m", "-XX:TieredStopAtLevel=1", *address]
    with (folder / "registry.log").open("ab") as log:
        process = subprocess.Popen(["java", *options, "-jar", str(JAR)], stdout=log, stderr=log, cwd=folder)
    url = f"http://127.0.0.1:{port}{CALLS}"
    try:
        _wait(url, process, folder / "registry.log")
        yield url
    finally:
        process.terminate()
        process.wait(timeout=30)
        shutil.rmtree(folder, ignore_errors=True)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while True:
        try:
            assert [] == ask(f"{url}/subjects")
            return
        except (OSError, ValueError):
            assert process.poll() is None, log.read_text()[-2000:]
            assert time.monotonic() < deadline, log.read_text()[-2000:]
            time.sleep(0.1)


def ask(url: str, *, method: str = "GET", body: object = None) -> Any:
    """The JSON answer of one call; a refused one raises urllib.error.HTTPError."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/vnd.schemaregistry.v1+json"}
    request = urllib.request.Request(url, method=method, data=data, headers=headers)
    with urllib.request.urlopen(request, timeout=10) as response:
        return json.loads(response.read())


def refusal(url: str, *, method: str = "GET", body: object = None) -> tuple[int, int]:
    """(status, error_code) of a call that is refused."""
    with pytest.raises(urllib.error.HTTPError) as caught:
        ask(url, method=method, body=body)
    with caught.value:
        return caught.value.code, json.loads(caught.value.read())["error_code"]
