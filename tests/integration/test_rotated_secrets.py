"""Passwords of broker and target are changed under running daemons: they say so, and go on once the files hold the new ones."""

from __future__ import annotations

from pathlib import Path

from adapters.postgres import Postgres
from ops.config import load
from tests.fix_pipeline import Pipeline
from tests.fix_tls import SecuredKafka


def _configured(pipeline: Pipeline, kafka: SecuredKafka, target: str) -> None:
    client = {**kafka.client("${file:kafka-password}"), "bootstrap_timeout_ms": 3000}
    lines = [f"{name} = {value!r}" for name, value in client.items()]
    text = pipeline.config_path.read_text().replace("${TAILRACE_TEST_TARGET}", target)
    pipeline.config_path.write_text(text + "\n[transport.client]\n" + "\n".join(lines) + "\n")
    pipeline.config = load(pipeline.config_path)


def _secrets(folder: Path, password: str) -> None:
    for name in ("kafka-password", "target-password"):
        (folder / name).write_text(f"{password}\n")


def test_a_rotated_password_heals_a_running_daemon(
    tmp_path: Path, database_url: str, secured_kafka: SecuredKafka
) -> None:
    """The broker asks for the login again every four seconds; the target's sessions are ended, as an administrator would."""
    admin = Postgres(database_url, application_name="tests")
    role = f"rotated_{tmp_path.name.replace('-', '_')}"
    admin.run(f"CREATE ROLE {role} LOGIN PASSWORD 'first'")
    admin.run(f"GRANT CREATE ON DATABASE {database_url.rpartition('/')[2]} TO {role}")
    secured_kafka.set_password("tailrace", "first")
    address = f"localhost:{secured_kafka.ports['GOOD']}"
    pipeline = Pipeline(tmp_path / "run", database_url, cases=20, kafka=address)
    target = f"postgresql://{role}:${{file:target-password}}@{database_url.partition('@')[2]}"
    _configured(pipeline, secured_kafka, target)
    _secrets(pipeline.folder, "first")
    try:
        pipeline.install()
        pipeline.start()
        pipeline.settle(timeout_s=120)
        secured_kafka.set_password("tailrace", "second")
        admin.run(f"ALTER ROLE {role} PASSWORD 'second'")
        admin.rows("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = %s", (role,))
        pipeline.write(seconds=2)
        pipeline.until(lambda: _denied(pipeline), timeout_s=90)
        _secrets(pipeline.folder, "second")
        pipeline.end_writers()
        pipeline.settle(timeout_s=120)
        assert [True, True] == [one.clean for one in pipeline.verify()]
        assert [None] * 3 == [process.poll() for process in pipeline.processes.values()]
        log = (pipeline.folder / "migration.log").read_text()
        assert 3 == log.count("daemon.started")
        assert [] == [word for word in ("'first'", ":first@", "'second'", ":second@") if word in log]
    finally:
        pipeline.close()
        secured_kafka.set_password("tailrace", "first")
        admin.run(f"DROP OWNED BY {role} CASCADE")
        admin.run(f"DROP ROLE {role}")
        admin.close()


def _denied(pipeline: Pipeline) -> bool:
    """Capture is refused by the broker, the sink by the target: both are told by their codes."""
    said = (pipeline.folder / "migration.log").read_text()
    return "stream-denied" in said and "target-denied" in said
