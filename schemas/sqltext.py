"""Decide: the parts of SQLite's CREATE statements that no PRAGMA tells: generated expressions, CHECKs, index terms.

Works on tokens, not on characters: SQLite has already accepted the statement, so that balanced parentheses and commas at
depth one separate its parts exactly.
Trap: a comment, a string or a bracketed name may hold any character (test_names_that_look_like_sql).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from schemas.names import fold

_TOKEN = re.compile(
    r"""(?P<space>[ \t\n\f\r]+|--[^\n]*|/\*.*?(?:\*/|\Z))
      |(?P<blob>[xX]'[^']*')
      |(?P<string>'(?:[^']|'')*')
      |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      |(?P<number>0[xX][0-9a-fA-F_]+|(?:[0-9][0-9_]*(?:\.[0-9_]*)?|\.[0-9][0-9_]*)(?:[eE][+-]?[0-9_]+)?)
      |(?P<word>[A-Za-z_\x80-\U0010ffff][A-Za-z0-9_$\x80-\U0010ffff]*)
      |(?P<other>\|\||->>|->|<<|>>|<=|>=|<>|!=|==|.)""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: its kind (blob, string, quoted, number, word, other) and its text as written."""

    kind: str
    text: str

    def is_word(self, word: str) -> bool:
        return self.kind == "word" and self.text.upper() == word

    @property
    def name(self) -> str | None:
        """The identifier this token may stand for, unquoted; None if it cannot."""
        if self.kind == "word":
            return self.text
        if self.kind == "quoted":
            inner = self.text[1:-1]
            return inner if self.text[0] == "[" else inner.replace(self.text[0] * 2, self.text[0])
        if self.kind == "string":
            return self.text[1:-1].replace("''", "'")
        return None


@dataclass(frozen=True, slots=True)
class ColumnText:
    """What the CREATE TABLE text says of one column beyond `table_xinfo`."""

    generated: str | None = None
    collation: str = "BINARY"


@dataclass(frozen=True, slots=True)
class TableText:
    """`deferred`: for each foreign key, in the order of the text, whether it is DEFERRABLE INITIALLY DEFERRED."""

    columns: Mapping[str, ColumnText] = field(default_factory=dict)
    checks: tuple[str, ...] = ()
    deferred: tuple[bool, ...] = ()


def tokens(sql: str) -> list[Token]:
    return [Token(match.lastgroup or "other", match[0]) for match in _TOKEN.finditer(sql) if match.lastgroup != "space"]


def joined(parts: Sequence[Token]) -> str:
    return " ".join(token.text for token in parts)


def _depth_split(parts: Sequence[Token]) -> list[list[Token]]:
    """Split at commas outside parentheses."""
    result: list[list[Token]] = [[]]
    depth = 0
    for token in parts:
        if token.text == "(":
            depth += 1
        elif token.text == ")":
            depth -= 1
        if token.text == "," and depth == 0:
            result.append([])
        else:
            result[-1].append(token)
    return result


def _group(parts: Sequence[Token], at: int) -> tuple[list[Token], int]:
    """The tokens inside the parenthesis that opens at `at`, and the index after its end."""
    depth = 0
    for index in range(at, len(parts)):
        if parts[index].text == "(":
            depth += 1
        elif parts[index].text == ")":
            depth -= 1
            if depth == 0:
                return list(parts[at + 1 : index]), index + 1
    return list(parts[at + 1 :]), len(parts)


_TABLE_CONSTRAINTS = frozenset({"CONSTRAINT", "PRIMARY", "UNIQUE", "CHECK", "FOREIGN"})
"""SQLite: reserved words, so a column of such a name is always quoted."""


def read_table(sql: str) -> TableText:
    """Column collations, generated expressions, CHECK texts and deferred foreign keys of one CREATE TABLE statement."""
    parts = tokens(sql)
    start = next((at for at, token in enumerate(parts) if token.text == "("), None)
    if start is None:
        return TableText()
    columns: dict[str, ColumnText] = {}
    checks: list[str] = []
    deferred: list[bool] = []
    for definition in _depth_split(_group(parts, start)[0]):
        if not definition:
            continue
        first = definition[0]
        own_name = None if first.kind == "word" and first.text.upper() in _TABLE_CONSTRAINTS else first.name
        text = _read_definition(definition, checks, deferred)
        if own_name is not None:
            columns[own_name] = text
    return TableText(columns, tuple(checks), tuple(deferred))


def _read_definition(definition: Sequence[Token], checks: list[str], deferred: list[bool]) -> ColumnText:
    """One column definition, or a run of table constraints.

    Only words outside parentheses count: a COLLATE inside a CHECK is no collation of the column
    (test_a_collation_inside_an_expression_is_not_the_columns).
    """
    generated, collation = None, "BINARY"
    at = 0
    while at < len(definition):
        token = definition[at]
        if token.text == "(":
            group, after = _group(definition, at)
            before = definition[at - 1] if at else token
            if before.is_word("CHECK"):
                checks.append(joined(group))
            elif before.is_word("AS"):
                generated = joined(group)
            at = after
            continue
        if at and token.is_word("COLLATE") and at + 1 < len(definition):
            collation = definition[at + 1].name or "BINARY"
        elif at and token.is_word("REFERENCES"):
            deferred.append(False)
        elif token.is_word("DEFERRABLE") and deferred:
            following = [one.text.upper() for one in definition[at + 1 : at + 3]]
            deferred[-1] = following == ["INITIALLY", "DEFERRED"] and not definition[at - 1].is_word("NOT")
        at += 1
    return ColumnText(generated, collation)


def read_index(sql: str) -> tuple[list[str], str | None]:
    """(text of each term without COLLATE/ASC/DESC, WHERE text or None) of one CREATE INDEX statement."""
    parts = tokens(sql)
    on = next(at for at, token in enumerate(parts) if token.is_word("ON"))
    start = next(at for at in range(on, len(parts)) if parts[at].text == "(")
    body, after = _group(parts, start)
    terms = []
    for term in _depth_split(body):
        while term and term[-1].kind == "word" and term[-1].text.upper() in ("ASC", "DESC"):
            term = term[:-1]
        if len(term) > 2 and term[-2].is_word("COLLATE"):
            term = term[:-2]
        terms.append(joined(term))
    rest = parts[after:]
    where = joined(rest[1:]) if rest and rest[0].is_word("WHERE") else None
    return terms, where


def qualify(expression: str, columns: Mapping[str, str], render: Callable[[str], str]) -> str:
    """Rewrite an expression so that every reference to one of `columns` (lower-case name -> real name) becomes
    `render(real name)`; function names, collations and string literals stay.

    A double-quoted word that names no column is a string to SQLite, and stays as it is written.
    """
    parts = tokens(expression)
    out: list[str] = []
    for at, token in enumerate(parts):
        name = token.name if token.kind in ("word", "quoted") else None
        real = columns.get(fold(name)) if name is not None else None
        called = at + 1 < len(parts) and parts[at + 1].text == "(" and token.kind == "word"
        after_collate = at > 0 and parts[at - 1].is_word("COLLATE")
        if real is None or called or after_collate:
            out.append(token.text)
        else:
            out.append(render(real))
    return " ".join(out)
