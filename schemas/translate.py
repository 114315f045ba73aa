"""Decide: one typed translation of SQLite's expressions, for CHECK, DEFAULT, generated columns, indexes and views. Pure.

Invariant: a white list over SQLite's own grammar. An expression is translated only where every row gives the same value on
both sides (`caveats` name what lies outside ordinary values); all else leaves as Untranslatable with its reason.
Traps: integers divide to integers and by zero to NULL; `||` turns numbers into text; TRUE may be a column's name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

from schemas import clock
from schemas.comparisons import OPERATORS, between, compare, glob, like, one_of
from schemas.functions import aggregate, call, chosen
from schemas.grammar import Node, Untranslatable, children, expression, strings_in_double_quotes, unquoted
from schemas.introspect import affinity_of
from schemas.literals import number
from schemas.model import Affinity, Column
from schemas.names import fold
from schemas.pieces import (
    RANGE,
    Kind,
    Piece,
    as_text,
    combined,
    common_kind,
    integer,
    of_column,
    of_value,
    text,
    truth,
    value_of,
)
from schemas.plan import ColumnPlan

Columns = Mapping[str, tuple[Column, ColumnPlan]]
"""Lower-case source name -> the column and its plan."""
Resolve = Callable[[str, str], Piece | None]
"""(table or "", column) as written -> its piece."""


def translate(sql: str, columns: Columns, *, prefix: str = "") -> Piece:
    """One expression over the columns of one table.

    Args:
        prefix: what stands before a column's name on the target.

    Raises:
        Untranslatable: with the reason.
    """

    def resolve(table: str, name: str) -> Piece | None:
        found = columns.get(fold(name))
        return None if found is None or table else of_column(*found, prefix=prefix)

    return Translation(resolve, strings_in_double_quotes(sql)).piece(expression(sql))


def condition(sql: str, columns: Columns, *, prefix: str = "") -> Piece:
    """The same as something that is true or false."""
    found = translate(sql, columns, prefix=prefix)
    return replace(found, sql=truth(found), kind=Kind.BOOL)


class Translation:
    """Walks one tree. `strings`: words in double quotes that are strings where they name no column; `aggregates`: may
    count() and the like appear (views)."""

    def __init__(self, resolve: Resolve, strings: frozenset[str] = frozenset(), *, aggregates: bool = False) -> None:
        self._resolve = resolve
        self._strings = strings
        self._aggregates = aggregates
        self._walk: dict[str, Callable[[Node], Piece]] = {
            "BetweenExpr": lambda node: between(
                *(self.piece(node[name]) for name in ("operand", "low", "high")), negated=node["negated"]
            ),
            "BinaryExpr": self._binary,
            "CaseExpr": self._case,
            "CastExpr": self._cast,
            "CollateExpr": self._collate,
            "ColumnRef": self._column,
            "FunctionCall": self._function,
            "InExpr": self._in,
            "IsExpr": self._is,
            "LikeExpr": self._like,
            "Literal": self._literal,
            "ParenExpr": lambda node: self.piece(node["expr"]),
            "UnaryExpr": self._unary,
        }

    def piece(self, node: Node) -> Piece:
        known = self._walk.get(node["type"])
        if known is None:
            words = {"SubqueryExpr": "a subquery", "ExistsExpr": "a subquery", "RowValue": "a row value"}
            raise Untranslatable(f"{words.get(node['type'], node['type'])} is not translated")
        return known(node)

    def _literal(self, node: Node) -> Piece:
        source: str = node["source"]
        match node["literal_type"]:
            case "INTEGER" | "FLOAT":
                return of_value(number(source))
            case "STRING":
                return of_value(source[1:-1].replace("''", "'"))
            case "BLOB":
                return of_value(bytes.fromhex(source[2:-1]))
            case "NULL":
                return of_value(None)
            case "CURRENT":
                return clock.now(clock.CURRENT[source.upper()])
        raise Untranslatable(f"the literal {source}")

    def _column(self, node: Node) -> Piece:
        if node.get("schema") and node["schema"].lower() != "main":
            raise Untranslatable(f"{node['schema']}.{node['table']} is in another database")
        name, table = unquoted(node["column"]), unquoted(node.get("table") or "")
        found = self._resolve(table, name)
        if found is not None:
            return found
        if not table and name in self._strings:
            return of_value(name)
        if not table and name.upper() in ("TRUE", "FALSE"):
            return of_value(int(name.upper() == "TRUE"))
        raise Untranslatable(f"{name!r} names no column that is carried")

    def _unary(self, node: Node) -> Piece:
        inner = self.piece(node["operand"])
        match node["op"]:
            case "NOT":
                return combined(f"(NOT {truth(inner)})", Kind.BOOL, inner)
            case "PLUS":
                # It takes the affinity away and leaves the collation.
                return replace(inner, affinity="")
            case "MINUS" if inner.literal and isinstance(inner.value, int | float):
                source = node["operand"].get("source", "")
                plain = source and not source.lower().startswith("0x")
                return of_value(number(f"-{source}" if plain else str(-inner.value)))
            case "MINUS" if inner.kind is Kind.REAL:
                # SQLite subtracts from 0, which makes no -0.0.
                return combined(f"(0 - {inner.sql})", Kind.REAL, inner)
            case "MINUS" if inner.kind is not Kind.NULL:
                return combined(f"(- {integer(inner)})", Kind.INT, inner, caveats=frozenset({RANGE}))
            case "BIT_NOT":
                return combined(f"(~ {integer(inner)})", Kind.INT, inner)
        raise Untranslatable(f"{node['op']} of {inner.sql}")

    def _binary(self, node: Node) -> Piece:
        operator = node["op"]
        left, right = self.piece(node["left"]), self.piece(node["right"])
        if operator in OPERATORS:
            return compare(left, OPERATORS[operator], right)
        if operator in ("AND", "OR"):
            return combined(f"({truth(left)} {operator} {truth(right)})", Kind.BOOL, left, right)
        if operator == "CONCAT":
            for one in (left, right):
                if one.kind is Kind.BLOB:
                    raise Untranslatable("|| with a blob")
            return combined(f"({text(as_text(left))} || {text(as_text(right))})", Kind.TEXT, left, right)
        if operator in ("PLUS", "MINUS", "STAR", "SLASH", "REM"):
            return arithmetic(left, operator, right)
        if operator in ("BIT_AND", "BIT_OR"):
            sign = "&" if operator == "BIT_AND" else "|"
            return combined(f"({integer(left)} {sign} {integer(right)})", Kind.INT, left, right)
        if operator in ("LSHIFT", "RSHIFT"):
            if not right.literal or not isinstance(right.value, int) or not 0 <= right.value < 64:
                raise Untranslatable("a shift by what is no number from 0 to 63")
            sign = "<<" if operator == "LSHIFT" else ">>"
            return combined(f"({integer(left)} {sign} {right.value})", Kind.INT, left, right)
        raise Untranslatable("-> and ->> work on SQLite's JSON text; use the operators of json or jsonb")

    def _is(self, node: Node) -> Piece:
        left = self.piece(node["left"])
        operator = node["op"]
        negated = operator in ("IS_NOT", "NOT_NULL", "NOT_NULL_SPACED", "IS_DISTINCT")
        right = self.piece(node["right"]) if node.get("right") else of_value(None)
        if right.kind is Kind.NULL:
            return combined(f"({left.sql} IS {'NOT ' if negated else ''}NULL)", Kind.BOOL, left)
        if self._is_truth_word(node["right"]) and operator in ("IS", "IS_NOT"):
            word = "TRUE" if right.value else "FALSE"
            return combined(f"({truth(left)} IS {'NOT ' if negated else ''}{word})", Kind.BOOL, left)
        if left.kind is Kind.NULL:
            return combined(f"({right.sql} IS {'NOT ' if negated else ''}NULL)", Kind.BOOL, right)
        return compare(left, "IS DISTINCT FROM" if negated else "IS NOT DISTINCT FROM", right)

    def _is_truth_word(self, node: Node) -> bool:
        while node["type"] == "ParenExpr":
            node = node["expr"]
        return (
            node["type"] == "ColumnRef"
            and not node.get("table")
            and node["column"].upper() in ("TRUE", "FALSE")
            and self._resolve("", node["column"]) is None
            and node["column"] not in self._strings
        )

    def _in(self, node: Node) -> Piece:
        source = node.get("source")
        if source is not None and source["type"] != "ExprList":
            raise Untranslatable("IN with a subquery is not translated")
        items = [self.piece(one) for one in children(node, "source")]
        return one_of(self.piece(node["operand"]), items, negated=node["negated"])

    def _like(self, node: Node) -> Piece:
        if node["keyword"] not in ("LIKE", "GLOB"):
            raise Untranslatable(f"{node['keyword']} needs a function of the application")
        operand, pattern = self.piece(node["operand"]), self.piece(node["pattern"])
        if node["keyword"] == "LIKE":
            escape = self.piece(node["escape"]) if node.get("escape") else None
            found = like(operand, pattern, escape)
        else:
            found = glob(operand, pattern)
        return replace(found, sql=f"(NOT {found.sql})") if node["negated"] else found

    def _case(self, node: Node) -> Piece:
        operand = self.piece(node["operand"]) if node.get("operand") else None
        conditions, values = [], []
        for when in children(node, "whens"):
            one = self.piece(when["when_expr"])
            conditions.append(compare(operand, "=", one) if operand else one)
            values.append(as_text(self.piece(when["then_expr"])))
        last = as_text(self.piece(node["else_expr"])) if node.get("else_expr") else of_value(None)
        kind = common_kind([*values, last])
        arms = [
            f"WHEN {truth(one)} THEN {value_of(value, kind)}" for one, value in zip(conditions, values, strict=True)
        ]
        sql = f"CASE {' '.join(arms)} ELSE {value_of(last, kind)} END"
        return combined(sql, kind, *conditions, *values, last)

    def _cast(self, node: Node) -> Piece:
        inner = as_text(self.piece(node["expr"]))
        found = cast(inner, affinity_of(node.get("type_name") or ""))
        return replace(found, collation=inner.collation)

    def _collate(self, node: Node) -> Piece:
        inner = self.piece(node["expr"])
        return replace(inner, collation=unquoted(node["collation"]).upper(), explicit=True)

    def _function(self, node: Node) -> Piece:
        name = unquoted(node["func_name"]).lower()
        flags = set(node.get("flags") or ())
        if node.get("over_clause") or node.get("filter_clause") or node.get("orderby"):
            raise Untranslatable(f"{name}() as a window function or with a FILTER is not translated")
        arguments = [self.piece(one) for one in children(node, "args")]
        told = clock.function(name, arguments)
        if told is not None:
            return told
        if self._aggregates:
            found = aggregate(name, arguments, distinct="DISTINCT" in flags, star="STAR" in flags)
            if found is not None:
                return found
        if flags - {"ALL"}:
            raise Untranslatable(f"{name}() with {' '.join(sorted(flags))} is not translated")
        if name in ("coalesce", "ifnull"):
            return chosen([as_text(one) for one in arguments])
        return call(name, arguments)


def arithmetic(left: Piece, operator: str, right: Piece) -> Piece:
    """+ - * / %. Integers stay integers; one real makes all real; division by zero gives NULL."""
    if Kind.NULL in (left.kind, right.kind):
        raise Untranslatable("arithmetic with NULL")
    sign = {"PLUS": "+", "MINUS": "-", "STAR": "*", "SLASH": "/", "REM": "%"}[operator]
    if Kind.REAL in (left.kind, right.kind):
        if operator == "REM":
            raise Untranslatable("% of reals")
        one, other = (
            piece.sql if piece.kind is Kind.REAL else f"({integer(piece)})::double precision" for piece in (left, right)
        )
        kind = Kind.REAL
    else:
        one, other = integer(left), integer(right)
        kind = Kind.INT
    if sign in "/%" and not (right.literal and right.value):
        other = f"NULLIF({other}, 0)"
    caveats = frozenset() if operator == "REM" else frozenset({RANGE})
    if operator == "SLASH" and right.literal and kind is Kind.INT and right.value != -1:
        caveats = frozenset()
    return combined(f"({one} {sign} {other})", kind, left, right, caveats=caveats)


def cast(inner: Piece, affinity: Affinity) -> Piece:
    """CAST, where the result does not depend on how SQLite reads or writes a number."""
    match affinity, inner.kind:
        case Affinity.INTEGER, Kind.INT | Kind.BOOL | Kind.NULL:
            return combined(integer(inner), Kind.INT, inner)
        case Affinity.INTEGER, Kind.REAL:
            r = inner.sql
            sql = (
                f"CASE WHEN {r} >= 9223372036854775807 THEN 9223372036854775807 WHEN {r} <= -9223372036854775808 "
                f"THEN -9223372036854775808 ELSE trunc({r})::bigint END"
            )
            return combined(sql, Kind.INT, inner)
        case Affinity.INTEGER, Kind.TEXT:
            digits = f"coalesce(substring({inner.sql} FROM '^[ \\t\\n\\v\\f\\r]*([+-]?[0-9]+)'), '0')::numeric"
            sql = f"least(greatest({digits}, -9223372036854775808), 9223372036854775807)::bigint"
            return combined(f"CASE WHEN {inner.sql} IS NOT NULL THEN {sql} END", Kind.INT, inner)
        case Affinity.TEXT, Kind.TEXT | Kind.INT | Kind.BOOL | Kind.NULL:
            return combined(text(inner), Kind.TEXT, inner)
        case Affinity.REAL, Kind.INT | Kind.BOOL | Kind.NULL:
            return combined(f"({integer(inner)})::double precision", Kind.REAL, inner)
        case Affinity.REAL, Kind.REAL:
            return combined(inner.sql, Kind.REAL, inner)
        case Affinity.NUMERIC, Kind.INT | Kind.BOOL | Kind.NULL:
            return combined(integer(inner), Kind.INT, inner)
        case Affinity.BLOB, Kind.BLOB:
            return combined(inner.sql, Kind.BLOB, inner)
    raise Untranslatable(f"CAST of a {inner.kind} value to {affinity}")
