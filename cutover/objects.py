"""Do: what the target's tables get when they open, and lose when writes go back to the source.

Invariant: while rows follow, no CHECK, foreign key, generated column or view of ours stands on the target: a child may come
before its parent, a row may be older than its CHECK, and a column that a view reads cannot be replaced by a wider one.
So they are made in the transaction that opens, after it holds every table, and go in the one that returns: an attempt that
is taken back leaves none of them (test_objects_come_with_the_open_and_go_with_the_return).
One object that cannot be made is named and stops nothing: the data are there, and writers wait for this transaction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from adapters.postgres import Postgres
from schemas.errors import Code, Failed
from schemas.model import Table
from schemas.opening import after_switch, at_return, at_switch
from schemas.plan import TablePlan
from snapshot.finalise import open_objects, set_sequence

Say = Callable[[str, str], None]


@dataclass(frozen=True, slots=True)
class Objects:
    """Of one source. `tables`: folded source name -> table, and its plan as the target has it; `views`: name -> CREATE
    VIEW; `sequences`: sqlite_sequence, read when this was made."""

    tables: Mapping[str, tuple[Table, TablePlan]]
    views: Mapping[str, str] = field(default_factory=dict)
    sequences: Mapping[str, int] = field(default_factory=dict)


class OpenedObjects:
    """`look` reads every source anew: call it behind the fence, where neither schema nor sequences can move."""

    def __init__(self, target: Postgres, look: Callable[[], Sequence[Objects]], say: Say) -> None:
        self._target = target
        self._look = look
        self._say = say
        self._behind_fence: Sequence[Objects] | None = None

    def set_sequences(self) -> None:
        """Raises Failed: an application that cannot insert is no switch. What is read here is kept for `make`: behind the
        fence it cannot move."""
        self._behind_fence = self._look()
        # One transaction: while it runs nobody can write anywhere, and a commit each would wait for the disk each time.
        with self._target.transaction():
            for one in self._behind_fence:
                for table, plan in one.tables.values():
                    used = partial(_of, one.sequences, table.name)
                    failed = set_sequence(self._target, table, plan, used=used, say=self._say)
                    if failed:
                        hint = "tailrace verify --integrity names it"
                        raise Failed(Code.TARGET_REFUSED, failed[0], table=table.name, hint=hint)

    def make(self) -> dict[str, str]:
        """In the caller's transaction; what could not be made -> why."""
        failed: dict[str, str] = {}
        for one in self._behind_fence or self._look():
            failed |= open_objects(self._target, at_switch(one.tables, one.views), self._say)
        return failed

    def unmake(self) -> dict[str, str]:
        """In the caller's transaction. Defaults stay: the stream names every column."""
        failed: dict[str, str] = {}
        for one in self._look():
            failed |= open_objects(self._target, at_return(one.tables, one.views), self._say)
        return failed

    def validate(self) -> dict[str, str]:
        """When writers are back: it reads every row, and lets them go on meanwhile."""
        failed: dict[str, str] = {}
        for one in self._look():
            failed |= open_objects(self._target, after_switch(one.tables), self._say)
        return failed


def _of(sequences: Mapping[str, int], table: str) -> int:
    return sequences.get(table, 0)
