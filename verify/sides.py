"""Do: digests and keys of one table on the target. Only keys pass through the codecs, to find a row; what a row holds is
digested by the server."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from adapters.postgres import Postgres
from schemas.ddl import full_name
from schemas.model import Key, Row, Table
from schemas.names import beside_parameters, fold, quote
from schemas.plan import TablePlan
from schemas.rows import RowCodec
from verify.canonical import digests
from verify.compare import typed_key
from verify.target_digest import row_digest


class TargetSide:
    """One table on the target. Reads inside the caller's snapshot."""

    def __init__(self, target: Postgres, table: Table, plan: TablePlan) -> None:
        self._target = target
        self._plan = plan
        self._codec = RowCodec(plan)
        # Matched by target name: the source may have renamed a column in case only.
        names = [fold(column.name) for column in plan.columns]
        order = [names.index(fold(name)) for name in table.row_columns]
        columns = [plan.columns[at] for at in order]
        self._digest = beside_parameters(row_digest(columns, "t"))
        self.loose = [at for at, column in enumerate(columns) if column.codec == "loose-text"]
        """Columns in which a number is compared as the text that it became."""

    def _found(self, keys: Sequence[Key]) -> tuple[str, list[list[Any]]]:
        """FROM clause of the rows of these keys, beside their place among the keys."""
        plan = self._plan
        types = [plan.columns[at].pg_type for at in plan.key_indexes]
        arrays = ", ".join(f"%b::{'text' if kind in ('jsonb', 'json') else kind}[]" for kind in types)
        names = ", ".join(f"k{at}" for at in range(len(types)))
        equal = " AND ".join(
            f"t.{beside_parameters(quote(name))} = u.k{at}::{kind}"
            for at, (name, kind) in enumerate(zip(plan.target_key, types, strict=True))
        )
        table = beside_parameters(full_name(plan))
        sql = f"FROM unnest({arrays}) WITH ORDINALITY AS u({names}, place) JOIN {table} AS t ON {equal}"
        return sql, [list(column) for column in zip(*self._codec.sqlite_keys_to_pg(keys), strict=True)]

    def segment(self, keys: Sequence[Key]) -> tuple[int, int]:
        """Rows and sum of digests of the rows of these keys (verify/canonical.py: segment), made by the server."""
        found, parameters = self._found(keys)
        number = f"('x' || left({self._digest}, 15))::bit(60)::bigint"
        rows, total = self._target.rows(f"SELECT count(*), sum({number}) {found}", parameters, prepare=False)[0]
        return int(rows), int(total or 0)

    def digests(self, keys: Sequence[Key]) -> dict[str, str]:
        """Digests of the rows that are there, under the typed keys asked for."""
        if not keys:
            return {}
        found, parameters = self._found(keys)
        answer = self._target.rows(f"SELECT u.place, {self._digest} {found}", parameters, prepare=False)
        return {typed_key(keys[place - 1]): digest for place, digest in answer}

    def digested(self, found: Mapping[Key, Row]) -> dict[str, str]:
        """The same of rows that the source gave: under their typed keys, digested as the server does it."""
        made = digests(list(found.values()), self.loose)
        return {typed_key(key): digest for key, digest in zip(found, made, strict=True)}

    def chunks(self, *, chunk_rows: int) -> Iterator[list[Key]]:
        """All keys, in the target's own order, each chunk by its own statement: no long transaction is held."""
        plan = self._plan
        key = ", ".join(quote(name) for name in plan.target_key)
        types = [plan.columns[at].pg_type for at in plan.key_indexes]
        head, tail = f"SELECT {key} FROM {full_name(plan)}", f" ORDER BY {key} LIMIT {chunk_rows}"
        after: tuple[object, ...] | None = None
        while True:
            if after is None:
                found = self._target.rows(head + tail, prepare=False)
            else:
                marks = ", ".join(f"%s::{kind}" for kind in types)
                where = f" WHERE ({beside_parameters(key)}) > ({marks})"
                sql = beside_parameters(head) + where + beside_parameters(tail)
                found = self._target.rows(sql, after, prepare=False)
            if not found:
                return
            after = found[-1]
            yield self._codec.keys_from_pg(found)

    def count(self) -> int:
        return int(self._target.rows(f"SELECT count(*) FROM {full_name(self._plan)}")[0][0])
