"""Do: Kafka for tests, for the whole session."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.kafka import VERSION, EmbeddedKafka, absent
from schemas.ports import Transport
from tests.services import Service, Way, chosen, kafka_container

JARS = Path(__file__).resolve().parent.parent / ".cache" / f"kafka-{VERSION}"


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port (see tests/services.py); skips by name where no broker can be had."""
    choice = chosen(Service.KAFKA, lacking=absent(JARS))
    match choice.way:
        case Way.GIVEN:
            yield choice.address
        case Way.DOCKER:
            with kafka_container() as address:
                yield address
        case Way.EMBEDDED:
            folder = Path(tempfile.mkdtemp(prefix="tailrace-kafka-"))
            broker = EmbeddedKafka(folder / "broker", jars=JARS)
            yield broker.start()
            broker.stop()
            shutil.rmtree(folder, ignore_errors=True)
        case Way.NONE:
            pytest.skip(choice.reason)


def fresh_topics(address: str) -> Transport:
    """A transport on a broker that has no topic of a test before. The client is imported here: it takes its time."""
    import kafka

    from adapters.kafka import KafkaTransport

    admin = kafka.KafkaAdminClient(bootstrap_servers=address)
    names = [name for name in admin.list_topics() if not name.startswith("__")]
    if names:
        admin.delete_topics(names)
    admin.close()
    return KafkaTransport(address)
