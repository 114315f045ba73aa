"""Size caps and house rules that no linter knows, checked on the files themselves."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
FOLDERS = (
    "schemas",
    "adapters",
    "embedded",
    "ops",
    "capture",
    "snapshot",
    "sink",
    "verify",
    "cutover",
    "cli",
    "examples",
    "router/src",
)
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
MAX_FILE_LINES = 350
MAX_FUNCTION_LINES = 60
DRIVERS = {
    "sqlite3": {"adapters/sqlite.py", "adapters/locallog.py", "adapters/spill.py"},
    "apsw": {"adapters/sqlite_worker.py"},
    "psycopg": {"adapters/postgres.py", "adapters/postgres_connect.py"},
    "kafka": {"adapters/kafka.py", "adapters/kafka_errors.py", "adapters/kafka_sockets.py"},
    "confluent_kafka": {"adapters/confluent.py", "adapters/confluent_errors.py", "adapters/confluent_reader.py"},
    "redis": {"adapters/redis.py", "router/src/tailrace_router/redis_link.py"},
}
OWNED_BY_OPS = {"time", "random", "uuid"}
TIME_ALLOWED = ("ops/", "adapters/", "embedded/", "cli/", "examples/", "router/")


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_file_is_under_its_cap(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MAX_FILE_LINES


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_functions_are_under_their_cap(path: Path) -> None:
    tree = ast.parse(path.read_text())
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    long = [node.name for node in functions if (node.end_lineno or 0) - node.lineno + 1 > MAX_FUNCTION_LINES]
    assert [] == long


def _imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            found.add(node.module.split(".")[0])
    return found


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_driver_is_imported_by_its_adapter_alone(path: Path) -> None:
    if _name(path).startswith("examples/"):
        return
    foreign = [driver for driver, owners in DRIVERS.items() if driver in _imports(path) and _name(path) not in owners]
    assert [] == foreign


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_clock_and_chance_belong_to_ops(path: Path) -> None:
    name = _name(path)
    if name.startswith(TIME_ALLOWED):
        return
    assert set() == _imports(path) & OWNED_BY_OPS
    assert "os.environ" not in path.read_text()


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_docstring_says_decide_or_do(path: Path) -> None:
    name = _name(path)
    if name.endswith("__init__.py") or name.startswith("examples/"):
        return
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    assert re.match(r"(Decide|Do): ", docstring), f"{name} must say whether it decides or does"


def test_the_router_and_tailrace_import_nothing_of_each_other() -> None:
    """It is a distribution of its own, on Python 3.9, in the application's process."""
    ours = {folder for folder in FOLDERS if folder not in ("examples", "router/src")}
    for path in FILES:
        if _name(path).startswith("router/"):
            assert set() == _imports(path) & ours, path
            ast.parse(path.read_text(), feature_version=(3, 9))
        elif not _name(path).startswith("examples/"):
            assert "tailrace_router" not in _imports(path), path
