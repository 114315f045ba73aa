"""Decide: SQLite's scalar functions whose value PostgreSQL gives too; a white list. Pure.

Invariant: a function that may differ for some ordinary value is not here; its name is in the reason.
Traps: `max(a, b)` is NULL where one is, GREATEST is not (test_an_expression_has_one_value_on_both_sides); `substr` with a
negative start counts from the end; PostgreSQL's round() of a double rounds halves to even.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from schemas.comparisons import compare, folded, glob, like
from schemas.grammar import Untranslatable
from schemas.pieces import (
    LAST_BITS,
    RANGE,
    START,
    UNORDERED,
    Kind,
    Piece,
    as_text,
    combined,
    common_kind,
    integer,
    text,
    truth,
    value_of,
)

Function = Callable[[Sequence[Piece]], Piece]
ADVICE = {
    "random": "random() gives another range there; gen_random_uuid() makes keys",
    "randomblob": "use gen_random_uuid() or pgcrypto's gen_random_bytes()",
    "printf": "use format() or to_char()",
    "format": "use to_char()",
    "julianday": "extract(julian FROM ..)",
    "last_insert_rowid": "INSERT .. RETURNING",
    "changes": "the driver's row count",
    "total_changes": "the driver's row count",
}


def call(name: str, arguments: Sequence[Piece]) -> Piece:
    """Raises Untranslatable naming the function."""
    known = _FUNCTIONS.get(name)
    if known is None or len(arguments) not in known[0]:
        if name.startswith("json"):
            raise Untranslatable(f"{name}() works on SQLite's JSON text; use the operators of json or jsonb")
        advice = f"; {ADVICE[name]}" if name in ADVICE else ""
        raise Untranslatable(f"function {name}() with {len(arguments)} arguments has no counterpart here{advice}")
    return known[1]([as_text(one) for one in arguments])


def chosen(pieces: Sequence[Piece]) -> Piece:
    """coalesce, ifnull: the first that is not NULL, with its class."""
    kind = common_kind(list(pieces))
    return combined(f"coalesce({', '.join(value_of(one, kind) for one in pieces)})", kind, *pieces)


def _either(pieces: Sequence[Piece]) -> Piece:
    condition, rest = pieces[0], [*pieces[1:]]
    kind = common_kind(rest)
    values = [value_of(one, kind) for one in rest]
    tail = f" ELSE {values[1]}" if len(values) > 1 else ""
    return combined(f"CASE WHEN {truth(condition)} THEN {values[0]}{tail} END", kind, *pieces)


def _null_if(pieces: Sequence[Piece]) -> Piece:
    one, other = pieces
    kind = common_kind([one])
    if other.kind in (Kind.MIXED, Kind.NUMERIC):
        raise Untranslatable(f"nullif() with {other.kind} values")
    # A function's arguments have no affinity: nullif(n, '1') never finds the text '1' in a column of integers.
    condition = compare(replace(one, affinity=""), "=", replace(other, affinity=""))
    return combined(f"CASE WHEN {condition.sql} THEN NULL ELSE {value_of(one, kind)} END", kind, one, other)


def _folding(function: str) -> Function:
    def translated(pieces: Sequence[Piece]) -> Piece:
        return combined(f'{function}({_only_text(pieces[0])} COLLATE "C")', Kind.TEXT, pieces[0])

    return translated


def _only_text(piece: Piece) -> str:
    """Numbers become text in these functions too, but only text and NULL are sure to look alike."""
    if piece.kind is Kind.BLOB:
        raise Untranslatable("a text function over a blob")
    return text(piece)


def _length(pieces: Sequence[Piece]) -> Piece:
    (one,) = pieces
    if one.kind is Kind.BLOB:
        return combined(f"octet_length({one.sql})::bigint", Kind.INT, one)
    return combined(f"length({text(one)})::bigint", Kind.INT, one)


def _abs(pieces: Sequence[Piece]) -> Piece:
    (one,) = pieces
    if one.kind is Kind.REAL:
        # SQLite turns what is below zero, and -0.0 is not.
        return combined(f"CASE WHEN {one.sql} < 0 THEN - {one.sql} ELSE {one.sql} END", Kind.REAL, one)
    return combined(f"abs({integer(one)})", Kind.INT, one)


def _round(pieces: Sequence[Piece]) -> Piece:
    """Halves away from zero, as SQLite's own code does it; past 2^52 a double has no fraction."""
    (one,) = pieces
    if one.kind in (Kind.INT, Kind.BOOL):
        return combined(f"({integer(one)})::double precision", Kind.REAL, one)
    if one.kind is not Kind.REAL:
        raise Untranslatable(f"round() of a {one.kind} value")
    r = one.sql
    half = f"trunc({r} + CASE WHEN {r} < 0 THEN -0.5 ELSE 0.5 END) + 0.0"
    return combined(f"CASE WHEN abs({r}) > 4503599627370496 THEN {r} ELSE {half} END", Kind.REAL, one)


