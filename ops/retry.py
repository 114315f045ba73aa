"""Do: the only retry in the code: a tenacity wrapper round a port, built in the wiring.

Only errors with `retryable` are tried again, for a bounded time; then the loop backs off and says so. Methods that
return context managers pass through: a transaction is never repeated from here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar, cast

import tenacity

from schemas.errors import TailraceError

P = TypeVar("P")
R = TypeVar("R")


def _again(error: BaseException) -> bool:
    return isinstance(error, TailraceError) and error.retryable


def with_retries(port: P, methods: Collection[str], *, for_s: float = 2.0) -> P:
    """The same port, with these idempotent methods tried again while the outside world says "not now"."""
    return cast(P, _Retrying(port, frozenset(methods), for_s))


class _Retrying:
    def __init__(self, port: object, methods: frozenset[str], for_s: float) -> None:
        self._port = port
        self._methods = methods
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(_again),
            stop=tenacity.stop_after_delay(for_s),
            wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
            reraise=True,
        )

    def __getattr__(self, name: str) -> Any:
        member = getattr(self._port, name)
        if name not in self._methods:
            return member

        def call(*args: object, **kwargs: object) -> object:
            return self._retrying(member, *args, **kwargs)

        return call


def call_with_retries(function: Callable[[], R], *, for_s: float) -> R:
    """Call once more while the outside world says "not now"; for work that is idempotent as a whole."""
    retrying = tenacity.Retrying(
        retry=tenacity.retry_if_exception(_again),
        stop=tenacity.stop_after_delay(for_s),
        wait=tenacity.wait_random_exponential(multiplier=0.02, max=0.5),
        reraise=True,
    )
    return retrying(function)
