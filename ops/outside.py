"""Do: one command without a shell, or one request to a URL, and what was wrong with it in a few words.

Invariant: the words say how it ended, never its text, its address or its output: each may hold a secret.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from schemas.errors import TailraceError


def run_command(
    text: str,
    *,
    folder: Path,
    timeout_s: float,
    document: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
) -> str:
    """Empty where it ends with 0.

    Args:
        document: JSON on its standard input; without it there is none.
        environment: variables beside our own.
    """
    try:
        done = subprocess.run(
            shlex.split(text),
            cwd=folder,
            timeout=timeout_s,
            check=False,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL if document is None else None,
            input=None if document is None else json.dumps(document).encode(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return f"does not end within {timeout_s:g} s"
    except (OSError, ValueError) as error:
        return f"cannot be run ({type(error).__name__})"
    return "" if done.returncode == 0 else f"ends with {done.returncode}"


def ask_url(address: Callable[[], str], *, timeout_s: float, document: Mapping[str, Any] | None = None) -> str:
    """Empty where it answers with 200 to 299.

    Args:
        address: asked each time, since it may hold a secret.
        document: JSON that is posted; without it the request is a GET.
    """
    try:
        request = urllib.request.Request(address())
        if document is not None:
            request.data = json.dumps(document).encode()
            request.add_header("Content-Type", "application/json")
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            return "" if 200 <= answer.status < 300 else f"answers {answer.status}"
    except urllib.error.HTTPError as error:
        return f"answers {error.code}"
    except TailraceError as error:
        return f"cannot be asked ({error.code})"
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", None)
        return f"does not answer ({type(reason if isinstance(reason, Exception) else error).__name__})"
