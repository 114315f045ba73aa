"""Decide: what one check found; pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One finding. `verdict`: ok, warning or refused."""

    name: str
    verdict: str
    text: str
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        return {"name": self.name, "verdict": self.verdict, "text": self.text, "hint": self.hint}
