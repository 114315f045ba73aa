"""Do: build what runs at named events."""

from __future__ import annotations

from pathlib import Path

from ops.config import Config
from ops.hooks import Hooks
from ops.telemetry import Telemetry


def hooks_of(config: Config, events: Telemetry) -> Hooks:
    return Hooks(
        config.hooks,
        folder=Path(config.folder),
        secret=config.secret,
        say=lambda action, text, level: events.event(action, text, level=level),
    )
