"""Each rule of the protocol, taken out, makes the pipeline model fail: the model can see what the rules are for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import capture.chunk
import capture.tail
import sink.postgres_target
import sink.tail
from schemas.change import Progress
from schemas.errors import TailraceError
from tests.model.test_pipeline import model_url, one_run

RUNS = 60
FIRST_SEED = {"one floor per source": 100, "copy counts at once": 12}
"""Where the first run that shows it lies further on: it takes a table that is copied while another one is applied."""


def _label_is_the_entrys_seq(patch: pytest.MonkeyPatch) -> None:
    """A row read late is labelled as if it had been read early."""
    real = capture.chunk.records

    def records(*arguments: Any, head: int, **named: Any) -> Any:
        return real(*arguments, head=max(0, head - 3), **named)

    patch.setattr(capture.chunk, "records", records)


def _one_floor_per_source(patch: pytest.MonkeyPatch) -> None:
    """What other tables applied counts for a table that is still being copied."""
    patch.setattr(Progress, "floor_of", lambda self, table: max(self.tables[table].floor, self.applied))


def _no_floor(patch: pytest.MonkeyPatch) -> None:
    """Records older than the copied row are applied over it."""
    patch.setattr(Progress, "floor_of", lambda self, table: 0)


def _watermark_before_the_head(patch: pytest.MonkeyPatch) -> None:
    """Every chunk closes a cut, although its view held more entries. The sink alone would notice by the labels above
    the watermark, so that its look is taken out too."""
    patch.setattr(sink.tail, "seq_of", lambda stored: 0)
    real = capture.tail.CaptureTail._publish

    def publish(self: Any, chunk: Any, *arguments: Any) -> None:
        real(self, replace(chunk, reached=True), *arguments)

    patch.setattr(capture.tail.CaptureTail, "_publish", publish)


def _copy_counts_at_once(patch: pytest.MonkeyPatch) -> None:
    """A table counts as caught up below the head of its last chunk's view."""
    real = sink.postgres_target.PostgresTarget._states

    def states(self: Any, before: Progress, seq: int) -> None:
        self._target.run("UPDATE tailrace.tables SET last_head = 0 WHERE source = %s", (self._source,))
        real(self, before, seq)

    patch.setattr(sink.postgres_target.PostgresTarget, "_states", states)


MUTATIONS: dict[str, Callable[[pytest.MonkeyPatch], None]] = {
    "label is the entry's seq": _label_is_the_entrys_seq,
    "one floor per source": _one_floor_per_source,
    "no floor": _no_floor,
    "watermark before the head, and no look at labels": _watermark_before_the_head,
    "copy counts at once": _copy_counts_at_once,
}


@pytest.mark.parametrize("rule", list(MUTATIONS))
def test_a_rule_taken_out_is_noticed(
    tmp_path: Path, model_url: str, rule: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    MUTATIONS[rule](monkeypatch)
    first = FIRST_SEED.get(rule, 0)
    for seed in range(first, first + RUNS):
        try:
            one_run(tmp_path, model_url, seed)
        except (AssertionError, TailraceError):
            return
    pytest.fail(f"{RUNS} runs without the rule and nothing was noticed")


__all__ = ["model_url"]
