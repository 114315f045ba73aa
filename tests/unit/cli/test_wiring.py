"""What the composition root refuses to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.wiring import open_transport
from ops.config import Config, TransportConfig
from schemas.errors import Code, Refusal


@pytest.mark.parametrize(
    "servers", ["kafka.internal:9092", "127.0.0.1:9092,10.0.0.7:9092", "127.0.0.1.evil.example:9092"]
)
def test_records_do_not_leave_the_machine_in_plain_text(tmp_path: Path, servers: str) -> None:
    config = Config(
        {"app": "app.db"}, folder=str(tmp_path), transport=TransportConfig("kafka", bootstrap_servers=servers)
    )
    with pytest.raises(Refusal) as caught:
        open_transport(config)
    assert (Code.PLAINTEXT_REFUSED, True) == (caught.value.code, "plain text" in caught.value.message)
