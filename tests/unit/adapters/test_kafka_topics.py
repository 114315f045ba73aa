"""What of a topic that exists would lose data, and how an administrator is told."""

from __future__ import annotations

import pytest

from adapters.kafka_topics import TopicFound, create_command, findings, wanted_configs
from schemas.ports import TopicSettings

TABLE = TopicSettings(partitions=2, min_compaction_lag_ms=1000 * 86400, max_message_bytes=1000)
SCHEMAS = TopicSettings(partitions=2, compacted=False, max_message_bytes=1000)
FOUND = TopicFound(2, "id", replicas=1)


def _said(wanted: TopicSettings, **changed: str) -> list[tuple[str, str]]:
    configs = wanted_configs(wanted) | {key.replace("_", "."): value for key, value in changed.items()}
    return [(one.verdict, one.text) for one in findings("t", wanted, FOUND, configs, replicas=1)]


def test_a_topic_as_we_create_it_is_fine() -> None:
    assert [[], []] == [_said(TABLE), _said(SCHEMAS)]
    assert [] == _said(TABLE, cleanup_policy="compact,delete")
    assert [] == _said(TABLE, cleanup_policy="delete")


@pytest.mark.parametrize(
    ("wanted", "changed", "word"),
    [
        (TABLE, {"cleanup_policy": "compact,delete", "retention_ms": "604800000"}, "retention.ms = 604800000"),
        (TABLE, {"cleanup_policy": "delete", "retention_bytes": "1000"}, "retention.bytes = 1000"),
        (TABLE, {"min_compaction_lag_ms": "0"}, "min.compaction.lag.ms = 0"),
        (TABLE, {"delete_retention_ms": "1000"}, "delete.retention.ms = 1000"),
        (TABLE, {"max_message_bytes": "1000"}, "max.message.bytes = 1000"),
        (SCHEMAS, {"cleanup_policy": "compact"}, "schemas that records still name"),
        (SCHEMAS, {"retention_ms": "1"}, "retention.ms = 1"),
    ],
)
def test_what_loses_data_is_refused_with_its_mending(wanted: TopicSettings, changed: dict[str, str], word: str) -> None:
    configs = wanted_configs(wanted) | {key.replace("_", "."): value for key, value in changed.items()}
    (one,) = findings("t", wanted, FOUND, configs, replicas=1)
    assert ("refused", True) == (one.verdict, word in one.text)
    mended = configs | dict(pair.split("=") for pair in one.hint.rpartition(" ")[2].split(","))
    assert [] == findings("t", wanted, FOUND, mended, replicas=1)


def test_other_partitions_come_first_and_fewer_disks_are_a_warning() -> None:
    told = findings("t", TABLE, TopicFound(3, "id", 1), wanted_configs(TABLE), replicas=3)
    assert ["refused", "warning"] == [one.verdict for one in told]
    assert "3 partitions, 2 are configured" == told[0].text
    assert ["warning"] == [verdict for verdict, _ in _said(TABLE, unclean_leader_election_enable="true")]


def test_an_administrator_gets_the_whole_command() -> None:
    command = create_command("p.app.t-x", TABLE, replicas=3)
    for part in ("--topic p.app.t-x", "--partitions 2", "--replication-factor 3", "min.compaction.lag.ms=86400000"):
        assert part in command
