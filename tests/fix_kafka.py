"""Do: Kafka for tests, for the whole session."""

from __future__ import annotations

import shutil
import tempfile
import time
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


def fresh_topics(address: str, *, driver: str = "kafka-python") -> Transport:
    """A transport on a broker that has no topic of a test before. The client is imported here: it takes its time."""
    from adapters.kafka import PythonDriver
    from adapters.kafka_transport import KafkaTransport

    clear_topics(address)
    if driver == "confluent":
        from adapters.confluent import ConfluentDriver

        return KafkaTransport(lambda: ConfluentDriver(address, {}))
    return KafkaTransport(lambda: PythonDriver(address, {}))


def clear_topics(address: str) -> None:
    import kafka

    admin = kafka.KafkaAdminClient(bootstrap_servers=address)
    names = [name for name in admin.list_topics() if not name.startswith("__")]
    if names:
        admin.delete_topics(names)
    # The controller has deleted them, the broker's own view follows: one that it still shows would not be created anew.
    deadline = time.monotonic() + 20
    while any(not name.startswith("__") for name in admin.list_topics()) and time.monotonic() < deadline:
        time.sleep(0.02)
    admin.close()
