"""Topics of the way back that are deleted and made again: no rollback is promised any more where something was lost, writes go
on, and no daemon ends; where nothing was lost, nothing is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from schemas.authority import Authority
from schemas.change import Message
from schemas.errors import Code, Refusal
from schemas.wire import record_headers
from tests.cutover_rig import FILLED, Rig, application, begun

TOPIC, WATERMARKS, NOTICES = "p-back.cases.t-t", "p-back.cases.watermarks", "p-back.cases.notices"
LOST = "changes of cases since the switch"


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(Rig(tmp_path, database_url), FILLED) as made:
        yield made


def _made_again(rig: Rig, topic: str, *, filled: int = 0) -> None:
    settings = rig.transport._settings[topic]
    rig.transport.delete(topic)
    rig.transport.create_topics({topic: settings})
    rig.transport.send([Message(topic, b"k%d" % at, None, record_headers("d", 1, "x"), 0) for at in range(filled)])


def _until_lost(rig: Rig) -> None:
    for _ in range(600):
        rig.clock.sleep(0.02)
        if LOST in rig.row.read().no_rollback:
            return
    raise AssertionError(f"not noticed: {rig.said[-5:]}")


@pytest.mark.parametrize("noticed_by", ["back_capture", "back_sink"])
@pytest.mark.parametrize(("topic", "filled"), [(TOPIC, 0), (TOPIC, 40), (NOTICES, 0)])
def test_a_topic_of_the_way_back_made_again_is_no_way_back(rig: Rig, topic: str, filled: int, noticed_by: str) -> None:
    """Either half notices alone, and says it in the row before anybody can close the target on the strength of it."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    rig.settle_back()
    rig.stopped = {"back_capture", "back_sink"} - {noticed_by}
    _made_again(rig, topic, filled=filled)
    _until_lost(rig)
    assert topic in rig.row.read().no_rollback[LOST]
    assert any(f"{Code.STREAM_REWOUND}] the way back is lost" in one and "tailrace complete" in one for one in rig.said)
    with pytest.raises(Refusal) as refused:
        rig.rollback().run(reason="test")
    assert Code.NO_ROLLBACK == refused.value.code
    assert Authority.TARGET == rig.row.read().authority
    app.run("INSERT INTO cases.t VALUES (11, 'writes go on', NULL)")
    rig.stopped = set()
    rig.row.move(rig.row.read(), Authority.COMPLETED, verb="complete")
    rig.said.clear()
    for _ in range(100):
        rig.step()
    assert [] == rig.said


def test_topics_of_an_earlier_way_back_made_again_cost_nothing(rig: Rig) -> None:
    """It was drained: the next attempt reads them from their beginning."""
    for turn in range(2):
        rig.switch().run(rig.row.read())
        application(rig).run(f"INSERT INTO cases.t VALUES ({10 + turn}, 'there', NULL)")
        rig.settle_back()
        assert rig.target_rows("cases") == rig.source_rows("cases")
        rig.rollback().run(reason="test")
        rig.settle()
        for topic in (TOPIC, NOTICES):
            _made_again(rig, topic)
        rig.transport.delete(WATERMARKS)
    assert [] == rig.said


def test_watermarks_of_the_way_back_made_again_are_written_again(rig: Rig) -> None:
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    rig.settle_back()
    _made_again(rig, WATERMARKS)
    app.run("INSERT INTO cases.t VALUES (11, 'there', NULL)")
    for _ in range(200):
        rig.clock.sleep(0.02)
    rig.settle_back()
    assert rig.target_rows("cases") == rig.source_rows("cases")
    rig.rollback().run(reason="test")
    assert {} == rig.row.read().no_rollback


def test_a_capture_that_restarts_without_its_watermarks_goes_on(rig: Rig) -> None:
    """The target remembers up to where it took entries out: what these speak of is still there, so nothing is lost."""
    rig.switch().run(rig.row.read())
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    rig.settle_back()
    for _ in range(20):
        rig.clock.sleep(0.3)
    assert [(0,)] == rig.target.rows("SELECT count(*) FROM tailrace.log WHERE source = 'cases'")
    _made_again(rig, WATERMARKS)
    rig.sides["cases"].back_capture._half._started = None  # type: ignore[attr-defined]
    app.run("INSERT INTO cases.t VALUES (11, 'there', NULL)")
    rig.settle_back()
    assert rig.target_rows("cases") == rig.source_rows("cases")
    rig.rollback().run(reason="test")
    assert {} == rig.row.read().no_rollback


def test_a_stream_that_is_lost_whole_while_capture_is_away_is_missed(rig: Rig) -> None:
    """No process remembers it, the sink has read none of it, and the target's log is pruned: the target alone knows."""
    rig.switch().run(rig.row.read())
    rig.stopped = {"back_sink"}
    application(rig).run("INSERT INTO cases.t VALUES (10, 'there', NULL)")
    for _ in range(20):
        rig.clock.sleep(0.3)
    for topic in (TOPIC, WATERMARKS, NOTICES):
        _made_again(rig, topic)
    rig.sides["cases"].back_capture._half._started = None  # type: ignore[attr-defined]
    rig.stopped = set()
    _until_lost(rig)
    with pytest.raises(Refusal):
        rig.rollback().run(reason="test")
