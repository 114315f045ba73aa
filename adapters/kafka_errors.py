"""Decide: what an error of a Kafka client means here; pure.

Denied and untrusted are Transient: a daemon goes on by itself once the secret or the certificate is right again; `check`
refuses them.
"""

from __future__ import annotations

from kafka import errors

from adapters.kafka_verdicts import away, denied_login, denied_operation, moving, rewound, too_large
from schemas.errors import Code, ConfigError, Failed, TailraceError

_LOGIN = (errors.SaslAuthenticationFailedError, errors.UnsupportedSaslMechanismError, errors.IllegalSaslStateError)
_MOVING = (
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    errors.CoordinatorLoadInProgressError,
    errors.CoordinatorNotAvailableError,
    errors.NotCoordinatorError,
)
_AWAY = (errors.RetriableError, errors.KafkaConnectionError, errors.BrokerNotAvailableError, errors.KafkaTimeoutError)


def translate(error: errors.KafkaError) -> TailraceError:
    """The client's error as ours. Its text may quote a request, never a message: the class and first line are kept."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    if isinstance(error, errors.KafkaConfigurationError):
        # Its text quotes values.
        return ConfigError(Code.CONFIG_INVALID, "kafka-python refuses its settings", hint="check [transport.client]")
    if isinstance(error, _LOGIN):
        return denied_login(type(error).__name__)
    if isinstance(error, errors.AuthorizationError):
        return denied_operation(text)
    if isinstance(error, errors.OffsetOutOfRangeError | errors.NoOffsetForPartitionError):
        return rewound()
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return too_large(text)
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return Failed(Code.TOPIC_MISSING, text, hint="start the capture of this source first")
    if isinstance(error, _MOVING):
        return moving(text)
    if isinstance(error, _AWAY):
        return away(text)
    return Failed(Code.STREAM_IO, text, hint="check the broker's log")
