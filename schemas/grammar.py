"""Decide: SQLite's SQL as a tree, by SQLite's own grammar (syntaqlite). Pure.

Invariant: an empty or a second statement is no tree: the parser tells a mistake by an empty answer, never by an exception
(test_a_parse_error_is_reported_and_never_guessed).
Trap: the tree forgets how a name was quoted; "nosuch" is a string to SQLite and `nosuch` is not, so the tokens are asked.
"""

from __future__ import annotations

import threading
from typing import Any

from schemas.sqltext import tokens

Node = dict[str, Any]
"""One node of the tree: "type" and the fields of that type."""

_local = threading.local()


class Untranslatable(Exception):
    """Leaves the translation: the reason why there is no counterpart, as one sentence for `plan`."""

    def __init__(self, reason: str = "it is not on the list of what is known to mean the same") -> None:
        super().__init__(reason)
        self.reason = reason


def statement(sql: str) -> Node:
    """The tree of one statement."""
    parser = getattr(_local, "parser", None)
    if parser is None:
        # Late: most processes parse nothing, and it takes longer to import than all modules of this folder together.
        import syntaqlite

        # One parser a thread: it is not made for two at once.
        parser = _local.parser = syntaqlite.Syntaqlite()
    found = parser.parse_raw(sql)
    if len(found) != 1 or not isinstance(found[0], dict) or found[0].get("type") in (None, "Error"):
        raise Untranslatable("SQLite's grammar does not take it")
    node: Node = found[0]
    return node


def expression(text: str) -> Node:
    """The tree of one expression."""
    if not text.strip():
        raise Untranslatable("it is empty")
    # A new line: the text may end in a comment.
    select = statement(f"SELECT (\n{text}\n)")
    columns = children(select, "columns")
    if len(columns) != 1 or select.get("from_clause") or columns[0].get("alias"):
        raise Untranslatable("it is not one expression")
    node: Node = columns[0]["expr"]
    if node["type"] not in ("ParenExpr", "RowValue", "SubqueryExpr"):
        # The parenthesis that was opened here is closed in the text.
        raise Untranslatable("it is not one expression")
    return node


def children(node: Node, name: str) -> list[Node]:
    """The nodes of a list field; none where the field is empty."""
    part = node.get(name)
    return list(part["children"]) if part else []


def strings_in_double_quotes(text: str) -> frozenset[str]:
    """Words that are written in double quotes and never plain: SQLite takes one that names no column for a string."""
    parts = tokens(text)
    plain = {part.name for part in parts if part.kind == "word" or (part.kind == "quoted" and part.text[0] != '"')}
    return frozenset(part.name or "" for part in parts if part.kind == "quoted" and part.text[0] == '"') - plain


def unquoted(name: str) -> str:
    """A name as the tree gives it: the quotes are off, but doubled ones inside stay doubled."""
    for mark in ('"', "`"):
        if mark * 2 in name:
            return name.replace(mark * 2, mark)
    return name
