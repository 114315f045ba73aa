"""Decide: what happened to the stream, in our words and the same for both Kafka clients; pure.

Denied and untrusted are Transient: a daemon goes on by itself once the secret or the certificate is right again; `check`
refuses them.
"""

from __future__ import annotations

from schemas.errors import Code, Failed, TailraceError, Transient


def denied_login(text: str) -> TailraceError:
    return Transient(
        Code.STREAM_DENIED,
        f"Kafka refuses the login of this client ({text})",
        hint="check the user, the password and sasl_mechanism in [transport.client]; they are read again at each attempt",
    )


def denied_operation(text: str) -> TailraceError:
    return Transient(
        Code.STREAM_DENIED,
        f"Kafka does not allow this client what it asks for ({text})",
        hint="give its user the ACLs; it is tried again",
    )


def rewound() -> TailraceError:
    return Failed(
        Code.STREAM_REWOUND,
        "the stream no longer holds what is read next: its retention was shorter than the backlog",
        hint="tailrace reset SOURCE copies its tables again; set the topics' retention.ms to -1",
    )


def too_large(text: str) -> TailraceError:
    return Failed(Code.RECORD_TOO_LARGE, text, hint="the topic's max.message.bytes is too small")


def away(text: str) -> TailraceError:
    return Transient(Code.STREAM_UNREACHABLE, text, hint="it is tried again; check the broker")


def moving(text: str) -> TailraceError:
    """The brokers are reached, and sort something out among themselves: the connection stays."""
    return Transient(Code.STREAM_BUSY, f"Kafka is not ready ({text})", hint="it is tried again; check the brokers")
