"""Decide: what everything that rests somewhere is numbered, and which numbers are read: N reads N-1, newer is refused.

One table for all of it. A number is raised when an older Tailrace would misread or miss what a newer one writes, and with it
comes the step that brings the older form up to date. What is older than the oldest readable number is refused as well: it
takes the release in between (test_a_newer_format_is_refused_by_name).
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas.errors import Code, Refusal


@dataclass(frozen=True, slots=True)
class Format:
    """One kind of thing that rests."""

    name: str
    current: int
    oldest: int
    upgrade: str
    """How the form before becomes the current one; empty: there was none before."""


SOURCE = Format("change log and meta table of the source", 1, 1, "")
LOCAL_LOG = Format("local stream file", 1, 1, "")
STREAM = Format("watermarks and notices", 1, 1, "")
ROWS = Format("row schema in the stream", 1, 1, "")
BOOKKEEPING = Format(
    "schema tailrace of the target",
    2,
    1,
    "tables migration, journal, checkpoints and verified and columns progress.topics and migration.restoring are added in one "
    "transaction",
)
CONFIGURATION = Format("configuration", 1, 1, "")

ALL = (SOURCE, LOCAL_LOG, STREAM, ROWS, BOOKKEEPING, CONFIGURATION)


def refuse_unreadable(form: Format, found: int, where: str, *, source: str | None = None) -> bool:
    """True when it is an older form that is read and may be brought up to date.

    Raises: Refusal(FORMAT_NEWER | FORMAT_OLDER) naming the thing, its number and ours.
    """
    told = f"{where}: {form.name} has format {found}, this Tailrace reads {form.oldest} to {form.current}"
    if found > form.current:
        raise Refusal(
            Code.FORMAT_NEWER, told, source=source, hint="use the newer Tailrace that wrote it, or a later one"
        )
    if found < form.oldest:
        raise Refusal(
            Code.FORMAT_OLDER, told, source=source, hint="let the release before this one bring it up to date first"
        )
    return found < form.current
