"""Where capture starts, and every reason not to, on real files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.sqlite import SqliteDatabase
from capture import meta as metas
from capture.cut import digest
from capture.install import accept_history, install
from capture.position import Known, known_of, start_position
from capture.prune import prune
from capture.sqlite_source import SqliteSource
from schemas.change import Notice, NoticeKind, Watermark
from schemas.errors import Code, Refusal
from schemas.model import LOG
from schemas.ports import TopicSettings
from schemas.wire import notice_message, watermark_message
from tests.fakes.transport import FakeTransport


@pytest.fixture
def db(tmp_path: Path) -> Iterator[SqliteDatabase]:
    one = SqliteDatabase(tmp_path / "cases.db", create=True)
    one.run("CREATE TABLE cases(id INTEGER PRIMARY KEY)")
    install(one, "one", wal=True)
    one.run("INSERT INTO cases VALUES (1), (2), (3), (4), (5), (6), (7), (8), (9)")
    yield one
    one.close()


def watermark(db: SqliteDatabase, seq: int, *, identity: str = "one") -> Watermark:
    with SqliteSource(db, "main").view() as view:
        entry = view.entry(seq)
    return Watermark("main", seq, {}, 5, identity, "", digest(entry) if entry else "elsewhere")


def start(db: SqliteDatabase, last: Watermark | None, *, highest: int = 0) -> int:
    known = Known(last, {}, {}, frozenset(), highest)
    with SqliteSource(db, "main").view() as view:
        return start_position(view, metas.read(db), known, source="main").seq


def refusal(db: SqliteDatabase, last: Watermark | None) -> Refusal:
    with pytest.raises(Refusal) as refused:
        start(db, last)
    assert "tailrace reset main --accept-history" in refused.value.hint
    assert "main" == refused.value.source
    return refused.value


def test_an_empty_stream_starts_at_the_beginning(db: SqliteDatabase) -> None:
    assert 0 == start(db, None)


def test_the_last_watermark_is_the_position(db: SqliteDatabase) -> None:
    assert 6 == start(db, watermark(db, 6))


def test_pruned_to_is_the_position_where_the_stream_knows_less(db: SqliteDatabase) -> None:
    """Compaction may have taken the newer watermarks; what was pruned was acknowledged."""
    older = watermark(db, 3)
    prune(db, upto=8, batch_rows=100, pruned_to=0)
    assert 7 == start(db, older)
    assert 7 == start(db, None)


def test_the_pruned_log_still_proves_the_last_watermark(db: SqliteDatabase) -> None:
    last = watermark(db, 8)
    prune(db, upto=8, batch_rows=100, pruned_to=0)
    assert 8 == start(db, last)


def test_another_identity_is_another_database(db: SqliteDatabase) -> None:
    assert Code.SOURCE_REPLACED == refusal(db, watermark(db, 6, identity="two")).code


def test_a_head_behind_the_position_is_an_older_copy(db: SqliteDatabase) -> None:
    last = Watermark("main", 500, {}, 5, "one", "", "x")
    found = refusal(db, last)
    assert (Code.SOURCE_REPLACED, 500) == (found.code, found.position)


def test_records_above_the_head_are_of_commits_that_are_gone(db: SqliteDatabase) -> None:
    assert 6 == start(db, watermark(db, 6), highest=8)
    with pytest.raises(Refusal) as refused:
        start(db, watermark(db, 6), highest=500)
    assert (Code.SOURCE_REPLACED, 500) == (refused.value.code, refused.value.position)


def test_another_entry_at_the_known_seq_is_a_fork(db: SqliteDatabase) -> None:
    last = watermark(db, 6)
    db.run(f"UPDATE {LOG} SET k0 = 77 WHERE seq = 6")
    assert Code.SOURCE_FORKED == refusal(db, last).code


def test_a_deleted_row_of_the_watermark_is_a_gap(db: SqliteDatabase) -> None:
    last = watermark(db, 6)
    db.run(f"DELETE FROM {LOG} WHERE seq = 6")
    assert Code.LOG_GAP == refusal(db, last).code


def test_a_gap_above_the_position_is_refused(db: SqliteDatabase) -> None:
    last = watermark(db, 6)
    db.run(f"DELETE FROM {LOG} WHERE seq IN (7, 8)")
    found = refusal(db, last)
    assert Code.LOG_GAP == found.code
    assert "7 to 8" in found.message


def test_an_accepted_history_starts_above_everything_known(db: SqliteDatabase) -> None:
    last = Watermark("main", 500, {}, 5, "one", "", "x")
    accept_history(db, 500)
    assert 500 <= start(db, last)


def test_an_accepted_installation_goes_on_under_the_known_identity(db: SqliteDatabase) -> None:
    """Refused for its identity, and accepted without one, it would be refused for ever; a copy of a generation that the
    target knows already would be taken for done."""
    tables = [one.name for one in metas.read(db).tables.values()]
    accept_history(db, 500, identity="another", generations=dict.fromkeys(tables, 7))
    meta = metas.read(db)
    assert "another" == meta.identity
    assert [8] == [one.generation for one in meta.tables.values()]
    assert 500 <= start(db, Watermark("main", 500, {}, 5, "another", "", "x"))


def stream() -> FakeTransport:
    transport = FakeTransport()
    transport.create_topics({"w": TopicSettings(), "n": TopicSettings()})
    return transport


def test_a_stale_watermark_written_late_does_not_move_the_position_back() -> None:
    transport = stream()
    for seq in (5, 9, 7):
        transport.send([watermark_message("w", Watermark("main", seq, {}, seq, "one", "", ""))])
    last = known_of(transport, watermarks="w", notices="n").last
    assert last is not None
    assert 9 == last.seq


def test_an_empty_stream_knows_nothing() -> None:
    known = known_of(stream(), watermarks="w", notices="n")
    assert (None, {}, frozenset()) == (known.last, dict(known.announced), known.gone)


def test_notices_tell_the_last_generation_and_what_is_gone() -> None:
    transport = stream()
    told = [
        (NoticeKind.COPY, "cases", 1),
        (NoticeKind.COPY, "cases", 3),
        (NoticeKind.COPY, "cases", 2),
        (NoticeKind.COPY, "tags", 1),
        (NoticeKind.GONE, "tags", 1),
        (NoticeKind.COPY, "notes", 1),
        (NoticeKind.GONE, "notes", 1),
        (NoticeKind.COPY, "notes", 2),
        (NoticeKind.QUARANTINE, "cases", 0),
    ]
    for kind, table, generation in told:
        transport.send([notice_message("n", Notice(kind, "main", table, 1, "", generation))])
    known = known_of(transport, watermarks="w", notices="n")
    assert {"cases": 3, "tags": 1, "notes": 2} == known.announced
    assert {"tags"} == known.gone
