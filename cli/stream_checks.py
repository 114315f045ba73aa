"""Do: look at the broker and its topics before anything depends on them; the local log needs no look."""

from __future__ import annotations

from capture.outlet import WATERMARKS
from cli.check_result import CheckResult
from cli.kafka import open_kafka
from cli.way_back import back_prefix
from cli.wiring import open_source, open_transport, refuse_folder, topic_settings
from ops.config import Config
from schemas.errors import TailraceError
from schemas.introspect import introspect
from schemas.names import notice_topic, schema_topic, topic_of, watermark_topic
from schemas.ports import TopicSettings


def stream_checks(config: Config) -> list[CheckResult]:
    """Findings; what cannot be reached or is refused is one of them."""
    try:
        if config.transport.kind != "kafka":
            refuse_folder(config)
            return []
        transport = open_kafka(config, for_s=0.0)
    except TailraceError as error:
        return [CheckResult("stream connects", "refused", error.message, error.hint)]
    results = [CheckResult("stream connects", "ok", f"Kafka, {config.transport.driver}")]
    try:
        found = transport.findings(wanted_topics(config))
    except TailraceError as error:
        return [CheckResult("stream connects", "refused", error.message, error.hint)]
    finally:
        transport.close()
    results += [CheckResult(f"topic {one.topic}", one.verdict, one.text, one.hint) for one in found]
    if not found:
        results.append(CheckResult("stream topics", "ok", "none that exists would lose a record"))
    return results


def way_back_fault(config: Config) -> tuple[str, str]:
    """(what keeps the stream from taking what the target would write after a switch, the next step); empty: nothing.

    Topics that are missing are made at the switch, but not an administrator's: writes would have moved, with no way back."""
    try:
        if config.transport.kind != "kafka":
            transport = open_transport(config)
            try:
                transport.topics(back_prefix(config))
            finally:
                transport.close()
            return "", ""
        broker = open_kafka(config, for_s=0.0)
        try:
            found = broker.findings(wanted_topics(config, back_prefix(config)))
        finally:
            broker.close()
    except TailraceError as error:
        return error.message, error.hint or "tailrace check"
    wrong = [one for one in found if one.verdict == "refused"]
    if not wrong:
        return "", ""
    more = f", and {len(wrong) - 1} more topics" if wrong[1:] else ""
    return f"topic {wrong[0].topic}: {wrong[0].text}{more}", "; ".join(one.hint for one in wrong)


def wanted_topics(config: Config, prefix: str = "") -> dict[str, TopicSettings]:
    """Every topic of this configuration with the settings capture makes it with; a source that cannot be read has its
    own finding and gives only its fixed topics. `prefix`: of the way back, whose schemas are in the same topic."""
    topics = {schema_topic(config.transport.prefix): TopicSettings(partitions=1, compacted=False)}
    prefix = prefix or config.transport.prefix
    for source in config.source_databases:
        topics[watermark_topic(prefix, source)] = WATERMARKS
        topics[notice_topic(prefix, source)] = TopicSettings()
        try:
            db = open_source(config, source, read_only=True)
        except TailraceError:
            continue
        try:
            with db.read_view():
                tables = introspect(db).tables
        except TailraceError:
            continue
        finally:
            db.close()
        names = [name for name in tables if config.wants(name)]
        topics |= {topic_of(prefix, source, name): topic_settings(config) for name in names}
    return topics
