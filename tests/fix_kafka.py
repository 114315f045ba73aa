"""Do: Kafka for tests: a running one from the environment, else the embedded one, for the whole session.

`TAILRACE_TEST_KAFKA=host:port` names a broker that runs already.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from embedded.kafka import EmbeddedKafka
from schemas.errors import Refusal
from schemas.ports import Transport

JARS = Path(__file__).resolve().parent.parent / ".cache" / "kafka-4.3.0"


@pytest.fixture(scope="session")
def kafka_address() -> Iterator[str]:
    """host:port; skips by name without Java or the jars."""
    given = os.environ.get("TAILRACE_TEST_KAFKA")
    if given:
        yield given
        return
    folder = Path(tempfile.mkdtemp(prefix="tailrace-kafka-"))
    broker = EmbeddedKafka(folder / "broker", jars=JARS)
    try:
        address = broker.start()
    except Refusal as refusal:
        pytest.skip(f"embedded Kafka: {refusal.message}")
    yield address
    broker.stop()
    shutil.rmtree(folder, ignore_errors=True)


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
