"""Decide: a view of SQLite as a view of PostgreSQL, where it is one simple SELECT. Pure.

Invariant: the same white list as everywhere, and the same order: NULLs stand first and text is ordered by its bytes. What
it reads must be replicated. A view that PostgreSQL refuses stops nothing: it is made by itself and reported.
Trap: SQLite lets a GROUP BY leave columns out, and picks some row; PostgreSQL refuses that, and rightly.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

from schemas.comparisons import compare
from schemas.ddl import full_name
from schemas.grammar import Node, Untranslatable, children, statement, strings_in_double_quotes, unquoted
from schemas.model import SchemaObject, Table
from schemas.names import fold, quote, short
from schemas.opening import CREATE_VIEW, columns_of
from schemas.pieces import Kind, Piece, of_column, truth
from schemas.plan import TablePlan
from schemas.translate import Translation

Parents = Mapping[str, tuple[Table, TablePlan]]
"""Lower-case source name -> table and plan."""
_JOINS = {
    "COMMA": "CROSS JOIN",
    "CROSS": "CROSS JOIN",
    "INNER": "JOIN",
    "LEFT": "LEFT JOIN",
}


@dataclass(frozen=True, slots=True)
class ViewSql:
    """`sql`: one CREATE VIEW; `caveats`: where it may differ."""

    sql: str
    caveats: tuple[str, ...]


def view_sql(view: SchemaObject, parents: Parents, *, schema: str, preserve: bool = False) -> ViewSql:
    """Raises Untranslatable with the reason."""
    node = statement(view.sql or "")
    if node["type"] != "CreateViewStmt":
        raise Untranslatable("it is not a CREATE VIEW")
    select = node["select"]
    if select["type"] != "SelectStmt":
        raise Untranslatable("UNION, WITH and VALUES are not translated")
    translator = _View(view.sql or "", parents, preserve=preserve)
    names = [unquoted(one["column"]) for one in children(node, "column_names")]
    body = translator.select(select, names)
    name = f"{quote(schema)}.{quote(short(fold(view.name, preserve=preserve)))}"
    return ViewSql(f"{CREATE_VIEW}{name} AS {body}", tuple(sorted(translator.caveats)))


@dataclass(frozen=True, slots=True)
class _Part:
    """One table of FROM. `optional`: the right side of a LEFT JOIN."""

    alias: str
    table: Table
    plan: TablePlan


class _View:
    def __init__(self, sql: str, parents: Parents, *, preserve: bool) -> None:
        self._parents = parents
        self._preserve = preserve
        self._parts: list[_Part] = []
        self._walk = Translation(self._resolve, strings_in_double_quotes(sql), aggregates=True)
        self._merged: set[str] = set()
        self._ordered: list[Piece] = []
        self.caveats: set[str] = set()

    def select(self, node: Node, names: list[str]) -> str:
        if node.get("window_clause"):
            raise Untranslatable("windows are not translated")
        source = f" FROM {self._from(node['from_clause'])}" if node.get("from_clause") else ""
        output = self._columns(children(node, "columns"), names)
        distinct = "DISTINCT " if "DISTINCT" in (node.get("flags") or ()) else ""
        groups = [self._piece(one) for one in children(node, "groupby")]
        for piece in [*groups, *([one for one, _ in output] if distinct else [])]:
            if (piece.collation not in ("", "BINARY") and piece.kind is Kind.TEXT) or piece.kind is Kind.MIXED:
                raise Untranslatable("DISTINCT or GROUP BY of values that SQLite compares in another way")
        twice = Counter(name for _, name in output).most_common(1)
        if twice and twice[0][1] > 1:
            raise Untranslatable(f"two of its columns are called {twice[0][0]!r}")
        parts = [f"SELECT {distinct}{', '.join(f'{one.sql} AS {quote(name)}' for one, name in output)}{source}"]
        if node.get("where_clause"):
            parts.append(f"WHERE {truth(self._piece(node['where_clause']))}")
        if groups:
            if any(one.literal for one in groups):
                raise Untranslatable("GROUP BY of a number")
            parts.append(f"GROUP BY {', '.join(one.sql for one in groups)}")
        shown = [one for one, _ in output]
        if node.get("having"):
            shown.append(self._piece(node["having"]))
            parts.append(f"HAVING {truth(shown[-1])}")
        orders = [self._order(one, output, distinct=bool(distinct)) for one in children(node, "orderby")]
        if orders and distinct:
            # PostgreSQL orders DISTINCT rows by what is shown alone, and a collation makes another expression of it.
            parts = [f"SELECT * FROM ({' '.join(parts)}) AS shown"]
        if orders:
            parts.append(f"ORDER BY {', '.join(orders)}")
        if groups or any(one.aggregate for one in shown):
            self._refuse_bare([*shown, *self._ordered], groups)
        if node.get("limit_clause"):
            parts.append(_limit(node["limit_clause"]))
        return " ".join(parts)

    def _refuse_bare(self, shown: list[Piece], groups: list[Piece]) -> None:
        """SQLite takes a column that is not grouped by from any row of the group; PostgreSQL only where the key decides."""
        whole = {one.sql for one in groups}
        decided = set(whole)
        for part in self._parts:
            prefix = f"{quote(part.alias)}."
            if {prefix + quote(name) for name in part.plan.target_key} <= whole:
                decided |= {prefix + quote(column.target) for column in part.plan.columns}
        for piece in shown:
            if piece.sql not in whole and not piece.bare <= decided:
                column = min(piece.bare - decided)
                raise Untranslatable(f"{column} is neither grouped by nor in an aggregate: SQLite takes any row's")

    def _from(self, node: Node) -> str:
        match node["type"]:
            case "TableRef":
                return self._table(node)
            case "ParenTableSource":
                return f"({self._from(node['source'])})"
            case "JoinClause":
                return self._join(node)
        raise Untranslatable("a subquery in FROM is not translated")

    def _table(self, node: Node) -> str:
        name = unquoted(node["table_name"])
        found = self._parents.get(fold(name))
        if found is None or node.get("args"):
            raise Untranslatable(f"it reads {name!r}, which is no table that is replicated")
        alias = unquoted(node["alias"]["source"]) if node.get("alias") else name
        self._parts.append(_Part(alias, *found))
        return f"{full_name(found[1])} AS {quote(alias)}"

    def _join(self, node: Node) -> str:
        left, right = self._from(node["left"]), None
        before = len(self._parts)
        right = self._from(node["right"])
        word = _JOINS.get(node["join_type"])
        if word is None:
            raise Untranslatable(f"a {node['join_type']} join is not translated")
        using = [unquoted(one["column"]) for one in children(node, "using_columns")]
        conditions = []
        if node.get("on_expr"):
            conditions.append(truth(self._piece(node["on_expr"])))
        for name in using:
            sides = [self._found(parts, name) for parts in (self._parts[:before], self._parts[before:])]
            if sides[0] is None or sides[1] is None:
                raise Untranslatable(f"USING ({name}) names a column that is not on both sides")
            conditions.append(compare(sides[0], "=", sides[1]).sql)
            self._merged.add(fold(name))
        if not conditions:
            return f"{left} {word} {right}" if word == "CROSS JOIN" else f"{left} {word} {right} ON true"
        word = "JOIN" if word == "CROSS JOIN" else word
        return f"{left} {word} {right} ON {' AND '.join(conditions)}"

    def _columns(self, nodes: list[Node], names: list[str]) -> list[tuple[Piece, str]]:
        output: list[tuple[Piece, str]] = []
        for node in nodes:
            if "STAR" in (node.get("flags") or ()):
                only = fold(unquoted(node["expr"]["source"])) if node.get("expr") else None
                output += self._star(only)
                continue
            piece = self._piece(node["expr"])
            if node.get("alias"):
                name = unquoted(node["alias"]["source"])
            elif node["expr"]["type"] == "ColumnRef":
                name = unquoted(node["expr"]["column"])
            else:
                raise Untranslatable("a column without a name: SQLite calls it by its text")
            output.append((piece, short(fold(name, preserve=self._preserve))))
        if names:
            if len(names) != len(output):
                raise Untranslatable("it names more or fewer columns than it has")
            output = [
                (piece, short(fold(name, preserve=self._preserve)))
                for (piece, _), name in zip(output, names, strict=True)
            ]
        self._note([piece for piece, _ in output])
        return output

    def _star(self, only: str | None) -> list[tuple[Piece, str]]:
        """Written out: a column that is added later is no part of a view there."""
        found = []
        for part in self._parts:
            if only is not None and fold(part.alias) != only:
                continue
            for column, plan in columns_of(part.table, part.plan).values():
                if self._merged and fold(column.name) in self._merged and part is not self._parts[0]:
                    continue
                found.append((of_column(column, plan, prefix=f"{quote(part.alias)}."), plan.target))
        return found

    def _order(self, node: Node, output: list[tuple[Piece, str]], *, distinct: bool) -> str:
        expression = node["expr"]
        piece: Piece | None = None
        if expression["type"] == "ColumnRef" and not expression.get("table"):
            wanted = short(fold(unquoted(expression["column"]), preserve=self._preserve))
            piece = next((one for one, name in output if name == wanted), None)
        if expression["type"] == "Literal":
            raise Untranslatable("ORDER BY of a number")
        piece = piece or self._piece(expression)
        self._ordered.append(piece)
        if piece.kind is Kind.MIXED:
            raise Untranslatable("ORDER BY of a column that holds several classes")
        sql = piece.sql
        if distinct:
            name = next((name for one, name in output if one.sql == sql), None)
            if name is None:
                raise Untranslatable("DISTINCT, ordered by what it does not show: SQLite takes any row's value for it")
            sql = quote(name)
        if piece.kind is Kind.TEXT:
            sql = f'lower({sql} COLLATE "C")' if piece.collation == "NOCASE" else f'{sql} COLLATE "C"'
        descending = node.get("sort_order") == "DESC"
        first = {"FIRST": True, "LAST": False}.get(node.get("nulls_order") or "", not descending)
        return f"{sql} {'DESC' if descending else 'ASC'} NULLS {'FIRST' if first else 'LAST'}"

    def _piece(self, node: Node) -> Piece:
        piece = self._walk.piece(node)
        self._note([piece])
        return piece

    def _note(self, pieces: list[Piece]) -> None:
        for piece in pieces:
            self.caveats |= piece.caveats

    def _resolve(self, table: str, name: str) -> Piece | None:
        parts = [part for part in self._parts if not table or fold(part.alias) == fold(table)]
        return self._found(parts, name)

    def _found(self, parts: list[_Part], name: str) -> Piece | None:
        found = []
        for part in parts:
            pair = columns_of(part.table, part.plan).get(fold(name))
            if pair is not None:
                found.append(of_column(*pair, prefix=f"{quote(part.alias)}."))
        if len(found) > 1 and fold(name) not in self._merged:
            raise Untranslatable(f"{name!r} may be of several tables")
        return found[0] if found else None


def _limit(node: Node) -> str:
    values = []
    for name in ("limit", "offset"):
        part = node.get(name)
        if part is not None and (part["type"] != "Literal" or part["literal_type"] != "INTEGER"):
            raise Untranslatable("LIMIT of what is no number")
        values.append(part["source"] if part else None)
    return f"LIMIT {values[0]}" + (f" OFFSET {values[1]}" if values[1] else "")
