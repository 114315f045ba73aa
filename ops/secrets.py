"""Do: replace `${NAME}`, `${file:PATH}` and `${command:ARGUMENTS}` in a setting, at the moment of use.

Invariant: what comes out is never kept, printed or put into an error: whoever connects asks again, so that a rotated
secret is found at the next connect; errors name the place that was asked, never what it said.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from schemas.errors import Code, ConfigError

COMMAND_S = 10.0
_PLACE = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*|file:[^}]+|command:[^}]+)\}")


def places(text: str) -> list[str]:
    """What is asked for in this setting, as it is written between the braces."""
    return _PLACE.findall(text)


def resolve(text: str, *, folder: Path) -> str:
    """`folder`: relative paths of `file:` resolve against it. Raises ConfigError(SECRET_MISSING)."""
    return _PLACE.sub(lambda match: _value(match[1], folder), text)


def resolve_url(text: str, *, folder: Path) -> str:
    """Of a URL (or a libpq keyword string): user and password are escaped as that form wants it, so that a secret may
    hold any character; where the whole text is one placeholder, it is taken as it comes."""
    if _PLACE.fullmatch(text):
        return resolve(text, folder=folder)
    escape = _escapes(text)
    return _PLACE.sub(lambda match: escape(match.start())(_value(match[1], folder)), text)


def _escapes(text: str) -> Callable[[int], Callable[[str], str]]:
    """How a value at this place of the template is escaped."""
    masked = _PLACE.sub(lambda match: "x" * len(match[0]), text)
    if "://" not in masked:
        return lambda _: lambda value: re.sub(r"([\\'\s])", r"\\\1", value)
    start = masked.index("://") + 3
    authority = re.split(r"[/?#]", masked[start:], maxsplit=1)[0]
    end = start + authority.rfind("@")
    query = masked.find("?")

    def escape(at: int) -> Callable[[str], str]:
        inside = start <= at < end or (0 <= query < at)
        return (lambda value: quote(value, safe="")) if inside else str

    return escape


def _value(place: str, folder: Path) -> str:
    kind, _, rest = place.partition(":")
    if not rest:
        value = os.environ.get(place)
        if value is None:
            raise ConfigError(
                Code.SECRET_MISSING, f"environment variable {place} is not set", hint=f"export {place}=..."
            )
        return value
    return _of_file(folder / rest) if kind == "file" else _of_command(rest)


def _of_file(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = getattr(error, "strerror", None) or "not UTF-8"
        raise ConfigError(
            Code.SECRET_MISSING, f"the secret's file {path} cannot be read: {why}", hint=f"ls -l {path}"
        ) from None


def _of_command(command: str) -> str:
    """Its words are split as a shell would, and no shell runs. What it prints stays out of every message."""
    try:
        words = shlex.split(command)
        done = subprocess.run(words, capture_output=True, stdin=subprocess.DEVNULL, timeout=COMMAND_S, check=False)
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        why = "took too long" if isinstance(error, subprocess.TimeoutExpired) else type(error).__name__
        raise ConfigError(
            Code.SECRET_MISSING, f"the secret's command {command!r} failed: {why}", hint="run it by hand"
        ) from None
    if done.returncode:
        raise ConfigError(
            Code.SECRET_MISSING, f"the secret's command {command!r} ended with {done.returncode}", hint="run it by hand"
        )
    return done.stdout.decode("utf-8", "replace").rstrip("\r\n")


__all__ = ["places", "resolve", "resolve_url"]
