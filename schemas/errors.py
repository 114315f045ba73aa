"""Decide: one error tree with stable codes; every error names the thing, the position and the next step.

Invariant: an operator who reads only the error knows what happened, to which table, at which position, and what to
run next. `retryable` is a property of the class, so that exactly one place (the retry wrapper built in the wiring)
needs to look at it. "We cannot tell" (`Unknown`) is an error of its own and is never retried as if it were a "no".
`docs/errors.md` lists every code; tests/unit/schemas/test_errors.py compares both sets.
"""

from __future__ import annotations

from enum import StrEnum


class Code(StrEnum):
    """Stable names of everything that can go wrong. Never renamed; docs/errors.md explains each."""

    # configuration and usage
    CONFIG_INVALID = "config-invalid"
    CONFIG_MISSING = "config-missing"
    SECRET_MISSING = "secret-missing"
    PLAINTEXT_REFUSED = "plaintext-refused"
    USAGE = "usage"
    PACKAGE_MISSING = "package-missing"
    # source
    SOURCE_MISSING = "source-missing"
    SOURCE_BUSY = "source-busy"
    SOURCE_CORRUPT = "source-corrupt"
    SOURCE_IO = "source-io"
    SOURCE_CONFLICT = "source-conflict"
    SOURCE_DISK_FULL = "source-disk-full"
    SOURCE_FORKED = "source-forked"
    SOURCE_REPLACED = "source-replaced"
    LOG_GAP = "log-gap"
    LOG_LIMIT = "log-limit"
    NOT_INSTALLED = "not-installed"
    CAPTURE_LOCKED = "capture-locked"
    UP_RUNNING = "up-running"
    FORMAT_NEWER = "format-newer"
    FORMAT_OLDER = "format-older"
    TABLE_UNSUPPORTED = "table-unsupported"
    CHECK_REFUSED = "check-refused"
    BACKUP_FAILED = "backup-failed"
    # stream
    STREAM_IO = "stream-io"
    STREAM_BUSY = "stream-busy"
    STREAM_FULL = "stream-full"
    STREAM_UNREACHABLE = "stream-unreachable"
    STREAM_DENIED = "stream-denied"
    STREAM_UNTRUSTED = "stream-untrusted"
    STREAM_REWOUND = "stream-rewound"
    TOPIC_MISSING = "topic-missing"
    TOPIC_MISMATCH = "topic-mismatch"
    RECORD_TOO_LARGE = "record-too-large"
    SCHEMA_UNKNOWN = "schema-unknown"
    REGISTRY_UNREACHABLE = "registry-unreachable"
    REGISTRY_DENIED = "registry-denied"
    REGISTRY_REFUSED = "registry-refused"
    REGISTRY_OTHER = "registry-other"
    STREAM_UNREADABLE = "stream-unreadable"
    # target
    TARGET_UNREACHABLE = "target-unreachable"
    TARGET_DENIED = "target-denied"
    TARGET_UNTRUSTED = "target-untrusted"
    TARGET_REFUSED = "target-refused"
    TARGET_BUSY = "target-busy"
    TARGET_DISK_FULL = "target-disk-full"
    TARGET_PERMISSION = "target-permission"
    TARGET_CONFLICT = "target-conflict"
    TARGET_UNPREPARED = "target-unprepared"
    SINK_OWNED = "sink-owned"
    PROGRESS_LOST = "progress-lost"
    COPY_SUPERSEDED = "copy-superseded"
    POOLER_REFUSED = "pooler-refused"
    # cutover
    AUTHORITY_MOVED = "authority-moved"
    AUTHORITY_BEHIND = "authority-behind"
    FENCE_BUSY = "fence-busy"
    FENCE_LOST = "fence-lost"
    VERB_ILLEGAL = "verb-illegal"
    GATE_BLOCKED = "gate-blocked"
    DRAIN_TIMEOUT = "drain-timeout"
    NO_ROLLBACK = "no-rollback"
    REVERSE_UNPROVEN = "reverse-unproven"
    CHECKPOINT_UNKNOWN = "checkpoint-unknown"
    CHECKPOINT_ENDED = "checkpoint-ended"
    CHECKPOINT_REFUSED = "checkpoint-refused"
    REPLAY_RUNNING = "replay-running"
    RESTORE_REFUSED = "restore-refused"
    RESTORE_RUNNING = "restore-running"
    LOSS_NOT_ACCEPTED = "loss-not-accepted"
    FINAL_DIFFERS = "final-differs"
    HOOK_FAILED = "hook-failed"
    ROUTE_UNPUBLISHED = "route-unpublished"
    # values and schema
    MISFIT = "misfit"
    NAME_COLLISION = "name-collision"
    POLICY_REFUSED = "policy-refused"
    # verification and operation
    NOT_COMPARED = "not-compared"
    LAG_UNKNOWN = "lag-unknown"
    HOST_IO = "host-io"
    INTERNAL = "internal"


class TailraceError(Exception):
    """Root of the tree.

    Args:
        code: the stable code.
        message: what happened, in one sentence, without secrets and without row values.
        source, table, position: where, as far as it is known.
        hint: the next command or the next thing to look at.
    """

    retryable = False
    exit_code = 1

    def __init__(
        self,
        code: Code,
        message: str,
        *,
        source: str | None = None,
        table: str | None = None,
        position: str | int | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.source = source
        self.table = table
        self.position = position
        self.hint = hint

    def __str__(self) -> str:
        where = [
            f"{word} {value}"
            for word, value in (("source", self.source), ("table", self.table), ("position", self.position))
            if value is not None
        ]
        place = f" ({', '.join(where)})" if where else ""
        notes = "".join(f"; {note}" for note in getattr(self, "__notes__", ()))
        next_step = f"\n  next: {self.hint}" if self.hint else ""
        return f"[{self.code}] {self.message}{place}{notes}{next_step}"


class ConfigError(TailraceError):
    """The configuration or the command line is wrong. Nothing was done."""

    exit_code = 2


class Refusal(TailraceError):
    """A named reason not to go on. Nothing was changed; trying again without a change refuses again."""

    exit_code = 3


class Transient(TailraceError):
    """The outside world said "not now" (busy, unreachable, restarting). Safe to try again: nothing was done,
    or what was done is idempotent."""

    retryable = True


class Unknown(TailraceError):
    """Done or not done: we cannot tell (a lost commit reply). Never retried blindly; read the state first."""


class Superseded(TailraceError):
    """A compare-and-set lost: somebody newer owns the work. The process must stop this piece of work."""


class Failed(TailraceError):
    """A permanent failure that is no refusal of ours: corruption, a full disk, a permission."""


class Differ(Failed):
    """Both sides were compared, and rows are not equal. Nothing was moved."""

    exit_code = 4


class IndexRowTooLarge(Failed):
    """A value is too long for an index of the target, which can be made over a digest; `index` is empty where PostgreSQL
    does not tell which."""

    def __init__(self, message: str, *, index: str, table: str | None) -> None:
        super().__init__(Code.TARGET_REFUSED, message, table=table, hint="tailrace quarantine list")
        self.index = index


class OutOfRange(Failed):
    """A number does not fit a column of the target, which may have been born there in a narrower type."""


class Misfit(TailraceError):
    """A value does not conform to its column's codec. Caught by the widening, never by a retry."""

    def __init__(self, column: str, found: str, codec: str) -> None:
        super().__init__(Code.MISFIT, f"column {column!r}: a value of class {found} does not fit codec {codec!r}")
        self.column = column
        self.found = found
        self.codec = codec