def _sign(pieces: Sequence[Piece]) -> Piece:
    (one,) = pieces
    inner = one.sql if one.kind is Kind.REAL else f"({integer(one)})::double precision"
    return combined(f"sign({inner})::bigint", Kind.INT, one)


def _trim(function: str) -> Function:
    def translated(pieces: Sequence[Piece]) -> Piece:
        characters = _only_text(pieces[1]) if len(pieces) == 2 else "' '"
        return combined(f"{function}({_only_text(pieces[0])}, {characters})", Kind.TEXT, *pieces)

    return translated


def _instr(pieces: Sequence[Piece]) -> Piece:
    one, other = (_only_text(piece) for piece in pieces)
    return combined(f"strpos({one}, {other})::bigint", Kind.INT, *pieces)


def _replace(pieces: Sequence[Piece]) -> Piece:
    return combined(f"replace({', '.join(_only_text(one) for one in pieces)})", Kind.TEXT, *pieces)


def _substr(pieces: Sequence[Piece]) -> Piece:
    source, start = _only_text(pieces[0]), pieces[1]
    if len(pieces) == 3:
        length = pieces[2]
        small = all(one.literal and isinstance(one.value, int) and 0 <= one.value < 2**30 for one in (start, length))
        if not small:
            raise Untranslatable("substr() with a start or a length that may be negative")
        return combined(f"substr({source}, {start.sql}, {length.sql})", Kind.TEXT, *pieces)
    if start.literal and isinstance(start.value, int) and abs(start.value) < 2**30:
        if start.value < 0:
            return combined(f"right({source}, {-start.value})", Kind.TEXT, *pieces)
        return combined(f"substr({source}, {start.sql})", Kind.TEXT, *pieces)
    at = integer(start)
    tail = f"right({source}, (-greatest({at}, -1073741823))::int)"
    head = f"substr({source}, least({at}, 1073741823)::int)"
    # greatest and least leave a NULL out. SQLite 3.40 takes a start modulo 2^32, later versions do not.
    sql = f"CASE WHEN {at} < 0 THEN {tail} WHEN {at} >= 0 THEN {head} END"
    return combined(sql, Kind.TEXT, *pieces, caveats=frozenset({START}))


def _extreme(word: str) -> Function:
    def translated(pieces: Sequence[Piece]) -> Piece:
        kind = common_kind(list(pieces))
        if kind is Kind.BOOL:
            kind = Kind.INT
        collation = next((one.collation for one in pieces if one.collation), "BINARY")
        if kind is Kind.TEXT and collation != "BINARY":
            raise Untranslatable(f"the greatest of texts in collation {collation}")
        values = [integer(one) if kind is Kind.INT else value_of(one, kind) for one in pieces]
        if kind is Kind.TEXT:
            values = [f'{one} COLLATE "C"' for one in values]
        missing = " OR ".join(f"{one.sql} IS NULL" for one in pieces)
        return combined(f"CASE WHEN {missing} THEN NULL ELSE {word}({', '.join(values)}) END", kind, *pieces)

    return translated


def _typeof(pieces: Sequence[Piece]) -> Piece:
    (one,) = pieces
    names = {Kind.INT: "integer", Kind.BOOL: "integer", Kind.REAL: "real", Kind.TEXT: "text", Kind.BLOB: "blob"}
    if one.kind is Kind.NULL:
        return combined("'null'::text", Kind.TEXT, one)
    if one.kind not in names:
        raise Untranslatable(f"typeof() of a {one.kind} value")
    return combined(f"CASE WHEN {one.sql} IS NULL THEN 'null' ELSE '{names[one.kind]}' END", Kind.TEXT, one)


def _hex(pieces: Sequence[Piece]) -> Piece:
    (one,) = pieces
    if one.kind is Kind.BLOB:
        # hex(NULL) is an empty text.
        return combined(f"upper(coalesce(encode({one.sql}, 'hex'), '') COLLATE \"C\")", Kind.TEXT, one)
    raise Untranslatable(f"hex() of a {one.kind} value")


def _unicode(pieces: Sequence[Piece]) -> Piece:
    source = _only_text(pieces[0])
    return combined(f"CASE WHEN {source} <> '' THEN ascii({source})::bigint END", Kind.INT, pieces[0])


