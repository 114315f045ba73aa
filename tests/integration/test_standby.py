"""The target fails over to a real standby, which lacks what the primary committed last: forward nothing is lost, and inside the
window what was lost is no way back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import NamedTuple

import pytest

from adapters.postgres import Postgres
from adapters.postgres_connect import connection_parameters, may_lead_to_standby
from cli.way_back import TIMELINE
from schemas.authority import Authority
from schemas.errors import Code, Refusal, TailraceError, Transient
from sink.progress import read_progress
from tests.cutover_rig import FILLED, Rig, application, begun
from tests.fix_postgres import with_database
from tests.standby import Pair, pair


class FailedOver(NamedTuple):
    """Three migrations on one server, each in a database of its own, behind one failover."""

    forward: Rig
    applied: int
    window: Rig
    lost_switch: Rig


@pytest.fixture(scope="module")
def failed_over(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FailedOver]:
    with ExitStack() as held:
        servers = held.enter_context(pair())
        forward, window, lost_switch = (
            held.enter_context(begun(_rig(servers, tmp_path_factory, name), FILLED))
            for name in ("forward", "way_back", "lost_switch")
        )
        window.timeline = window.target.rows(TIMELINE)[0][0]
        window.switch().run(window.row.read())
        window.fence().witness(window.row.read().token)
        app = application(window)
        app.run("INSERT INTO cases.t VALUES (60, 'kept', NULL)")
        window.settle_back()
        servers.cut()
        applied = _written_forward(forward)
        app.run("INSERT INTO cases.t VALUES (61, 'lost there, and came back', NULL)")
        window.settle_back()
        assert [1, 2, 60, 61] == [row[0] for row in window.source_rows("cases")]
        lost_switch.switch().run(lost_switch.row.read())
        lost_switch.fence().witness(lost_switch.row.read().token)
        servers.fail_over()
        for rig in (forward, window, lost_switch):
            for session in (one for one in rig.opened if isinstance(one, Postgres)):
                with suppress(TailraceError):
                    session.rows("SELECT 1")
        yield FailedOver(forward, applied, window, lost_switch)


def _rig(servers: Pair, folders: pytest.TempPathFactory, name: str) -> Rig:
    admin = Postgres(servers.url, application_name="tests")
    admin.run(f"CREATE DATABASE {name}")
    admin.close()
    return Rig(folders.mktemp(name), with_database(servers.url, name))


def _written_forward(rig: Rig) -> int:
    """What was applied then."""
    app = rig.sides["cases"].app
    for at in range(10, 40):
        app.run("INSERT INTO t VALUES (?, 'lost there', NULL)", (at,))
        if at % 10 == 0:
            rig.settle()
    app.run("UPDATE t SET u = 'swapped' WHERE id = 2")
    app.run("DELETE FROM t WHERE id = 1")
    rig.settle()
    progress = read_progress(rig.target, "cases")
    assert progress is not None
    return progress.applied


def test_forward_nothing_is_lost(failed_over: FailedOver) -> None:
    """The promoted server's progress is older than what was applied, and than every offset that was committed."""
    rig = failed_over.forward
    after = read_progress(rig.target, "cases")
    assert after is not None
    assert after.applied < failed_over.applied
    rig.settle()
    rig.sides["cases"].app.run("INSERT INTO t VALUES (50, 'behind it', NULL)")
    rig.settle()
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)
    rig.timeline = rig.target.rows(TIMELINE)[0][0]
    rig.switch().run(rig.row.read())
    application(rig).run("INSERT INTO cases.t VALUES (51, 'there', NULL)")
    rig.rollback().run(reason="test")
    rig.settle()
    assert 51 in [row[0] for row in rig.source_rows("cases")]
    assert rig.source_rows("cases") == rig.target_rows("cases")


def test_inside_the_window_what_was_lost_is_no_way_back(failed_over: FailedOver) -> None:
    rig = failed_over.window
    timeline = rig.target.rows(TIMELINE)[0][0]
    assert rig.timeline < timeline
    rig.timeline = timeline
    assert [1, 2, 60] == [row[0] for row in rig.target_rows("cases")]
    app = application(rig)
    app.run("INSERT INTO cases.t VALUES (62, 'under a number that was given out before', NULL)")
    for _ in range(6):
        rig.step()
    assert any("may lack" in why for why in rig.row.read().no_rollback.values())
    with pytest.raises(Refusal) as refused:
        rig.rollback().run(reason="test")
    assert Code.NO_ROLLBACK is refused.value.code
    # Writes go on where they are; nothing else was closed or lifted.
    app.run("INSERT INTO cases.t VALUES (63, 'still there', NULL)")
    assert Authority.TARGET is rig.row.read().authority
    assert all(one.fence is not None for one in rig.fence().carried().values())


def test_a_switch_that_the_standby_never_saw_moves_nothing(failed_over: FailedOver) -> None:
    """The open is lost with the primary: the sources are fenced by a later token than the promoted server knows."""
    rig = failed_over.lost_switch
    assert Authority.SOURCE is rig.row.read().authority
    with pytest.raises(Refusal) as refused:
        rig.rollback().run(reason="test")
    assert Code.AUTHORITY_BEHIND is refused.value.code
    rig.rollback().accept_lost(reason="the primary is gone")
    rig.sides["cases"].app.run("INSERT INTO t VALUES (70, 'goes on', NULL)")
    rig.settle()
    for name in rig.sides:
        assert rig.source_rows(name) == rig.target_rows(name)


def test_a_server_that_takes_no_writes_is_tried_again(database_url: str) -> None:
    """A session that stayed on a server that became a standby ended its daemon with a permanent error."""
    admin = Postgres(database_url, application_name="tests")
    name = admin.rows("SELECT quote_ident(current_database())")[0][0]
    admin.run(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    session = Postgres(database_url, application_name="sink")
    with pytest.raises(Transient, match="takes no writes") as refused:
        session.run("CREATE TABLE t(id int)")
    assert "target_session_attrs=read-write" in refused.value.hint
    with pytest.raises(Transient), session.transaction():
        session.run("CREATE TABLE t(id int)")
    admin.run("SET default_transaction_read_only = off")
    admin.run(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    session.run("CREATE TABLE t(id int)")
    session.close()
    admin.close()


@pytest.mark.parametrize(
    ("url", "may"),
    [
        ("postgresql://u@a:1,b:2/d", True),
        ("postgresql://u@a,b/d?target_session_attrs=any", True),
        ("postgresql://u@a,b/d?target_session_attrs=prefer-standby", True),
        ("postgresql://u@a:1,b:2/d?target_session_attrs=read-write", False),
        ("postgresql://u@a,b/d?target_session_attrs=primary", False),
        ("postgresql://u@a/d", False),
    ],
)
def test_a_list_of_hosts_that_may_lead_to_a_standby_is_named(url: str, may: bool) -> None:
    assert may == may_lead_to_standby(connection_parameters(url))
