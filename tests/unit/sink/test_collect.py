"""Which watermarks the sink may follow."""

from __future__ import annotations

import pytest

from schemas.change import Progress, Watermark
from schemas.errors import Code, Refusal
from sink.collect import distinct, refuse_foreign


def test_a_watermark_of_another_installation_is_refused() -> None:
    """It counts from 1 again: below what was applied its changes would be passed over as old ones."""
    progress = Progress("s", "me", 900, None, True, "old", {}, {})
    refuse_foreign(Watermark("s", 1000, {}, 5, "old", "", ""), progress)
    with pytest.raises(Refusal) as refused:
        refuse_foreign(Watermark("s", 3, {}, 5, "new", "", ""), progress)
    assert Code.SOURCE_REPLACED is refused.value.code
    assert "--accept-history" in refused.value.hint


def test_a_target_that_knows_nothing_follows_whoever_comes() -> None:
    refuse_foreign(Watermark("s", 3, {}, 5, "new", "", ""), Progress("s", "me", 0, None, False, "", {}, {}))


def test_an_idle_hour_leaves_one_watermark() -> None:
    """Every look walks over what is kept: after half an hour of idling that took a whole core."""
    ends = {"t": {0: 7}}
    hour = [Watermark("s", 9, ends, at, "i", "", "", heartbeat=True) for at in range(3600)]
    before, moved = Watermark("s", 8, ends, 0, "i", "", ""), Watermark("s", 9, {"t": {0: 8}}, 4000, "i", "", "")
    assert [before, hour[-1], moved] == distinct([before, *hour, moved])