def _likely(pieces: Sequence[Piece]) -> Piece:
    return combined(pieces[0].sql, pieces[0].kind, pieces[0])


def _like(pieces: Sequence[Piece]) -> Piece:
    return like(pieces[1], pieces[0], pieces[2] if len(pieces) == 3 else None)


def _glob(pieces: Sequence[Piece]) -> Piece:
    return glob(pieces[1], pieces[0])


_MANY = range(2, 64)
_FUNCTIONS: dict[str, tuple[Sequence[int], Function]] = {
    "abs": ((1,), _abs),
    "coalesce": (_MANY, chosen),
    "glob": ((2,), _glob),
    "hex": ((1,), _hex),
    "if": ((2, 3), _either),
    "ifnull": ((2,), chosen),
    "iif": ((2, 3), _either),
    "instr": ((2,), _instr),
    "length": ((1,), _length),
    "like": ((2, 3), _like),
    "likely": ((1,), _likely),
    "lower": ((1,), _folding("lower")),
    "ltrim": ((1, 2), _trim("ltrim")),
    "max": (_MANY, _extreme("greatest")),
    "min": (_MANY, _extreme("least")),
    "nullif": ((2,), _null_if),
    "replace": ((3,), _replace),
    "round": ((1,), _round),
    "rtrim": ((1, 2), _trim("rtrim")),
    "sign": ((1,), _sign),
    "substr": ((2, 3), _substr),
    "substring": ((2, 3), _substr),
    "trim": ((1, 2), _trim("btrim")),
    "typeof": ((1,), _typeof),
    "unicode": ((1,), _unicode),
    "unlikely": ((1,), _likely),
    "upper": ((1,), _folding("upper")),
}


def aggregate(name: str, arguments: Sequence[Piece], *, distinct: bool, star: bool) -> Piece | None:
    """An aggregate of a view; None if `name` with these arguments is none."""
    word = "DISTINCT " if distinct else ""
    if name == "count" and star:
        return Piece("count(*)", Kind.INT, aggregate=True)
    if name == "group_concat" and len(arguments) in (1, 2) and not (distinct and len(arguments) == 2):
        separator = text(as_text(arguments[1])) if len(arguments) == 2 else "','"
        return _aggregated(
            f"string_agg({word}{text(as_text(arguments[0]))}, {separator})", Kind.TEXT, arguments, UNORDERED
        )
    if len(arguments) != 1 or name not in ("count", "sum", "avg", "total", "min", "max"):
        return None
    one = as_text(arguments[0])
    if name == "count":
        if one.kind is Kind.MIXED and distinct:
            raise Untranslatable("count(DISTINCT) of a column that holds several classes")
        if distinct and one.collation not in ("", "BINARY"):
            raise Untranslatable(f"count(DISTINCT) in collation {one.collation}")
        return _aggregated(f"count({word}{one.sql})", Kind.INT, arguments)
    if name in ("min", "max"):
        return _aggregated(f"{name}({_extreme_of(one)})", Kind.INT if one.kind is Kind.BOOL else one.kind, arguments)
    inner = one.sql if one.kind is Kind.REAL else integer(one)
    if name == "sum":
        if one.kind is Kind.REAL:
            return _aggregated(f"sum({word}{inner})", Kind.REAL, arguments, LAST_BITS)
        return _aggregated(f"sum({word}{inner})::bigint", Kind.INT, arguments, RANGE)
    if name == "total":
        return _aggregated(f"coalesce(sum({word}{inner}), 0)::double precision", Kind.REAL, arguments, LAST_BITS)
    mean = f"sum({word}{inner})::double precision / count({word}{inner})"
    return _aggregated(f"({mean})", Kind.REAL, arguments, LAST_BITS)


def _extreme_of(one: Piece) -> str:
    if one.kind is Kind.TEXT:
        return (
            folded(one.sql, one.collation or "BINARY") + ' COLLATE "C"'
            if one.collation in ("", "BINARY")
            else _refuse(one)
        )
    if one.kind is Kind.BOOL:
        return integer(one)
    if one.kind in (Kind.INT, Kind.REAL):
        return one.sql
    raise Untranslatable(f"the greatest of {one.kind} values")


def _refuse(one: Piece) -> str:
    raise Untranslatable(f"the greatest of texts in collation {one.collation}")


def _aggregated(sql: str, kind: Kind, arguments: Sequence[Piece], *caveats: str) -> Piece:
    inner = combined(sql, kind, *arguments, caveats=frozenset(caveats))
    return Piece(sql, kind, stable=inner.stable, aggregate=True, caveats=inner.caveats)
