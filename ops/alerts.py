"""Do: tell what an operator must know: an event with a stable action, and whoever else wants to hear it.

Invariant: a channel that fails stops nothing and hides nothing: the event is in the logs before any channel is asked, and
the failure of the channel becomes an event of its own (test_a_channel_that_fails_is_told_of).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ops.telemetry import Telemetry

LOUD = frozenset({"warning", "error"})


@dataclass(frozen=True, slots=True)
class Alert:
    """`action`: stable name, e.g. shift.brought_back."""

    action: str
    level: str
    text: str


Channel = Callable[[Alert], None]
"""May raise OSError."""


class Alerts:
    """Everything goes to the logs, what is a warning or an error to the channels, too."""

    def __init__(self, events: Telemetry, channels: Sequence[Channel] = ()) -> None:
        self._events = events
        self._channels = list(channels)

    def __call__(self, action: str, text: str, *, level: str = "info", log: str = "") -> None:
        self._events.event(action, text, level=level, log=log)
        for channel in self._channels if level in LOUD else ():
            try:
                channel(Alert(action, level, text))
            except OSError as error:
                self._events.event("alert.undelivered", f"{action}: {error}", level="error")
