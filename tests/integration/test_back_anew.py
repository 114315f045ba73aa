"""The way back begun anew after its topics were lost: every row is sent again, and until all have arrived nothing is promised."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.postgres import Postgres
from capture.sqlite_source import SqliteSource
from cli.back_anew import begin_back_anew
from cutover.way_back import AGAIN, regain
from schemas.authority import Authority
from schemas.change import Message
from schemas.errors import Code, Refusal, Transient
from schemas.names import notice_topic, topic_of, watermark_topic
from schemas.wire import record_headers
from tests.cutover_rig import TABLE, Rig, application, begun
from tests.model.world import SteppingClock
from verify.verification import Verification

LOST = "changes of cases since the switch"
TABLES = ("t", "Odd keys")
TOPICS = (
    *(topic_of("p-back", "cases", table) for table in TABLES),
    notice_topic("p-back", "cases"),
    watermark_topic("p-back", "cases"),
)
ODD = 'CREATE TABLE "Odd keys"(k REAL, b BLOB, v TEXT, PRIMARY KEY (k, b)) WITHOUT ROWID'


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(
        Rig(tmp_path, database_url, TABLE, ODD),
        "INSERT INTO t VALUES (1, ?, 'a'), (2, 'two', 'b'), (3, 'three', 'c')",
        """INSERT INTO "Odd keys" VALUES (0.5, x'00', 'half'), (-0.0, x'ff', 'zero'), (1.0, x'', 'one')""",
    ) as made:
        made.switch().run(made.row.read())
        yield made


def made_again(rig: Rig) -> None:
    for topic in TOPICS:
        settings = rig.transport._settings[topic]
        rig.transport.delete(topic)
        rig.transport.create_topics({topic: settings})


def filled(rig: Rig) -> None:
    """With something else in them."""
    made_again(rig)
    rig.transport.send([Message(TOPICS[0], b"k%d" % at, None, record_headers("d", 1, "x"), 0) for at in range(40)])


def cut_short(rig: Rig) -> None:
    """The same topics, below what was acknowledged and read."""
    for where, messages in rig.transport._messages.items():
        if where.topic in TOPICS[:3]:
            del messages[:]


def deleted(rig: Rig) -> None:
    for topic in TOPICS:
        rig.transport.delete(topic)


def write(app: Postgres, turn: int) -> None:
    """Changes of every kind."""
    app.run(f"INSERT INTO cases.t VALUES ({10 + turn}, 'only there', NULL)")
    app.run(f"UPDATE cases.t SET v = 'changed {turn}' WHERE id = 1")
    app.run(f"DELETE FROM cases.t WHERE id = {9 + turn}")


def write_more(app: Postgres) -> None:
    app.run("DELETE FROM cases.t WHERE id = 3")
    app.run("""DELETE FROM cases."odd keys" WHERE v IN ('zero', 'one')""")
    app.run("""UPDATE cases."odd keys" SET k = 0.75 WHERE v = 'half'""")


def equal(rig: Rig) -> None:
    assert rig.target_rows("cases") == rig.source_rows("cases")
    there = rig.target_rows("cases", 'SELECT * FROM {}."odd keys" ORDER BY k')
    assert there == rig.source_rows("cases", 'SELECT * FROM "Odd keys" ORDER BY k')


def verified(rig: Rig) -> None:
    source = SqliteSource(rig.sqlite(rig.sides["cases"].path), "cases")
    report = Verification(source, source, rig.postgres(), SteppingClock(), expected=list(TABLES)).run(())
    assert report.clean, report.as_json()


def refused(rig: Rig) -> None:
    with pytest.raises(Refusal) as why:
        rig.rollback().run(reason="test")
    assert (Code.NO_ROLLBACK, Authority.TARGET) == (why.value.code, rig.row.read().authority)


def anew(rig: Rig) -> int:
    db = rig.sqlite(rig.sides["cases"].path)
    return begin_back_anew(rig.transport, rig.postgres(), db, prefix="p-back", schemas="p.schemas", source="cases")


def until_lost(rig: Rig) -> None:
    for _ in range(600):
        rig.clock.sleep(0.02)
        if LOST in rig.row.read().no_rollback:
            return
    raise AssertionError(f"not noticed: {rig.said[-5:]}")


def until_regained(rig: Rig) -> None:
    for _ in range(600):
        rig.clock.sleep(0.02)
        before = rig.row.read()
        regain(rig.row, before, rig.look_back())
        if not rig.row.read().no_rollback:
            return
    raise AssertionError(f"not regained: {rig.row.read().no_rollback} {rig.look_back()} {rig.said[-5:]}")


@pytest.mark.parametrize("lose", [made_again, filled, cut_short, deleted])
def test_a_way_back_that_was_lost_is_begun_anew(rig: Rig, lose: Callable[[Rig], None]) -> None:
    """What was written before, while and after: all of it is there after the rollback, and what was deleted is gone."""
    app = application(rig)
    write(app, 0)
    rig.settle_back()
    rig.stopped = {"back_sink"}
    write(app, 1)
    write_more(app)
    for _ in range(20):  # published, and pruned from the target's log
        rig.clock.sleep(0.3)
    assert [(0,)] == rig.target.rows("SELECT count(*) FROM tailrace.log WHERE source = 'cases'")
    lose(rig)
    rig.stopped = set()
    until_lost(rig)
    assert any("tailrace reset cases --way-back --yes cases" in one for one in rig.said)
    refused(rig)
    write(app, 2)
    assert anew(rig) > 0
    assert {LOST: AGAIN} == rig.row.read().no_rollback
    refused(rig)
    rig.said.clear()
    write(app, 3)
    until_regained(rig)
    rig.settle_back()
    equal(rig)
    write(app, 4)
    rig.rollback().run(reason="test")
    rig.settle()
    equal(rig)
    verified(rig)
    assert [] == [one for one in rig.said if Code.STREAM_REWOUND in one]


POINTS = ("back_anew.listed", "back_anew.resting", "back_anew.logging", "back_anew.logged", "back_anew.taken_up")


def test_a_crash_between_any_two_steps_promises_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    app = application(rig)
    write(app, 0)
    rig.settle_back()
    rig.stopped = {"back_sink"}
    write_more(app)
    for _ in range(20):
        rig.clock.sleep(0.3)
    made_again(rig)
    rig.stopped = set()
    until_lost(rig)
    for turn, point in enumerate(POINTS, 1):

        def dies(name: str, point: str = point) -> None:
            if name == point:
                raise KeyboardInterrupt

        monkeypatch.setattr("cli.back_anew.reach", dies)
        with pytest.raises(KeyboardInterrupt):
            anew(rig)
        write(app, turn)
        for _ in range(20):
            rig.clock.sleep(0.02)
            if point != POINTS[-1]:
                assert [] == regain(rig.row, rig.row.read(), rig.look_back())
        refused(rig)
    monkeypatch.undo()
    anew(rig)
    until_regained(rig)
    rig.rollback().run(reason="test")
    rig.settle()
    equal(rig)
    verified(rig)


def test_a_rollback_that_lost_its_stream_is_finished(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both sides are closed: nothing can be written anew, and nothing that was written may be missing."""
    app = application(rig)

    def dies(name: str) -> None:
        if name == "rollback.arrived":
            rig.stopped = {"back_sink"}
            write(app, 0)
            write_more(app)
            for _ in range(20):
                rig.clock.sleep(0.3)
        if name == "rollback.closed":
            raise KeyboardInterrupt

    monkeypatch.setattr("cutover.rollback.reach", dies)
    with pytest.raises(KeyboardInterrupt):
        rig.rollback().run(reason="test")
    monkeypatch.undo()
    made_again(rig)
    rig.stopped = set()
    until_lost(rig)
    with pytest.raises(Transient) as late:
        rig.rollback().run(reason="test")
    assert (Code.DRAIN_TIMEOUT, Authority.TO_SOURCE) == (late.value.code, rig.row.read().authority)
    anew(rig)
    rig.rollback().run(reason="test")
    rig.settle()
    equal(rig)
    verified(rig)


def test_nothing_is_sent_back_while_writes_belong_to_the_sources(rig: Rig) -> None:
    rig.rollback().run(reason="test")
    with pytest.raises(Refusal) as why:
        anew(rig)
    assert Code.VERB_ILLEGAL == why.value.code
