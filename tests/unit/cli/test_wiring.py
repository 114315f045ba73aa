"""What the composition root refuses to build."""

from __future__ import annotations

from pathlib import Path

import pytest

from cli.stream_checks import stream_checks
from cli.wiring import open_transport
from ops.config import Config, TransportConfig
from schemas.errors import Code, ConfigError, Refusal


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


def test_a_folder_is_no_local_log(tmp_path: Path) -> None:
    config = Config({"app": "app.db"}, folder=str(tmp_path), transport=TransportConfig("local", path="."))
    with pytest.raises(ConfigError) as caught:
        open_transport(config)
    assert (Code.CONFIG_INVALID, True) == (caught.value.code, "is a folder" in caught.value.message)
    (found,) = stream_checks(config)
    assert ("refused", caught.value.message) == (found.verdict, found.text)
