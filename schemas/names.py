"""Decide: every name that leaves a database: topics, Avro names, PostgreSQL identifiers; each escape is injective.

Trap: "Order Details" is a legal table and no legal topic; two names that fold to one are refused, never merged.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping

from schemas.errors import Code, Refusal

TOPIC_MAX_CHARS = 249
"""Kafka: org.apache.kafka.common.internals.Topic, MAX_NAME_LENGTH."""
PG_NAME_MAX_BYTES = 63
"""PostgreSQL: NAMEDATALEN - 1; longer identifiers are cut off silently by the server."""
PRIMARY_KEY_SUFFIX = "_pkey"

_PG_SYSTEM_COLUMNS = frozenset({"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"})
_TAKEN_SCHEMAS = frozenset({"tailrace", "information_schema"})
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")
_AVRO_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def escape_topic_part(name: str) -> str:
    """Escape one part of a topic name: letters, digits and '-' stay; every other byte becomes `_hh` (hex).

    Injective, since `_` itself is escaped as `_5f`; '.' is left for joining parts.
    """
    return "".join(
        c if c in _SAFE else "".join(f"_{byte:02x}" for byte in c.encode("utf-8", "surrogatepass")) for c in name
    )


def unescape_topic_part(part: str) -> str:
    raw = re.sub(rb"_([0-9a-f]{2})", lambda match: bytes([int(match[1], 16)]), part.encode("ascii"))
    return raw.decode("utf-8", "surrogatepass")


def topic_of(prefix: str, source: str, table: str) -> str:
    """Topic of a table: `<prefix>.<source>.<table>`; `t-` keeps tables apart from our own topics' names."""
    return _checked_topic(f"{prefix}.{escape_topic_part(source)}.t-{escape_topic_part(table)}")


def watermark_topic(prefix: str, source: str) -> str:
    return _checked_topic(f"{prefix}.{escape_topic_part(source)}.watermarks")


def notice_topic(prefix: str, source: str) -> str:
    return _checked_topic(f"{prefix}.{escape_topic_part(source)}.notices")


def schema_topic(prefix: str) -> str:
    return f"{prefix}.schemas"


def _checked_topic(topic: str) -> str:
    if len(topic) <= TOPIC_MAX_CHARS:
        return topic
    digest = hashlib.sha256(topic.encode("ascii")).hexdigest()[:32]
    return f"{topic[: TOPIC_MAX_CHARS - 34]}.{digest}"


def avro_name(name: str) -> str:
    """An Avro name ([A-Za-z_][A-Za-z0-9_]*) from any identifier. Injective by escaping every other byte and `_` where
    it could be read as an escape; plain snake_case names stay as they are."""
    if re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(_[A-Za-z0-9]+)*", name) and not re.search(r"_x[0-9a-f]{2}", name):
        return name
    out = "".join(
        c
        if c in _AVRO_SAFE and not (at == 0 and c.isdigit())
        else "".join(f"_x{byte:02x}" for byte in c.encode("utf-8", "surrogatepass"))
        for at, c in enumerate(name)
    )
    return out or "_x"


def quote(name: str) -> str:
    """A quoted SQL identifier, the same form on SQLite and PostgreSQL."""
    return '"' + name.replace('"', '""') + '"'


def beside_parameters(sql: str) -> str:
    """Identifiers for a statement that is run with parameters: there PostgreSQL's driver reads % as a placeholder, and a
    column may well be named "%s" (test_hard_case, odd column names)."""
    return sql.replace("%", "%%")


def text_literal(text: str) -> str:
    """A quoted SQL string literal for generated trigger and DDL text (never for row values)."""
    return "'" + text.replace("'", "''") + "'"


def fold(name: str, *, preserve: bool = False) -> str:
    """Target identifier of a source identifier before collisions are checked: ASCII lower case unless preserved."""
    if preserve:
        return name
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


def target_names(names: Iterable[str], *, preserve: bool = False, what: str = "column") -> Mapping[str, str]:
    """Map source identifiers to target identifiers.

    Empty names, PostgreSQL's system columns and tables that are called like the primary key of another are renamed with
    a visible suffix; names over 63 bytes are cut and given a digest; two names that come out equal are refused.

    Raises: Refusal(NAME_COLLISION).
    """
    result: dict[str, str] = {}
    taken: dict[str, str] = {}
    for name in names:
        target = fold(name, preserve=preserve)
        if target == "":
            target = "_empty"
        if what == "column" and target in _PG_SYSTEM_COLUMNS:
            target = f"{target}_"
        if what == "table" and target.endswith(PRIMARY_KEY_SUFFIX):
            # An index and a table share one name space: the key of t is called t_pkey.
            target = f"{target}_"
        if what == "schema" and (target.startswith("pg_") or target in _TAKEN_SCHEMAS):
            target = f"s_{target}"
        target = short(target)
        if target in taken:
            raise Refusal(
                Code.NAME_COLLISION,
                f"{what}s {taken[target]!r} and {name!r} both become {target!r} on the target",
                hint='set identifiers = "preserve", or exclude one of them',
            )
        taken[target] = name
        result[name] = target
    return result


def short(name: str) -> str:
    """At most 63 bytes: a longer name is cut at a character and given 8 hex digits of its SHA-256."""
    raw = name.encode("utf-8", "replace")
    if len(raw) <= PG_NAME_MAX_BYTES:
        return name
    digest = hashlib.sha256(raw).hexdigest()[:8]
    return raw[: PG_NAME_MAX_BYTES - 9].decode("utf-8", "ignore") + "_" + digest


def constraint_name(table: str, *parts: str, suffix: str) -> str:
    """Explicit name of a target constraint, index or sequence, so that PostgreSQL never picks one itself."""
    return short("_".join((table, *parts, suffix)))
