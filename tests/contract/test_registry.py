"""One suite over every registry: ids are the same for equal schemas, stay, and any schema may follow any other."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from adapters.locallog import LocalLog
from adapters.registry import TopicRegistry
from adapters.registry_http import HttpRegistry
from schemas.errors import Code, Failed, Refusal
from schemas.ports import Registry, Transport
from tests.fakes.registry import FakeRegistry
from tests.fakes.transport import FakeTransport
from tests.fix_registry import ask

TOPIC = "p.schemas"
_numbers = itertools.count(1)


def schema(kind: str, **properties: object) -> str:
    """A row schema as Tailrace writes them: nullable fields, properties with what the sink needs."""
    field = {"name": "v", "type": ["null", kind], "default": None, "tailrace.codec": kind}
    document = {"type": "record", "name": "t", "namespace": "tailrace.app", "fields": [field], **properties}
    return json.dumps(document, separators=(",", ":"))


@pytest.fixture(params=["fake", "local"])
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Transport]:
    made: Transport = FakeTransport() if request.param == "fake" else LocalLog(tmp_path / "stream.db")
    yield made
    made.close()


class Opened:
    """One registry that several processes open. `demand` tells it to ask for compatibility from now on."""

    def __init__(self, make: Callable[[], Registry], demand: Callable[[str], object]) -> None:
        self.open = make
        self.demand = demand


@pytest.fixture(params=["topic on fake", "topic on local log", "http", "apicurio"])
def registries(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opened]:
    """`apicurio` is a real one."""
    transport: Transport = LocalLog(tmp_path / "stream.db") if "local" in request.param else FakeTransport()
    if "topic" in request.param:
        yield Opened(lambda: TopicRegistry(transport, TOPIC), lambda _: None)
    elif request.param == "http":
        fake = FakeRegistry()
        yield Opened(lambda: HttpRegistry(fake.url, transport, TOPIC), lambda name: fake.levels.update({name: "FULL"}))
        fake.close()
    else:
        url = request.getfixturevalue("registry_url")
        yield Opened(lambda: HttpRegistry(url, transport, TOPIC), lambda name: demand(url, name))
    transport.close()


def demand(url: str, subject: str = "") -> None:
    ask(f"{url}/config/{subject}".rstrip("/"), method="PUT", body={"compatibility": "BACKWARD"})


@pytest.fixture
def subject() -> str:
    """Of this test alone: a real registry lives as long as the session."""
    return f"p{next(_numbers)}.app.t-Order_20Details-value"


def test_equal_schemas_have_one_id_that_stays(registries: Opened, subject: str) -> None:
    registry = registries.open()
    texts = [schema("long", n=1), schema("string", n=2), schema("long", n=1)]
    one, two, again = (registry.register(subject, text) for text in texts)
    assert one == again
    assert one != two
    assert [one, two] == [registries.open().register(subject, text) for text in texts[:2]]


def test_schemas_come_back_with_their_properties(registries: Opened, subject: str) -> None:
    text = schema("bytes", **{"tailrace.plan": '{"table":"t \\"x\\"","codec":"é"}', "n": 3})
    number = registries.open().register(subject, text)
    assert json.loads(text) == json.loads(registries.open().schema(number))


def test_the_latest_of_a_subject(registries: Opened, subject: str) -> None:
    registry = registries.open()
    assert None is registry.latest(subject)
    for kind in ("boolean", "long"):
        registry.register(subject, schema(kind, n=4))
    registry.register(f"{subject}2", schema("string", n=4))
    assert json.loads(schema("long", n=4)) == json.loads(registries.open().latest(subject) or "")


def test_a_reader_that_meets_an_unknown_id_reads_again(registries: Opened, subject: str) -> None:
    reader = registries.open()
    assert None is reader.latest(subject)
    number = registries.open().register(subject, schema("double", n=5))
    assert json.loads(schema("double", n=5)) == json.loads(reader.schema(number))
    with pytest.raises(Failed) as caught:
        reader.schema(2_000_000_000)
    assert Code.SCHEMA_UNKNOWN == caught.value.code


def test_a_widening_passes_a_registry_that_asks_for_compatibility(registries: Opened, subject: str) -> None:
    ids = {registries.open().register(subject, schema(kind, n=6)) for kind in ("boolean", "long")}
    registries.demand(subject)
    ids |= {registries.open().register(subject, schema(kind, n=6)) for kind in ("string", "bytes")}
    assert 4 == len(ids)


def test_a_real_registry_whose_own_rule_wins_is_refused_at_once(registry_url: str, subject: str) -> None:
    """Apicurio lets no subject be freer than its global rule, and answers as if it did."""
    demand(registry_url)
    try:
        with pytest.raises(Refusal) as caught:
            HttpRegistry(registry_url, FakeTransport(), TOPIC).register(subject, schema("long"))
    finally:
        ask(f"{registry_url}/config", method="PUT", body={"compatibility": "NONE"})
    assert Code.REGISTRY_REFUSED == caught.value.code
    assert "BACKWARD" in caught.value.message


def test_ids_of_the_topic_are_places(stream: Transport) -> None:
    registry = TopicRegistry(stream, TOPIC)
    assert [1, 2, 1] == [registry.register("s", text) for text in ("A", "B", "A")]
    assert 3 == registry.register("other", "A")
    assert {1: ("s", "A"), 2: ("s", "B"), 3: ("other", "A")} == TopicRegistry(stream, TOPIC).known()


def test_a_schemas_topic_that_was_made_again_is_refused(stream: Transport, monkeypatch: pytest.MonkeyPatch) -> None:
    registry = TopicRegistry(stream, TOPIC)
    registry.register("s", "A")
    monkeypatch.setattr(stream, "topic_ids", lambda topics: dict.fromkeys(topics, "another"))
    with pytest.raises(Refusal) as caught:
        registry.register("s", "B")
    assert Code.STREAM_REWOUND == caught.value.code


def test_a_reader_makes_no_topic(stream: Transport) -> None:
    reader = TopicRegistry(stream, TOPIC, create=False)
    assert {} == reader.known()
    assert {} == dict(stream.topics(TOPIC))
    TopicRegistry(stream, TOPIC).register("s", "A")
    assert {1: ("s", "A")} == reader.known()


def test_another_registry_behind_the_same_stream_is_refused(stream: Transport) -> None:
    """Ids begin at 1 everywhere: rows would be read with a schema of somebody else."""
    first, second = FakeRegistry(), FakeRegistry()
    try:
        written = HttpRegistry(first.url, stream, TOPIC)
        number = written.register("s", schema("long"))
        strange = HttpRegistry(second.url, FakeTransport(), "q.schemas")
        assert number == strange.register("x", schema("string"))
        for other in (HttpRegistry(second.url, stream, TOPIC), TopicRegistry(stream, TOPIC)):
            for use in (
                lambda o=other: o.schema(number),
                lambda o=other: o.latest("s"),
                lambda o=other: o.register("s", "{}"),
            ):
                with pytest.raises(Refusal) as caught:
                    use()
                assert Code.REGISTRY_OTHER == caught.value.code
                assert first.url in caught.value.message
        second.schemas, second.subjects = first.schemas, first.subjects
        moved = HttpRegistry(second.url, stream, TOPIC)
        assert json.loads(schema("long")) == json.loads(moved.schema(number))
    finally:
        first.close()
        second.close()


def test_a_stream_with_its_own_schemas_is_not_read_with_a_registry(stream: Transport) -> None:
    TopicRegistry(stream, TOPIC).register("s", schema("long"))
    fake = FakeRegistry()
    try:
        with pytest.raises(Refusal) as caught:
            HttpRegistry(fake.url, stream, TOPIC).register("s", schema("long"))
        assert Code.REGISTRY_OTHER == caught.value.code
        assert [] == fake.asked
    finally:
        fake.close()
