"""Decide: what a Kafka topic is created with, and what of one that exists would lose data; pure.

Invariant: whatever lets the broker drop a record that a sink still needs is refused by name, with the command that mends
it: a topic that forgets is found out only when the rows are gone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from schemas.ports import TopicSettings

BATCH_ROOM_BYTES = 1024 * 1024
"""What a topic's max.message.bytes has above the largest message: the broker limits a batch with its headers."""
RAISED = frozenset({"max.message.bytes", "min.compaction.lag.ms", "delete.retention.ms"})
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class TopicFound:
    """A topic as the broker describes it."""

    partitions: int
    id: str
    replicas: int = 1


@dataclass(frozen=True, slots=True)
class Finding:
    """One setting that is not as it should be. `verdict`: refused or warning."""

    topic: str
    verdict: str
    text: str
    hint: str
    raises: Mapping[str, str] = field(default_factory=dict)
    """Settings that mend it by going up: these may be altered here, never one that goes down or changes what is kept."""


def wanted_configs(settings: TopicSettings) -> dict[str, str]:
    configs = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}
    if settings.compacted:
        configs |= {
            "cleanup.policy": "compact",
            "min.compaction.lag.ms": str(settings.min_compaction_lag_ms),
            "delete.retention.ms": str(_tombstones_ms(settings)),
        }
    return {**configs, "max.message.bytes": str(settings.max_message_bytes + BATCH_ROOM_BYTES)}


def create_command(name: str, settings: TopicSettings, *, replicas: int) -> str:
    """For an administrator's hands: Kafka's own tool."""
    configs = " ".join(f"--config {key}={value}" for key, value in wanted_configs(settings).items())
    return (
        f"kafka-topics.sh --bootstrap-server HOST:PORT --create --topic {name} "
        f"--partitions {settings.partitions} --replication-factor {replicas} {configs}"
    )


def findings(
    name: str, wanted: TopicSettings, found: TopicFound, configs: Mapping[str, str], *, replicas: int
) -> list[Finding]:
    """What differs and matters, the worst first. `configs`: all effective settings of the topic."""
    refused = [
        Finding(name, "refused", text, _alter(name, mend), mend if mend.keys() <= RAISED else {})
        for text, mend in _lossy(wanted, configs)
    ]
    if found.partitions != wanted.partitions:
        text = f"{found.partitions} partitions, {wanted.partitions} are configured"
        hint = (
            "a topic's partition count never changes: set transport.partitions back; where partitions were added to the topic: "
            f"kafka-topics.sh --bootstrap-server HOST:PORT --delete --topic {name}, start capture, then do what it says"
        )
        refused.insert(0, Finding(name, "refused", text, hint))
    warnings = []
    if found.replicas < replicas:
        text = (
            f"{found.replicas} replicas, transport.replication_factor is {replicas}: fewer disks hold it than asked for"
        )
        warnings.append(Finding(name, "warning", text, "kafka-reassign-partitions.sh adds replicas"))
    if configs.get("unclean.leader.election.enable") == "true":
        text = "unclean.leader.election.enable = true: a leader behind the others may drop acknowledged records"
        warnings.append(Finding(name, "warning", text, _alter(name, {"unclean.leader.election.enable": "false"})))
    return refused + warnings


def raises(found: Iterable[Finding]) -> dict[str, dict[str, str]]:
    """topic -> every setting of it that only has to go up."""
    result: dict[str, dict[str, str]] = {}
    for one in found:
        if one.raises:
            result.setdefault(one.topic, {}).update(one.raises)
    return result


def _lossy(wanted: TopicSettings, configs: Mapping[str, str]) -> list[tuple[str, dict[str, str]]]:
    """(what is wrong, the settings that mend it) of everything that loses data. A setting the broker does not tell is
    not judged: it has none of that name."""
    right = wanted_configs(wanted)
    policy = configs.get("cleanup.policy", right["cleanup.policy"])
    result: list[tuple[str, dict[str, str]]] = []
    if "delete" in policy:
        for key in ("retention.ms", "retention.bytes"):
            if int(configs.get(key, "-1")) >= 0:
                text = f"cleanup.policy = {policy} with {key} = {configs[key]}: records vanish unread"
                result.append((text, {"cleanup.policy": right["cleanup.policy"], key: "-1"}))
    if "compact" in policy and not wanted.compacted:
        text = f"cleanup.policy = {policy}: schemas that records still name would vanish"
        result.append((text, {"cleanup.policy": "delete", "retention.ms": "-1"}))
    if "compact" in policy and wanted.compacted:
        for key, least, why in (
            ("min.compaction.lag.ms", wanted.min_compaction_lag_ms, "a reader inside it would see later states early"),
            ("delete.retention.ms", wanted.min_compaction_lag_ms, "a reader inside it would miss deletes"),
        ):
            value = int(configs.get(key, right[key]))
            if value < least:
                text = f"{key} = {value} is below the replay window of {least}: {why}"
                result.append((text, {key: right[key]}))
    limit = int(configs.get("max.message.bytes", right["max.message.bytes"]))
    if limit < int(right["max.message.bytes"]):
        text = f"max.message.bytes = {limit}, {right['max.message.bytes']} are needed: a large row would stop capture"
        result.append((text, {"max.message.bytes": right["max.message.bytes"]}))
    return result


def _tombstones_ms(settings: TopicSettings) -> int:
    return max(settings.min_compaction_lag_ms, DAY_MS)


def _alter(name: str, settings: Mapping[str, str]) -> str:
    pairs = ",".join(f"{key}={value}" for key, value in settings.items())
    return f"kafka-configs.sh --bootstrap-server HOST:PORT --alter --topic {name} --add-config {pairs}"
