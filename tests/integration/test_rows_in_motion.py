"""A row that changes faster than a look takes is compared all the same, while its writer goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.model.world import SteppingClock
from tests.small import Small


class BusyClock(SteppingClock):
    """While anybody waits, the application writes, and every third time what it wrote before arrives: whoever looks at
    the source and waits for that state on the target finds a later one."""

    def __init__(self) -> None:
        super().__init__()
        self.small: Small | None = None
        self.turns = 0

    def sleep(self, seconds: float) -> None:
        super().sleep(seconds)
        if self.small is None:
            return
        self.turns += 1
        if self.turns % 3 == 0:
            self.small.capture.step()
            self.small.sink.step()
        self.small.run("UPDATE t SET n = n + 1 WHERE id = 1")


@pytest.fixture
def small(tmp_path: Path, database_url: str) -> Iterator[Small]:
    made = Small(tmp_path, database_url, "CREATE TABLE t(id INTEGER PRIMARY KEY, n INTEGER)", clock=BusyClock())
    made.run("INSERT INTO t VALUES (1, 0), (2, 0)")
    made.settle()
    yield made
    made.close()


def busy(small: Small) -> None:
    assert isinstance(small.clock, BusyClock)
    small.clock.small = small
    small.run("UPDATE t SET n = n + 1 WHERE id = 1")


def test_a_row_that_never_stands_still_is_compared(small: Small) -> None:
    busy(small)
    report = small.verification.run()
    assert [(2, 0, 0, True)] == [(one.rows, one.not_compared, one.differences, one.clean) for one in report.tables]


def test_a_row_that_never_stands_still_and_differs_is_found(small: Small) -> None:
    small.target.run(
        "CREATE FUNCTION public.other() RETURNS trigger LANGUAGE plpgsql AS "
        "'BEGIN NEW.n := NEW.n + 1000000; RETURN NEW; END'"
    )
    name = small.rows("SELECT target_schema || '.' || target_table FROM tailrace.tables")[0][0]
    small.target.run(
        f"CREATE TRIGGER other BEFORE INSERT OR UPDATE ON {name} FOR EACH ROW EXECUTE FUNCTION public.other()"
    )
    small.target.run(f"ALTER TABLE {name} ENABLE ALWAYS TRIGGER other")
    busy(small)
    report = small.verification.run()
    assert [(0, 1, ((1,),))] == [(one.not_compared, one.differing, one.keys) for one in report.tables]
