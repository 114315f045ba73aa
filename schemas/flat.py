"""Decide: flat Avro records as bytes and back, a batch at a time; Avro's binary encoding of nullable primitive fields.

Invariant: byte for byte what fastavro writes (test_the_same_bytes_as_fastavro), so any Avro reader reads it; a payload
that is cut off or too long raises, since a slice beyond the end would silently give a shorter value.
Why not fastavro itself: a union per field and a dict per row cost it two thirds of the time; by column, in plain Python,
both directions run three times as fast. The reader is generated from the types alone, no name or value gets into it.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from typing import Any

from schemas.errors import Code, Failed, Refusal

NULL = b"\x00"
_PRESENT = b"\x02"
"""Index 1 of the union ["null", type], zigzag."""
_SMALL_BYTES = 4096
_SMALL_LONGS = range(-1024, 65_536)
_pack_double = struct.Struct("<bd").pack


def _varint(number: int) -> bytes:
    """Zigzag, then seven bits a byte, lowest first."""
    rest = number << 1 if number >= 0 else (-number << 1) - 1
    out = bytearray()
    while rest > 127:
        out.append(rest & 127 | 128)
        rest >>= 7
    out.append(rest)
    return bytes(out)


class _Longs(dict[int, bytes]):
    """Present longs as bytes; small ones are kept, so the table is bounded."""

    def __missing__(self, number: int) -> bytes:
        encoded = _PRESENT + _varint(number)
        if number in _SMALL_LONGS:
            self[number] = encoded
        return encoded


_LONGS = _Longs()
_LENGTHS = [_PRESENT + _varint(length) for length in range(_SMALL_BYTES)]


def _write_longs(values: Iterable[int | None]) -> list[bytes]:
    longs = _LONGS
    return [NULL if value is None else longs[value] for value in values]


def _write_doubles(values: Iterable[float | None]) -> list[bytes]:
    return [NULL if value is None else _pack_double(2, value) for value in values]


def _write_booleans(values: Iterable[bool | None]) -> list[bytes]:
    return [NULL if value is None else b"\x02\x01" if value else b"\x02\x00" for value in values]


def _write_bytes(values: Iterable[bytes | None]) -> list[bytes]:
    lengths = _LENGTHS
    return [
        NULL
        if value is None
        else (lengths[len(value)] if len(value) < _SMALL_BYTES else _PRESENT + _varint(len(value))) + value
        for value in values
    ]


def _write_strings(values: Iterable[str | None]) -> list[bytes]:
    return _write_bytes([None if value is None else value.encode() for value in values])


_WRITERS: dict[str, Callable[[Any], list[bytes]]] = {
    "long": _write_longs,
    "double": _write_doubles,
    "boolean": _write_booleans,
    "bytes": _write_bytes,
    "string": _write_strings,
}


def field_types(schema: str) -> tuple[str, ...]:
    """Primitive types of the fields of a flat record schema. Raises Refusal(FORMAT_NEWER) for any other shape."""
    types = []
    for field in json.loads(schema)["fields"]:
        union = field["type"]
        if not (isinstance(union, list) and len(union) == 2 and union[0] == "null" and union[1] in _WRITERS):
            raise Refusal(
                Code.FORMAT_NEWER,
                f"field {field['name']!r} has Avro type {union!r}, which this Tailrace does not read",
                hint="upgrade this Tailrace",
            )
        types.append(union[1])
    return tuple(types)


def write_columns(types: Sequence[str], columns: Sequence[Iterable[Any]]) -> list[bytes]:
    """One payload a row, from the values by column; every column has the same number of values."""
    written = [_WRITERS[kind](values) for kind, values in zip(types, columns, strict=True)]
    return list(map(b"".join, zip(*written, strict=True)))


def reader(types: Sequence[str]) -> Callable[[Iterable[bytes]], list[tuple[Any, ...]]]:
    """A function from payloads to rows. It raises Failed(STREAM_UNREADABLE) for a payload of another shape."""
    return _reader(tuple(types))


@lru_cache(maxsize=256)  # to compile one takes a millisecond, and it keeps nothing of the records
def _reader(types: tuple[str, ...]) -> Callable[[Iterable[bytes]], list[tuple[Any, ...]]]:
    scope: dict[str, Any] = {"double_at": struct.Struct("<d").unpack_from}
    exec("\n".join(_reader_lines(types)), scope)
    read: Callable[[Iterable[bytes]], list[tuple[Any, ...]]] = scope["read"]

    def checked(payloads: Iterable[bytes]) -> list[tuple[Any, ...]]:
        try:
            return read(payloads)
        except (ValueError, IndexError, struct.error) as error:
            raise Failed(
                Code.STREAM_UNREADABLE,
                "a record is not what its schema says: cut off, or written by another program",
                hint="compare the record with its schema; `tailrace resync TABLE` sends the table anew",
            ) from error

    return checked


def _reader_lines(types: Sequence[str]) -> list[str]:
    """The loop with every field unrolled: `i` is the place in payload `b`, `z` a zigzag number, `s` its shift."""
    lines = ["def read(payloads):", " rows = []", " for b in payloads:", "  i = 0"]
    for at, kind in enumerate(types):
        lines += [f"  if b[i] == 0: v{at} = None; i += 1", "  elif b[i] != 2: raise ValueError(i)", "  else:"]
        if kind == "double":
            lines.append(f"   v{at} = double_at(b, i + 1)[0]; i += 9")
        elif kind == "boolean":
            lines.append(f"   v{at} = b[i + 1] == 1; i += 2")
        else:
            lines += ["   z = b[i + 1]; i += 2", "   if z > 127:", "    z &= 127; s = 7", "    while True:"]
            lines += ["     c = b[i]; i += 1; z |= (c & 127) << s", "     if c < 128: break", "     s += 7"]
            if kind == "long":
                lines.append(f"   v{at} = (z >> 1) ^ -(z & 1)")
            else:
                decode = ".decode()" if kind == "string" else ""
                # An odd z is a negative length.
                lines += [
                    "   if z & 1: raise ValueError(z)",
                    "   j = i + (z >> 1)",
                    f"   v{at} = b[i:j]{decode}; i = j",
                ]
    values = "".join(f"v{at}, " for at in range(len(types)))
    return [*lines, "  if i != len(b): raise ValueError(i)", f"  rows.append(({values}))", " return rows"]
