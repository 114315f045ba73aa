"""Decide: notices, watermarks and record headers as bytes, and back. JSON, since people read them too."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

from schemas.change import Message, Notice, NoticeKind, Stored, Watermark
from schemas.errors import Code, Failed
from schemas.formats import STREAM, refuse_unreadable

TOPICS = "topics"
"""Header with the topic ids of a watermark: a reader that knows nothing of them is as well off as before."""


def watermark_message(topic: str, watermark: Watermark) -> Message:
    """Compacted under one key per source, so that the last one always stays."""
    document = asdict(watermark)
    headers = ((TOPICS, _json(document.pop("topics"))),)
    document["ends"] = {name: {str(part): end for part, end in ends.items()} for name, ends in watermark.ends.items()}
    return Message(topic, watermark.source.encode(), _json(document), headers, partition=0)


def watermark_of(stored: Stored) -> Watermark:
    """Raises Refusal(FORMAT_NEWER), Failed(STREAM_UNREADABLE)."""
    document = _document(stored)
    document["ends"] = {name: {int(part): end for part, end in ends.items()} for name, ends in document["ends"].items()}
    topics: dict[str, str] = next((json.loads(value) for name, value in stored.headers if name == TOPICS), {})
    return Watermark(**document, topics=topics)


def notice_message(topic: str, notice: Notice) -> Message:
    """One key per table, kind and generation (or row key): compaction keeps each."""
    document = asdict(notice)
    key = f"{notice.kind}:{notice.table}:{notice.generation}:{notice.key}".encode()
    return Message(topic, key, _json({**document, "format": STREAM.current}), partition=0)


def notice_of(stored: Stored) -> Notice:
    document = _document(stored)
    document.pop("format", None)
    return Notice(**{**document, "kind": NoticeKind(document["kind"])})


def record_headers(op: str, seq: int, identity: str) -> tuple[tuple[str, bytes], ...]:
    return (("op", op.encode()), ("seq", str(seq).encode()), ("src", identity.encode()))


def seq_of(stored: Stored) -> int:
    """The label of a record. Raises Failed(STREAM_UNREADABLE) when another program wrote it."""
    for name, value in stored.headers:
        if name == "seq":
            return int(value)
    raise Failed(
        Code.STREAM_UNREADABLE,
        f"a record of {stored.topic} has no seq header",
        position=stored.offset,
        hint="another program writes to this topic; use another transport.prefix",
    )


def _json(document: dict[str, object]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def _document(stored: Stored) -> dict[str, Any]:
    try:
        document = json.loads(stored.value or b"")
    except ValueError as error:
        raise Failed(
            Code.STREAM_UNREADABLE,
            f"{stored.topic} holds something that is not ours",
            position=stored.offset,
            hint="use another transport.prefix",
        ) from error
    refuse_unreadable(STREAM, document.get("format", 1), stored.topic)
    return dict(document)
