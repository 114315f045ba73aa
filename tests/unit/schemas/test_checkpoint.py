"""What ends a checkpoint."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.change import Progress, TableProgress, TableState, TopicPartition
from schemas.checkpoint import SourceNow, SourcePoint, is_behind, rewound, why_ended, why_held

HOUR_MS = 3_600_000
TABLE = TableProgress("t", TableState.FOLLOWING, 2, 0, 0, 1, 1)
PROGRESS = Progress(
    source="s",
    owner="o",
    applied=50,
    applying_to=None,
    consistent=True,
    identity="one",
    offsets={TopicPartition("p.s.t-t", 0): 9, TopicPartition("p.s.notices", 0): 3, TopicPartition("p.s.t-u", 0): 4},
    tables={"t": TABLE},
    highest=50,
    topics={"p.s.t-t": "a", "p.schemas": "c"},
)
POINT = SourcePoint(
    applied=20,
    identity="one",
    offsets={TopicPartition("p.s.t-t", 0): 5, TopicPartition("p.s.notices", 0): 1},
    topics={"p.s.t-t": "a", "p.schemas": "c"},
    generations={"t": 2},
    unread_ms=0,
    back={TopicPartition("b.s.t-t", 0): 7},
    back_topics={"b.s.t-t": "d"},
)
IDS = {"p.s.t-t": "a", "p.schemas": "c", "b.s.t-t": "d"}
NOW = SourceNow(PROGRESS, IDS, {"p.s.t-t": {0: 5}, "b.s.t-t": {0: 7}}, 0)


def reasons(point: SourcePoint = POINT, now: SourceNow = NOW, *, hours: float = 1) -> list[str]:
    return why_ended(point, now, at_ms=10 * HOUR_MS, now_ms=int((10 + hours) * HOUR_MS), window_ms=7 * 24 * HOUR_MS)


def test_a_checkpoint_whose_topics_are_whole_leads_to_now() -> None:
    assert [] == reasons()


def _table(**changed: object) -> SourceNow:
    return replace(NOW, progress=replace(PROGRESS, tables={"t": replace(TABLE, **changed)}))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("now", "told"),
    [
        (replace(NOW, ids={**IDS, "p.s.t-t": "z"}), "topic p.s.t-t was deleted or made again"),
        (replace(NOW, ids={**IDS, "p.schemas": "z"}), "topic p.schemas was deleted or made again"),
        (replace(NOW, ids={**IDS, "b.s.t-t": "z"}), "topic b.s.t-t was deleted or made again"),
        (replace(NOW, begins={"p.s.t-t": {0: 6}}), "topic p.s.t-t begins at 6"),
        (replace(NOW, begins={"b.s.t-t": {0: 8}}), "topic b.s.t-t begins at 8"),
        (replace(NOW, begins={"p.s.t-t": {1: 1}}), "topic p.s.t-t begins at 1"),
        (_table(generation=3), "table t was copied after it"),
        (_table(state=TableState.COPYING), "table t is being copied"),
        (replace(NOW, progress=replace(PROGRESS, identity="two")), "another installation"),
        (replace(NOW, progress=replace(PROGRESS, applied=19)), "before the checkpoint's 20"),
        (replace(NOW, quarantined=1), "1 rows are in quarantine"),
    ],
)
def test_what_ends_a_checkpoint(now: SourceNow, told: str) -> None:
    (found,) = reasons(now=now)
    assert told in found


def test_a_checkpoint_older_than_the_window_has_ended() -> None:
    assert [] == reasons(hours=7 * 24)
    assert ["it needs the last 7.0 days, the topics keep every change for 7.0 days"] == reasons(hours=7 * 24 + 0.1)


def test_what_the_sink_had_not_read_is_older_than_the_checkpoint() -> None:
    """A target that rested for days when the checkpoint was made."""
    (found,) = reasons(replace(POINT, unread_ms=6 * 24 * HOUR_MS), hours=25)
    assert "the last 7.0 days" in found


def test_a_table_that_is_gone_ends_nothing() -> None:
    assert [] == reasons(now=_table(state=TableState.GONE, generation=9))


def test_notices_are_not_read_again_and_what_had_not_been_read_begins_at_zero() -> None:
    expected = {TopicPartition("p.s.t-t", 0): 5, TopicPartition("p.s.notices", 0): 3, TopicPartition("p.s.t-u", 0): 0}
    assert expected == rewound(POINT, PROGRESS, "p.s.notices")


def test_no_checkpoint_of_a_copy_or_of_a_replay_under_way() -> None:
    assert "" == why_held(PROGRESS)
    assert "t is still being copied" in why_held(_table(state=TableState.COPIED).progress)
    set_back = replace(PROGRESS, applied=49)
    assert is_behind(set_back)
    assert "a replay is under way" == why_held(set_back)
    assert "nothing was copied yet" == why_held(replace(PROGRESS, tables={}))
