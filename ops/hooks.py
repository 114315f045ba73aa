"""Do: run what the operator wants to happen at an event: commands without a shell, and POSTs to URLs.

Invariant: a hook gets a time-out and no secret of ours: what is told of it is its place in the list and how it ended, never
its text, its address or its output. One that fails is an error where it may stop something, and an event everywhere else.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path

from ops.config_hooks import BLOCKING, HooksConfig
from ops.outside import ask_url, run_command
from schemas.errors import Code, Failed

_URLS = ("http://", "https://")


class Hooks:
    """Args:
    secret: resolves ${NAME} and the like in an address, at the moment it is used.
    say: (action, text, level).
    """

    def __init__(
        self,
        config: HooksConfig,
        *,
        folder: Path,
        secret: Callable[[str], str],
        say: Callable[[str, str, str], None],
    ) -> None:
        self._config = config
        self._folder = folder
        self._secret = secret
        self._say = say
        self._ended: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()

    def run(self, event: str, **facts: str | int) -> None:
        """Every hook of this event, in order. Raises Failed(HOOK_FAILED) where the event may stop something."""
        for name, wrong in self._each(event, facts):
            if wrong and event in BLOCKING:
                raise Failed(
                    Code.HOOK_FAILED, f"hook {name} {wrong}", hint="mend what it looks at, or take it out of [hooks]"
                )
            self._told(name, wrong)

    def later(self, event: str, **facts: str | int) -> None:
        """The same beside the caller, who has a daemon's loop to keep and says with `tell` how it ended."""

        def work() -> None:
            for pair in self._each(event, facts):
                self._ended.put(pair)

        if getattr(self._config, event):
            threading.Thread(target=work, name="hook", daemon=True).start()

    def tell(self) -> None:
        with contextlib.suppress(queue.Empty):
            while True:
                self._told(*self._ended.get_nowait())

    def _told(self, name: str, wrong: str) -> None:
        if wrong:
            self._say("hook.failed", f"{name} {wrong}: nothing was stopped by it", "error")
        else:
            self._say("hook.ran", name, "info")

    def _each(self, event: str, facts: Mapping[str, str | int]) -> Iterator[tuple[str, str]]:
        """(which hook, what is wrong with it), each once it has ended."""
        document = {"event": event, **facts}
        hooks: list[str] = getattr(self._config, event)
        for number, hook in enumerate(hooks, 1):
            url = hook.startswith(_URLS)
            if url:
                wrong = ask_url(partial(self._secret, hook), timeout_s=self._config.timeout_s, document=document)
            else:
                wrong = run_command(
                    hook,
                    folder=self._folder,
                    timeout_s=self._config.timeout_s,
                    document=document,
                    environment={f"TAILRACE_{key.upper()}": str(value) for key, value in document.items()},
                )
            yield f"{event} {number} of {len(hooks)} ({'a URL' if url else 'a command'})", wrong
