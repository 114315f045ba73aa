"""compose/ and the units: against the schemas and tools that others use, and against each other and the code."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from embedded.kafka import VERSION
from ops.config import load

ROOT = Path(__file__).resolve().parent.parent.parent
COMPOSE = ROOT / "compose"
DAEMONS = ("capture", "snapshot", "sink")


def _compose() -> dict[str, Any]:
    document = YAML(typ="safe").load((COMPOSE / "compose.yaml").read_text())
    assert isinstance(document, dict)
    return document


@pytest.mark.parametrize(
    ("schema", "file"),
    [
        ("vendor.compose-spec", "compose/compose.yaml"),
        ("vendor.github-workflows", ".github/workflows/compose.yml"),
        ("custom.github-workflows-require-timeout", ".github/workflows/compose.yml"),
    ],
)
def test_against_its_schema(schema: str, file: str) -> None:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(ROOT / file)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (0, "ok -- validation done\n") == (done.returncode, done.stdout), done.stdout + done.stderr


def test_the_schema_refuses_what_it_should(tmp_path: Path) -> None:
    broken = tmp_path / "compose.yaml"
    broken.write_text((COMPOSE / "compose.yaml").read_text().replace("restart: unless-stopped", "restarts: always"))
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec", str(broken)]
    assert 1 == subprocess.run(command, capture_output=True, check=False, timeout=60).returncode


def test_services_agree_with_each_other_and_with_the_code() -> None:
    document = _compose()
    services = document["services"]
    assert {"postgres", "kafka", "valkey", "install", *DAEMONS, "sample"} == set(services)
    for name, service in services.items():
        assert set(service.get("depends_on", {})) <= set(services)
        assert set(service.get("secrets", [])) <= set(document["secrets"])
        volumes = [volume.partition(":")[0] for volume in service["volumes"]] if "volumes" in service else []
        assert {one for one in volumes if "/" not in one and "$" not in one} <= set(document["volumes"]), name
        assert "ports" not in service, "nothing listens outside the project's own network"
    for name in DAEMONS:
        assert [name] == services[name]["command"]
        assert "service_completed_successfully" == services[name]["depends_on"]["install"]["condition"]
        assert services[name]["read_only"]
    assert services["kafka"]["image"].endswith(f":{VERSION}")
    text = (COMPOSE / "compose.yaml").read_text()
    assert not re.search(r"(?i)password: *[^/\n]*$", text.replace("/run/secrets/", "/")), "passwords are files"


def test_its_configuration_is_one_of_ours() -> None:
    config = load(COMPOSE / "tailrace.toml")
    services = _compose()["services"]
    assert "kafka" == config.transport.kind
    assert config.transport.bootstrap_servers in services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert "${file:/run/secrets/postgres_password}" in config.target_database_url
    writable = [volume.rpartition(":")[2] for volume in services["sink"]["volumes"] if not volume.endswith(":ro")]
    for path in (config.log_folder, config.run_folder, config.backup_folder, *config.source_databases.values()):
        assert any(Path(path).is_relative_to(folder) for folder in writable), path


def test_the_image_has_what_the_distribution_has_and_no_root() -> None:
    lines = (COMPOSE / "Dockerfile").read_text().splitlines()
    assert "USER tailrace" in lines
    assert any(line.startswith("HEALTHCHECK") for line in lines)
    packages = re.search(r"^packages = (\[.*\])", (ROOT / "pyproject.toml").read_text(), re.M)
    assert packages is not None
    wanted = {name.strip('" ').partition(".")[0] for name in packages[1].strip("[]").split(",")}
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    assert wanted <= kept
    assert {"pyproject.toml", "README.md", "LICENSE"} <= kept


def test_the_secrets_are_made_once_and_closed(tmp_path: Path) -> None:
    script = shutil.copy(COMPOSE / "secrets.sh", tmp_path)
    subprocess.run(["sh", script], check=True, capture_output=True)
    first = {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}
    assert {Path(one["file"]).name for one in _compose()["secrets"].values()} == set(first)
    assert [32, 32] == [len(text) for text in first.values()]
    assert 0o700 == (tmp_path / "secrets").stat().st_mode & 0o777
    subprocess.run(["sh", script], check=True, capture_output=True)
    assert first == {path.name: path.read_text() for path in (tmp_path / "secrets").iterdir()}


def test_systemd_takes_the_units(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed (tests/tools/services.sh gets it)")
    for unit in (COMPOSE / "systemd").iterdir():
        # The tool looks for the program; ours is not in /opt here.
        (tmp_path / unit.name).write_text(unit.read_text().replace("/opt/tailrace/bin/tailrace", sys.executable))
    for name in DAEMONS:
        shutil.copy(tmp_path / "tailrace@.service", tmp_path / f"tailrace@{name}.service")
    units = [*(f"tailrace@{name}.service" for name in DAEMONS), "tailrace.target"]
    done = _analyze(tmp_path, "verify", *(f"./{unit}" for unit in units))
    assert (0, "") == (done.returncode, done.stderr)
    assert 0 == _analyze(tmp_path, "security", "--offline=true", "--threshold=20", "./tailrace@sink.service").returncode
    text = (tmp_path / "tailrace@sink.service").read_text()
    (tmp_path / "tailrace@sink.service").write_text(text.replace("Restart=on-failure", "Restart=sometimes"))
    assert "restart specifier" in _analyze(tmp_path, "verify", "./tailrace@sink.service").stderr


def _analyze(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = ["systemd-analyze", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=60)


def test_the_unit_starts_no_refusal_again() -> None:
    text = (COMPOSE / "systemd" / "tailrace@.service").read_text()
    for line in ("Type=notify", "Restart=on-failure", "RestartPreventExitStatus=2 3", "WatchdogSec=120"):
        assert f"\n{line}\n" in text
