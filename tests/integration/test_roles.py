"""The whole path as the least-privilege roles that `plan --grants` prints, on every supported PostgreSQL; the guard refuses
an application that writes to the target too early."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest

from adapters.postgres import Postgres
from schemas.errors import Failed
from tests.fix_pipeline import Pipeline

PASSWORD = "only-for-this-test"


def _as_role(url: str, role: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=f"{role}:{PASSWORD}@{parts.hostname}:{parts.port}"))


@pytest.mark.slow
def test_least_privilege(tmp_path: Path, versioned_database: tuple[str, str]) -> None:
    version, superuser = versioned_database
    pipeline = Pipeline(tmp_path / "run", _as_role(superuser, "tailrace_sink"))
    pipeline.config_path.write_text(
        pipeline.config_path.read_text().replace("# target_role", "target_role"), encoding="utf-8"
    )
    admin = Postgres(superuser, application_name="admin")
    try:
        granted: subprocess.CompletedProcess[str] = pipeline.run("plan", "--grants")
        assert 0 == granted.returncode, granted.stderr
        present = {row[0] for row in admin.rows("SELECT rolname::text FROM pg_roles")}
        for statement in granted.stdout.strip().split(";\n"):
            if statement.startswith("CREATE ROLE") and statement.split('"')[1] in present:
                continue
            admin.run(statement.rstrip(";"))
        for role in ("tailrace_sink", "tailrace_app", "tailrace_readonly"):
            admin.run(f"ALTER ROLE {role} PASSWORD '{PASSWORD}'")
            assert not admin.rows("SELECT rolsuper FROM pg_roles WHERE rolname = %s", (role,))[0][0]
        up = pipeline.run("up", "--until", "caught-up", "--timeout", "60")
        assert 0 == up.returncode, up.stderr + up.stdout + pipeline.errors()
        verified = pipeline.run("verify")
        assert 0 == verified.returncode, verified.stdout + verified.stderr
        application = Postgres(_as_role(superuser, "tailrace_app"), application_name="app")
        try:
            assert 40 == application.rows("SELECT count(*) FROM cases.ledger")[0][0]
            for early in (
                "UPDATE cases.ledger SET balance = 0",
                "DELETE FROM auth.users",
                "INSERT INTO cases.audit VALUES (9)",
            ):
                with pytest.raises(Failed, match="belongs to a migration that has not switched yet"):
                    application.run(early)
            with pytest.raises(Failed):
                application.run("TRUNCATE cases.ledger")
        finally:
            application.close()
        assert version == str(admin.server_version // 10000)
    finally:
        pipeline.close()
        for schema in ("cases", "auth", "tailrace"):
            admin.run(f"DROP SCHEMA IF EXISTS {schema} CASCADE")
        admin.close()
