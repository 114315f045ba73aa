"""Decide: what an error of librdkafka means here; pure."""

from __future__ import annotations

import confluent_kafka as ck

from adapters import kafka_verdicts as verdicts
from schemas.errors import Code, Failed, TailraceError

_E = ck.KafkaError
_LOGIN = frozenset(
    {_E._AUTHENTICATION, _E.SASL_AUTHENTICATION_FAILED, _E.UNSUPPORTED_SASL_MECHANISM, _E.ILLEGAL_SASL_STATE}
)
_DENIED = frozenset({_E.TOPIC_AUTHORIZATION_FAILED, _E.GROUP_AUTHORIZATION_FAILED, _E.CLUSTER_AUTHORIZATION_FAILED})
_REWOUND = frozenset({_E.OFFSET_OUT_OF_RANGE, _E._AUTO_OFFSET_RESET, _E._NO_OFFSET})
UNKNOWN_TOPIC = frozenset({_E.UNKNOWN_TOPIC_OR_PART, _E._UNKNOWN_TOPIC, _E._UNKNOWN_PARTITION})
_TOO_LARGE = frozenset({_E.MSG_SIZE_TOO_LARGE, _E.RECORD_LIST_TOO_LARGE})
_AWAY = frozenset(
    {
        _E._ALL_BROKERS_DOWN,
        _E._TRANSPORT,
        _E._RESOLVE,
        _E._TIMED_OUT,
        _E._MSG_TIMED_OUT,
        _E._WAIT_COORD,
        _E._PURGE_QUEUE,
        _E._PURGE_INFLIGHT,
        _E.NETWORK_EXCEPTION,
        _E.REQUEST_TIMED_OUT,
        _E.BROKER_NOT_AVAILABLE,
    }
)
_MOVING = frozenset(
    {
        _E.LEADER_NOT_AVAILABLE,
        _E.NOT_LEADER_FOR_PARTITION,
        _E.REPLICA_NOT_AVAILABLE,
        _E.FENCED_LEADER_EPOCH,
        _E.UNKNOWN_LEADER_EPOCH,
        _E.NOT_ENOUGH_REPLICAS,
        _E.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
        _E.COORDINATOR_LOAD_IN_PROGRESS,
        _E.COORDINATOR_NOT_AVAILABLE,
        _E.NOT_COORDINATOR,
    }
)


def translate(error: ck.KafkaError, why: ck.KafkaError | None) -> TailraceError:
    """librdkafka's error as ours; `why`: what it said of the connection before. Its texts quote hosts, never messages."""
    if error.code() in _AWAY and why is not None:
        error = why
    code, text = error.code(), f"{error.name()}: {error.str()[:200]}"
    if code in _LOGIN:
        return verdicts.denied_login(error.name())
    if code in _DENIED:
        return verdicts.denied_operation(text)
    if code in _REWOUND:
        return verdicts.rewound()
    if code in _TOO_LARGE:
        return verdicts.too_large(text)
    if code in UNKNOWN_TOPIC:
        return Failed(Code.TOPIC_MISSING, text, hint="start the capture of this source first")
    if code in _MOVING:
        return verdicts.moving(text)
    if code in _AWAY or code == _E._SSL or error.retriable():
        return verdicts.away(text)
    return Failed(Code.STREAM_IO, text, hint="check the broker's log")
