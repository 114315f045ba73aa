"""Decide: what an error of kafka-python means here; pure."""

from __future__ import annotations

from kafka import errors

from schemas.errors import Code, Failed, TailraceError, Transient

_DENIED = (errors.AuthorizationError, errors.SaslAuthenticationFailedError)
_AWAY = (errors.RetriableError, errors.KafkaConnectionError, errors.BrokerNotAvailableError, errors.KafkaTimeoutError)


def missing(topic: str) -> TailraceError:
    return Failed(Code.TOPIC_MISSING, f"topic {topic} does not exist", hint="start the capture of this source first")


def translate(error: errors.KafkaError) -> TailraceError:
    """The client's error as ours. Its text may quote a request, never a message: the class and first line are kept."""
    text = f"{type(error).__name__}: {str(error).splitlines()[0][:200] if str(error) else ''}"
    if isinstance(error, _DENIED):
        return Failed(Code.STREAM_DENIED, text, hint="check the credentials and the ACLs of this client")
    if isinstance(error, errors.OffsetOutOfRangeError | errors.NoOffsetForPartitionError):
        return Failed(
            Code.STREAM_REWOUND,
            "the stream no longer holds what is read next: its retention was shorter than the backlog",
            hint="tailrace reset SOURCE copies its tables again; set the topics' retention.ms to -1",
        )
    if isinstance(error, errors.MessageSizeTooLargeError | errors.RecordListTooLargeError):
        return Failed(Code.RECORD_TOO_LARGE, text, hint="the topic's max.message.bytes is too small")
    if isinstance(error, errors.UnknownTopicOrPartitionError):
        return Failed(Code.TOPIC_MISSING, text, hint="start the capture of this source first")
    if isinstance(error, _AWAY):
        return Transient(Code.STREAM_UNREACHABLE, text, hint="it is tried again; check the broker")
    return Failed(Code.STREAM_IO, text, hint="check the broker's log")
