"""The documents say what is there: every file:function of DESIGN.md exists, every error code is explained."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from schemas.errors import Code

ROOT = Path(__file__).resolve().parent.parent.parent


def _definitions(path: Path) -> set[str]:
    return {
        node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef | ast.ClassDef)
    }


def test_design_names_exist() -> None:
    text = (ROOT / "DESIGN.md").read_text()
    named = re.findall(r"`([a-z_]+/[a-z_]+\.py)(?::([A-Za-z_]\w*)(?:\.(\w+))?)?`", text)
    assert len(named) > 20
    missing = []
    for file, first, second in named:
        path = ROOT / file
        if not path.exists():
            missing.append(file)
            continue
        defined = _definitions(path)
        missing += [f"{file}:{name}" for name in (first, second) if name and name not in defined]
    assert [] == missing


def test_every_error_code_is_explained() -> None:
    explained = set(re.findall(r"^## `([a-z-]+)`", (ROOT / "docs" / "errors.md").read_text(), re.MULTILINE))
    assert {str(code) for code in Code} == explained


def test_every_explanation_has_cause_check_and_next_command() -> None:
    sections = re.split(r"^## ", (ROOT / "docs" / "errors.md").read_text(), flags=re.MULTILINE)[1:]
    lacking = [
        section.splitlines()[0] for section in sections if not re.search(r"Cause:.*Check:.*Next:", section, re.S)
    ]
    assert [] == lacking
