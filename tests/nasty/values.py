"""Values that SQLite stores and others lose, by class; everything from one seeded generator."""

from __future__ import annotations

import random
import struct
from datetime import UTC, datetime, timedelta

Nasty = int | float | str | bytes | None
"""As the driver binds them; text that is not UTF-8 is `Raw`."""


class Raw(bytes):
    """Bytes to be stored as TEXT."""


INTS = (0, 1, -1, 2**63 - 1, -(2**63), 2**53 + 1, -(2**53) - 1, 2**31, -(2**31) - 1, 10**15, 10**16)
REALS = (
    *(
        0.0,
        -0.0,
        0.1,
        1e308,
        -1e308,
        5e-324,
        2.2250738585072014e-308,
        1.7976931348623157e308,
        float("inf"),
        -float("inf"),
    ),
    *(
        1.0,
        1e15,
        1e16,
        1e17,
        2.0**63,
        -(2.0**63),
        2.0**53,
        123456789.123456789,
        1e-7,
        3.0000000000000004,
        1e20,
        0.30000000000000004,
    ),
)
TEXTS = (
    *(
        "",
        " ",
        "a",
        "A",
        "é",
        "e\u0301",
        "Straße",
        "𝕏",
        "\ufeffbom",
        "\u2028",
        "\x7f",
        "\\N",
        "\\.",
        "\t\n\r",
        "null",
        "NULL",
    ),
    *(
        "1",
        "1.0",
        "01",
        "007",
        " 5",
        "5 ",
        "+5",
        "1e5",
        "0x10",
        "1_0",
        "nan",
        "inf",
        "Infinity",
        "9e999",
        "-0",
        "-0.0",
        "1e400",
    ),
    *(
        "true",
        "false",
        "t",
        "f",
        "yes",
        "no",
        "now",
        "epoch",
        "2024-02-29",
        "2024-02-30",
        "0000-00-00",
        "2024-02-29 12:00:00",
    ),
    *('{"a": 1}', '{"blob": "AA=="}', '{"real": "inf"}', "[]", '"x"', "'; DROP TABLE t; --", "%s %d %%", "a" * 3000),
    *(
        "trailing  ",
        "\ud7ff",
        "\uffff",
        "\U0010ffff",
        "9223372036854775808",
        "-9223372036854775809",
        "12345678901234567890",
    ),
)
NULS = ("\x00", "a\x00b", "a\x00", "\x00a", "1\x00")
BAD = (
    Raw(b"\xff"),
    Raw(b"ok\xed\xa0\x80"),
    Raw(b"\xc0\x80"),
    Raw(b"a\x00\xff"),
    Raw(b"\xf4\x90\x80\x80"),
    Raw(b"caf\xe9"),
)
BLOBS = (b"", b"\x00", b"abc", b"\xff\xfe", b'{"a": 1}', b"1", "é".encode(), bytes(range(256)))


def random_real(rng: random.Random) -> float:
    """Any bit pattern that is a number."""
    while True:
        value: float = struct.unpack("<d", rng.randbytes(8))[0]
        if value == value:
            return value


def any_value(rng: random.Random, *, bad: bool = True) -> Nasty:
    """Any class. `bad`: also text that is not UTF-8."""
    kind = rng.randrange(12 if bad else 11)
    match kind:
        case 0:
            return None
        case 1 | 2:
            return rng.choice(INTS) if rng.random() < 0.5 else rng.randrange(-(2**63), 2**63)
        case 3 | 4:
            return rng.choice(REALS) if rng.random() < 0.5 else random_real(rng)
        case 5 | 6 | 7:
            return rng.choice(TEXTS)
        case 8:
            return "".join(chr(rng.randrange(1, 0xD800)) for _ in range(rng.randrange(12)))
        case 9:
            return rng.choice(NULS)
        case 10:
            return rng.choice(BLOBS) if rng.random() < 0.5 else rng.randbytes(rng.randrange(40))
        case _:
            return rng.choice(BAD)


def moment(rng: random.Random) -> datetime:
    return datetime(1990, 1, 1, tzinfo=UTC) + timedelta(seconds=rng.randrange(2 * 10**9))


def date_row(rng: random.Random) -> tuple[Nasty, ...]:
    """Five formats, one of each column, and any of them in the last but one."""
    at = moment(rng)
    forms: tuple[Nasty, ...] = (
        at.strftime("%Y-%m-%d"),
        at.strftime("%Y-%m-%d %H:%M:%S"),
        at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        at.strftime("%m/%d/%Y"),
        int(at.timestamp()),
        at.timestamp() / 86400 + 2440587.5,
    )
    return (*forms, rng.choice(forms), f"{at:%Y-%m-%dT%H:%M:%S}.{rng.randrange(1, 10**6):06d}")


def bool_row(rng: random.Random) -> tuple[Nasty, ...]:
    bits, words, letters, answers = (
        rng.choice((0, 1)),
        rng.choice(("true", "false")),
        rng.choice("tf"),
        rng.choice(("yes", "no")),
    )
    return (bits, words, letters, answers, rng.choice((bits, words, letters, answers, None)))
