"""Decide: predicates of partial indexes and terms of expression indexes that mean the same on PostgreSQL. Pure.

Invariant: a white list; all else is None and reported. A predicate that means a little more makes a unique index refuse
rows that the source holds (test_a_predicate_selects_the_same_rows_on_both_sides).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from schemas.expressions import Untranslatable, literal_sql, read_literal, with_affinity
from schemas.model import Affinity, Column
from schemas.names import fold, quote
from schemas.plan import ColumnPlan
from schemas.sqltext import Token, tokens

_ORDERED = frozenset({"long", "double", "text"})
"""Codecs whose order on PostgreSQL is SQLite's (text in collation "C")."""
_OPERATORS = {"=": "=", "==": "=", "<>": "<>", "!=": "<>", "<": "<", "<=": "<=", ">": ">", ">=": ">="}


def predicate_sql(where: str, columns: Mapping[str, tuple[Column, ColumnPlan]]) -> str | None:
    """A partial index's WHERE. `columns`: lower-case source name -> the column and its plan."""
    parser = _Parser(tokens(where), columns)
    try:
        text = parser.disjunction()
    except Untranslatable:
        return None
    return None if parser.rest else text


def term_sql(expression: str, columns: Mapping[str, tuple[Column, ColumnPlan]]) -> str | None:
    """An expression of an index: lower, upper, length of a text column; coalesce or ifnull of a column and a literal."""
    parts = tokens(expression)
    if len(parts) < 4 or parts[0].kind != "word" or parts[1].text != "(" or parts[-1].text != ")":
        return None
    function, inner = parts[0].text.lower(), parts[2:-1]
    found = columns.get(fold(inner[0].name or "")) if inner[0].kind in ("word", "quoted") else None
    if found is None:
        return None
    plan = found[1]
    name = quote(plan.target)
    if len(inner) == 1 and plan.codec == "text":
        # Both fold ASCII only, and length counts characters.
        known = {"lower": f'lower({name} COLLATE "C")', "upper": f'upper({name} COLLATE "C")'}
        return {**known, "length": f"length({name})"}.get(function)
    if function in ("coalesce", "ifnull") and len(inner) > 2 and inner[1].text == ",":
        try:
            value, rest = read_literal(inner[2:], strings=False)
        except Untranslatable:
            return None
        # The result of coalesce has no affinity: the literal stays as it is written.
        same = with_affinity(value, Affinity(plan.affinity)) == value and value is not None
        text = literal_sql(value, plan) if same and not rest else None
        return None if text is None else f"coalesce({name}, {text})"
    return None


class _Parser:
    """Recursive descent over one predicate; raises Untranslatable at the first thing that is not on the white list."""

    def __init__(self, parts: Sequence[Token], columns: Mapping[str, tuple[Column, ColumnPlan]]) -> None:
        self.rest = parts
        self._columns = columns

    def disjunction(self) -> str:
        found = [self._conjunction()]
        while self._take("OR"):
            found.append(self._conjunction())
        return found[0] if len(found) == 1 else f"({' OR '.join(found)})"

    def _conjunction(self) -> str:
        found = [self._negation()]
        while self._take("AND"):
            found.append(self._negation())
        return found[0] if len(found) == 1 else f"({' AND '.join(found)})"

    def _negation(self) -> str:
        if self._take("NOT"):
            return f"(NOT {self._negation()})"
        if self.rest and self.rest[0].text == "(":
            self.rest = self.rest[1:]
            inner = self.disjunction()
            self._symbol(")")
            return inner
        return self._comparison()

    def _comparison(self) -> str:
        column, plan = self._column()
        name = quote(plan.target)
        if self._take("ISNULL"):
            return f"({name} IS NULL)"
        if self._take("NOTNULL"):
            return f"({name} IS NOT NULL)"
        if self._take("IS"):
            return self._is(name, column, plan)
        negated = self._take("NOT")
        if negated and self._take("NULL"):
            return f"({name} IS NOT NULL)"
        if self._take("IN"):
            return f"({name} {'NOT ' if negated else ''}IN ({', '.join(self._list(column, plan))}))"
        operator = _OPERATORS.get(self.rest[0].text) if self.rest and not negated else None
        if operator is None:
            return self._truth(name, plan, negated=negated)
        self.rest = self.rest[1:]
        if operator not in ("=", "<>") and plan.codec not in _ORDERED:
            raise Untranslatable
        return f"({name} {operator} {self._value(column, plan)})"

    def _truth(self, name: str, plan: ColumnPlan, *, negated: bool) -> str:
        """A bare column: SQLite takes a number for true when it is not 0."""
        if negated or plan.codec not in ("long", "boolean"):
            raise Untranslatable
        return name if plan.codec == "boolean" else f"({name} <> 0)"

    def _is(self, name: str, column: Column, plan: ColumnPlan) -> str:
        negated = self._take("NOT")
        if self._take("NULL"):
            return f"({name} IS {'NOT ' if negated else ''}NULL)"
        if self.rest and self.rest[0].text.upper() in ("TRUE", "FALSE", "DISTINCT"):
            raise Untranslatable
        return f"({name} IS {'' if negated else 'NOT '}DISTINCT FROM {self._value(column, plan)})"

    def _list(self, column: Column, plan: ColumnPlan) -> list[str]:
        self._symbol("(")
        found = [self._value(column, plan)]
        while self.rest and self.rest[0].text == ",":
            self.rest = self.rest[1:]
            found.append(self._value(column, plan))
        self._symbol(")")
        return found

    def _value(self, column: Column, plan: ColumnPlan) -> str:
        if plan.pg_type == "json":
            raise Untranslatable  # PostgreSQL has no equality for json.
        value, self.rest = read_literal(self.rest, strings=False)
        if isinstance(value, str) and column.collation.upper() != "BINARY":
            raise Untranslatable
        text = literal_sql(value, plan)
        if text is None:
            raise Untranslatable
        return text

    def _column(self) -> tuple[Column, ColumnPlan]:
        token = self.rest[0] if self.rest else Token("other", "")
        name = token.name if token.kind in ("word", "quoted") else None
        found = self._columns.get(fold(name)) if name is not None else None
        if found is None:
            raise Untranslatable
        self.rest = self.rest[1:]
        return found

    def _take(self, word: str) -> bool:
        if self.rest and self.rest[0].is_word(word):
            self.rest = self.rest[1:]
            return True
        return False

    def _symbol(self, text: str) -> None:
        if not self.rest or self.rest[0].text != text:
            raise Untranslatable
        self.rest = self.rest[1:]
