"""What changed since the last clean verification is compared before the claim, and the rest behind the fence."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from cutover.final import Marks
from schemas.authority import Authority
from schemas.errors import Code, Failed
from tests.cutover_rig import Rig, begun


@pytest.fixture
def rig(tmp_path: Path, database_url: str) -> Iterator[Rig]:
    with begun(
        Rig(tmp_path, database_url), "INSERT INTO t VALUES (1, 'one', 'a'), (2, 'two', 'b'), (3, 'three', 'c')"
    ) as made:
        yield made


def marks(rig: Rig) -> Marks:
    return Marks(rig.target, rig.transport, prefix="p")


def verified(rig: Rig) -> None:
    for name in rig.sides:
        marks(rig).store(name, marks(rig).now(name))


def works(rig: Rig) -> None:
    """Rows that are changed, made and deleted on both files."""
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = v || '!' WHERE id = 1")
        side.app.run("INSERT INTO t(v) VALUES ('new')")
        side.app.run("DELETE FROM t WHERE id = 2")


def test_what_changed_is_compared_before_and_behind_the_fence(rig: Rig) -> None:
    verified(rig)
    works(rig)
    rig.settle()
    final = rig.final()
    assert {"auth": (3, ""), "cases": (3, "")} == {name: marks(rig).pending(name) for name in rig.sides}
    assert {"auth": 0, "cases": 0} == final.catch_up()
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'last' WHERE id = 3")
    outcome = rig.switch(final=final).run(rig.row.read())
    assert Authority.TARGET is rig.row.read().authority
    assert {"verify", "drain", "open"} <= set(outcome.parts_s)


@pytest.mark.parametrize("damage", ["UPDATE {}.t SET v = 'x' WHERE id = 3", "DELETE FROM {}.t WHERE id = 3"])
def test_a_difference_behind_the_fence_takes_the_switch_back(rig: Rig, damage: str) -> None:
    verified(rig)
    final = rig.final()
    final.catch_up()
    rig.sides["cases"].app.run("UPDATE t SET v = 'last' WHERE id = 3")
    rig.settle()
    rig.target.run(damage.format("cases"))
    with pytest.raises(Failed, match="1 rows that changed since") as failed:
        rig.switch(final=final).run(rig.row.read())
    assert (Code.FINAL_DIFFERS, "cases", "t") == (failed.value.code, failed.value.source, failed.value.table)
    assert Authority.SOURCE is rig.row.read().authority
    for side in rig.sides.values():
        side.app.run("UPDATE t SET v = 'writers go on' WHERE id = 1")


def test_a_row_that_only_the_target_has_is_seen(rig: Rig) -> None:
    verified(rig)
    rig.sides["auth"].app.run("DELETE FROM t WHERE id = 3")
    rig.settle()
    rig.target.run("INSERT INTO auth.t VALUES (3, 'three', 'c')")
    with pytest.raises(Failed, match="extra") as failed:
        rig.final().catch_up()
    assert Code.FINAL_DIFFERS is failed.value.code
    assert (1, "") == marks(rig).pending("auth")


def test_more_changes_than_fit_take_the_switch_back(rig: Rig) -> None:
    """By keys before the first is compared, by seconds between two pages."""
    verified(rig)
    for turn in range(12):
        rig.sides["cases"].app.run("UPDATE t SET v = ? WHERE id = 1", (f"{turn}",))
        rig.settle()
    for bounds, told in (({"keys": 11}, "cases 12"), ({"budget_s": 0.0}, "final_verify_s = 0")):
        with pytest.raises(Failed, match=told) as failed:
            rig.switch(final=rig.final(**bounds)).run(rig.row.read())  # type: ignore[arg-type]
        assert Code.NOT_COMPARED is failed.value.code
        assert Authority.SOURCE is rig.row.read().authority
    final = rig.final(keys=11)
    final.catch_up()
    rig.switch(final=final).run(rig.row.read())
    assert Authority.TARGET is rig.row.read().authority


def test_what_a_mark_says_ends_with_a_copy_or_another_topic(rig: Rig) -> None:
    assert (None, "no full and clean verification left a mark") == marks(rig).pending("cases")
    verified(rig)
    assert (0, "") == marks(rig).pending("cases")
    rig.target.run("UPDATE tailrace.tables SET generation = generation + 1 WHERE source = 'cases'")
    assert (None, "t was copied since") == marks(rig).pending("cases")
    with pytest.raises(Failed, match="was copied since"):
        rig.switch(final=rig.final()).run(rig.row.read())


def test_the_lease_is_kept_while_the_rest_is_compared(rig: Rig) -> None:
    """Each page takes longer than the lease: the steward would take the switch back under it."""
    verified(rig)
    rig.sides["cases"].app.run("UPDATE t SET v = 'last'")
    rig.settle()
    kept = []
    final = rig.final()
    real = final._compare

    def slow(*arguments: object, **named: object) -> None:
        real(*arguments, **named)  # type: ignore[arg-type]
        rig.clock.ms += 1500

    final._compare = slow  # type: ignore[method-assign]
    final.verify(lambda: kept.append(1))
    rig.sides["auth"].app.run("UPDATE t SET v = 'last'")
    rig.settle()
    final.verify(lambda: kept.append(1))
    assert kept


def test_a_row_that_never_stands_still_is_compared_behind_the_fence(rig: Rig) -> None:
    verified(rig)
    app, looks = rig.sides["cases"].app, []
    app.run("UPDATE t SET v = 'first' WHERE id = 1")
    rig.settle()
    final = rig.final()
    check = final._checks["cases"]._looks
    real = check.digests

    def moves(*arguments: object) -> object:
        """Written again between the look at the source and the look at the target."""
        looks.append(1)
        app.run("UPDATE t SET v = ? WHERE id = 1", (f"{len(looks)}",))
        rig.settle()
        return real(*arguments)  # type: ignore[arg-type]

    check.digests = moves  # type: ignore[method-assign, assignment]
    assert final.catch_up()["cases"] > 0
    check.digests = real  # type: ignore[method-assign]
    rig.settle()
    rig.target.run("UPDATE cases.t SET v = 'x' WHERE id = 1")
    with pytest.raises(Failed, match="1 rows that changed since"):
        rig.switch(final=final).run(rig.row.read())
