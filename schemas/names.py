"""Decide: every name that leaves a database: topics, Avro names, PostgreSQL identifiers; each escape is injective.

Trap: "Order Details" is a legal table and no legal topic; of two names that would become one, one gets a digest, none is merged.
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
_ASCII_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
"""SQLite folds identifiers in ASCII alone: columns É and é are two (test_columns_that_only_unicode_folds_together)."""
_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-")
_AVRO_SAFE = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789")


def escape_topic_part(name: str) -> str:
    """Escape one part of a topic name: letters, digits and '-' stay; every other byte becomes `_hh` (hex).

    Injective, since `_` itself is escaped as `_5f`; '.' is left for joining parts.
    """
    return "".join(
        c if c in _SAFE else "".join(f"_{byte:02x}" for byte in c.encode("utf-8", "surrogatepass")) for c in name
    )


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


def text_beside_parameters(text: str) -> str:
    """The same for a statement that is run with parameters: a reason may well be "50 % of the rows are wrong"
    (test_a_reason_with_a_percent_sign)."""
    return beside_parameters(text_literal(text))


def fold(name: str, *, preserve: bool = False) -> str:
    """Target identifier of a source identifier before collisions are checked: ASCII lower case unless preserved."""
    if preserve:
        return name
    return name.translate(_ASCII_LOWER)


def target_names(names: Iterable[str], *, preserve: bool = False, what: str = "column") -> Mapping[str, str]:
    """Map source identifiers to target identifiers.

    Empty names, PostgreSQL's system columns and tables that are called like the primary key of another are renamed with
    a visible suffix; names over 63 bytes are cut and given a digest. A renamed one never takes the name of one that stays
    as it is: it gets a digest of its own, whatever the order of the names. Schemas are the operator's to name.

    Raises: Refusal(NAME_COLLISION) for two schemas that become one.
    """
    wanted = {name: fold(name, preserve=preserve) for name in names}
    renamed = {name: _usable(target, what) for name, target in wanted.items()}
    # Those that keep their name come first; SQLite itself tells no two of them apart by case alone.
    taken = {target: name for name, target in renamed.items() if target == wanted[name]}
    result: dict[str, str] = {}
    for name, target in renamed.items():
        if taken.setdefault(target, name) != name:
            if what == "schema":
                raise Refusal(
                    Code.NAME_COLLISION,
                    f"{what}s {taken[target]!r} and {name!r} both become {target!r} on the target",
                    hint='set identifiers = "preserve", or give one a name in [target_schemas]',
                )
            target = with_digest(target, name)
            taken[target] = name
        result[name] = target
    return result


def _usable(target: str, what: str) -> str:
    if target == "":
        target = "_empty"
    if what == "column" and target in _PG_SYSTEM_COLUMNS:
        target = f"{target}_"
    if what == "table" and target.endswith(PRIMARY_KEY_SUFFIX):
        # An index and a table share one name space: the key of t is called t_pkey.
        target = f"{target}_"
    if what == "schema" and (target.startswith("pg_") or target in _TAKEN_SCHEMAS):
        target = f"s_{target}"
    return short(target)


def with_digest(target: str, name: str) -> str:
    """Another target name for `name`, where `target` belongs to somebody else."""
    return short(f"{target}_{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:8]}")


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
