"""Decide: the parts of SQLite's CREATE statements that no PRAGMA tells: generated expressions, CHECKs, index terms.

Works on tokens, not on characters: SQLite has already accepted the statement, so that balanced parentheses and commas at
depth one separate its parts exactly.
Trap: a comment, a string or a bracketed name may hold any character (test_names_that_look_like_sql).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

_TOKEN = re.compile(
    r"""(?P<space>\s+|--[^\n]*|/\*.*?(?:\*/|$))
      |(?P<blob>[xX]'[^']*')
      |(?P<string>'(?:[^']|'')*')
      |(?P<quoted>"(?:[^"]|"")*"|`(?:[^`]|``)*`|\[[^\]]*\])
      |(?P<number>0[xX][0-9a-fA-F]+|(?:\d[\d_]*(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)
      |(?P<word>[^\W\d][\w$]*)
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
    columns: Mapping[str, ColumnText] = field(default_factory=dict)
    checks: tuple[str, ...] = ()


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


def read_table(sql: str) -> TableText:
    """Column collations, generated expressions and CHECK texts of one CREATE TABLE statement."""
    parts = tokens(sql)
    start = next((at for at, token in enumerate(parts) if token.text == "("), None)
    if start is None:
        return TableText()
    body, _ = _group(parts, start)
    columns: dict[str, ColumnText] = {}
    checks: list[str] = []
    for definition in _depth_split(body):
        if not definition:
            continue
        constraint = definition[0].kind == "word" and definition[0].text.upper() in (
            "CONSTRAINT",
            "PRIMARY",
            "UNIQUE",
            "CHECK",
            "FOREIGN",
        )
        generated, collation = None, "BINARY"
        for at, token in enumerate(definition):
            following = definition[at + 1].text if at + 1 < len(definition) else ""
            if at and token.is_word("COLLATE") and not constraint:
                collation = definition[at + 1].name or "BINARY"
            elif token.is_word("CHECK") and following == "(":
                checks.append(joined(_group(definition, at + 1)[0]))
            elif at and token.is_word("AS") and following == "(" and not constraint:
                generated = joined(_group(definition, at + 1)[0])
        name = definition[0].name
        if not constraint and name is not None:
            columns[name] = ColumnText(generated, collation)
    return TableText(columns, tuple(checks))


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
        real = columns.get(name.lower()) if name is not None else None
        called = at + 1 < len(parts) and parts[at + 1].text == "(" and token.kind == "word"
        after_collate = at > 0 and parts[at - 1].is_word("COLLATE")
        if real is None or called or after_collate:
            out.append(token.text)
        else:
            out.append(render(real))
    return " ".join(out)
