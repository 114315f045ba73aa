"""Ids of schemas: the place of the record, the same for equal schemas, found by a reader that started earlier."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from adapters.registry import TopicRegistry
from schemas.errors import Code, Failed
from schemas.ports import Transport
from tests.fakes.transport import FakeTransport


@pytest.fixture(params=["fake", "local"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    made: Transport = FakeTransport() if request.param == "fake" else LocalLog(tmp_path / "stream.db")
    yield made
    made.close()


def test_ids_are_places_and_stay(stream: Transport) -> None:
    registry = TopicRegistry(stream, "p.schemas")
    assert [registry.register("s", text) for text in ("A", "B", "A")] == [1, 2, 1]
    assert registry.register("other", "A") == 3
    assert TopicRegistry(stream, "p.schemas").known() == {1: ("s", "A"), 2: ("s", "B"), 3: ("other", "A")}


def test_a_reader_that_meets_an_unknown_id_reads_again(stream: Transport) -> None:
    reader = TopicRegistry(stream, "p.schemas")
    assert reader.known() == {}
    TopicRegistry(stream, "p.schemas").register("s", "A")
    assert reader.schema(1) == "A"
    with pytest.raises(Failed) as caught:
        reader.schema(2)
    assert caught.value.code == Code.SCHEMA_UNKNOWN
